"""The measurement schedule: all cells in random order, round after round; then the least certain, while time is left.

Trials of a cell are spread over the whole time, between trials of other cells. So a machine that warms up or gets busy
shows as drift of all cells, and not as a difference between two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from profiler.grid import MIN_TRIALS, Cell, CellStatus, DeviceState, DeviceUse, Grid, TrialRecord
from profiler.trial import TrialLimits, run_trial
from sim.base.errors import SsimError
from sim.base.streams import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from profiler.trial import Sample


class CellError(SsimError):
    """One cell can't be measured; the others can."""

    status = CellStatus.NOT_A_NUMBER


class OutOfMemoryError(CellError):
    """A batch does not fit into the memory of the device."""

    status = CellStatus.OUT_OF_MEMORY


class NotANumberError(CellError):
    """The result of a subnet contains NaN or infinity."""


class NotCompiledError(CellError):
    """A subnet would run uncompiled, in whole or in part, where it should be compiled."""

    status = CellStatus.NOT_COMPILED


class DeviceError(SsimError):
    """The device is missing, or was lost."""


class Meter(Protocol):
    """A device that runs cells and measures time."""

    def prepare(self, cell: Cell) -> Callable[[], Sample]:
        """Return a call that runs a cell once and returns its time.

        Raises:
            CellError: This cell can't be measured.
            DeviceError: The device was lost.
        """
        ...

    def device_state(self) -> DeviceState:
        """Return the state of the device."""
        ...

    def device_use(self, cell: Cell) -> DeviceUse:
        """Return how a cell uses the device; it is asked once for each cell, right after a trial of it."""
        ...

    def now_ns(self) -> int:
        """Return the current time."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """The cells to measure, and when to stop.

    Attributes:
        cells: The cells.
        seed: Of the order of trials.
        precision: The relative half-width of the confidence interval of a cell's median at which the cell is done.
        min_duration_ns: For this time, every round contains all cells.
        budget_ns: No trial begins after this time; None for no limit.
        max_trials: The most trials of a cell.
        limits: Of each trial.
    """

    cells: tuple[Cell, ...]
    seed: int = 0
    precision: float = 0.02
    min_duration_ns: int = 0
    budget_ns: int | None = None
    max_trials: int = 20
    limits: TrialLimits = field(default_factory=TrialLimits)

    def run(
        self,
        meter: Meter,
        grid: Grid,
        on_record: Callable[[TrialRecord], None] = lambda _record: None,
        on_failure: Callable[[Cell, CellError], None] = lambda _cell, _error: None,
        on_use: Callable[[Cell, DeviceUse], None] = lambda _cell, _use: None,
    ) -> None:
        """Measure until each cell is known to the precision or has failed, or a limit is reached.

        Args:
            meter: The device.
            grid: The measurements of an earlier, interrupted call; the new ones are appended.
            on_record: Called after each trial.
            on_failure: Called for each cell that can't be measured.
            on_use: Called for each cell whose use of the device is known.

        Raises:
            DeviceError: The device was lost; the grid contains all measurements before.
        """
        begin = meter.now_ns()
        number = max((record.round for record in grid.records), default=-1) + 1
        while cells := self.next_round(grid, early=meter.now_ns() - begin < self.min_duration_ns):
            stream(self.seed, "profile.order", number).shuffle(cells)
            for cell in cells:
                if self.budget_ns is not None and meter.now_ns() - begin >= self.budget_ns:
                    return
                try:
                    idle = meter.device_state()
                    trial, warm = run_trial(meter.prepare(cell), self.limits, meter.device_state)
                except CellError as error:
                    grid.failed[cell] = error.status
                    on_failure(cell, error)
                    continue
                # An idle device has a low clock without being throttled, so that of its clocks only the peak counts.
                state = worst_state(replace(idle, clock_mhz=warm.clock_mhz), worst_state(warm, meter.device_state()))
                grid.records.append(TrialRecord(cell, number, trial, state))
                on_record(grid.records[-1])
                if cell not in grid.use:
                    grid.use[cell] = meter.device_use(cell)
                    on_use(cell, grid.use[cell])
            number += 1

    def remaining(self, grid: Grid) -> tuple[int, int]:
        """Return the expected number of further trials, and the number of cells that are not yet certain.

        An uncertain cell gets the trials that every cell gets, and at least one.
        """
        trials = self._trials(grid)
        uncertain = [
            cell
            for cell, count in trials.items()
            if count < self.max_trials and _uncertainty(grid, cell, self.precision) > self.precision
        ]
        return sum(max(1, MIN_TRIALS - trials[cell]) for cell in uncertain), len(uncertain)

    def next_round(self, grid: Grid, *, early: bool) -> list[Cell]:
        """Return the cells of the next round: those with the fewest trials, and later the less certain half.

        Args:
            grid: The measurements so far.
            early: Whether the round contains all cells, however certain.
        """
        trials = self._trials(grid)
        fewest = min(trials.values(), default=0)
        if fewest < MIN_TRIALS:
            return [cell for cell, count in trials.items() if count == fewest]
        if early:
            return list(trials)
        uncertainty = {
            cell: _uncertainty(grid, cell, self.precision) for cell, count in trials.items() if count < self.max_trials
        }
        uncertain = sorted(
            (c for c, width in uncertainty.items() if width > self.precision), key=lambda c: -uncertainty[c]
        )
        return uncertain[: max(1, (len(uncertain) + 1) // 2)]

    def _trials(self, grid: Grid) -> dict[Cell, int]:
        """Return the number of trials of each cell that has not failed."""
        return {cell: len(grid.trials_of(cell)) for cell in self.cells if cell not in grid.failed}


def _uncertainty(grid: Grid, cell: Cell, precision: float) -> float:
    estimate = grid.estimate(cell, precision)
    if estimate.status is CellStatus.OK:
        return 0.0
    if estimate.wall is None:
        return float("inf")  # no trial yet
    # The samples of a throttled cell may agree, and still do not count.
    return float("inf") if estimate.status is CellStatus.THROTTLED else estimate.wall.relative_half_width


def worst_state(before: DeviceState, after: DeviceState) -> DeviceState:
    """Return the state for a trial: the slower clock and the higher temperature and power, the signs of slow-down."""
    return DeviceState(
        _of(min, before.clock_mhz, after.clock_mhz),
        _of(max, before.peak_mhz, after.peak_mhz),
        _of(max, before.temperature_c, after.temperature_c),
        _of(max, before.power_w, after.power_w),
        tuple(dict.fromkeys((*before.throttled_by, *after.throttled_by))),
        _of(max, before.max_mhz, after.max_mhz),
        _of(max, before.other_processes, after.other_processes),
    )


def _of(choose: Callable[[Sequence[float]], float], *values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None
