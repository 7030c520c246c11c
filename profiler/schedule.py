"""Which cell is visited next: all in turn, in random order, again and again; then those in doubt, while time is left.

Visits to a cell are spread over the whole time, between visits to others. So a machine that warms up or gets busy shows
as drift of all cells, and is not mistaken for a difference between two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from profiler.grid import MIN_TRIALS, Cell, CellStatus, DeviceState, Grid, TrialRecord
from profiler.trial import TrialLimits, visit
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
    """The result of a subnet has NaN or infinity."""


class DeviceError(SsimError):
    """The device is not there, or no longer."""


class Meter(Protocol):
    """A device that runs cells; what it knows of time is its own."""

    def prepare(self, cell: Cell) -> Callable[[], Sample]:
        """Return a call that runs a cell once and tells how long it took.

        Raises:
            CellError: This cell can't be measured.
            DeviceError: None can, any more.
        """
        ...

    def device_state(self) -> DeviceState:
        """Return the state of the device."""
        ...

    def now_ns(self) -> int:
        """Return the time."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is to be measured, and how well.

    Attributes:
        cells: The cells.
        seed: Of the order of visits.
        precision: The relative half-width that the interval of a cell's median is to have, at most.
        min_duration_ns: For this long, all cells are visited in turn, be they known or not.
        budget_ns: No visit begins after this long; None for no limit.
        max_trials: To one cell, at most.
        rule: What a visit is.
    """

    cells: tuple[Cell, ...]
    seed: int = 0
    precision: float = 0.02
    min_duration_ns: int = 0
    budget_ns: int | None = None
    max_trials: int = 20
    rule: TrialLimits = field(default_factory=TrialLimits)

    def run(
        self,
        meter: Meter,
        grid: Grid,
        on_record: Callable[[TrialRecord], None] = lambda _record: None,
        on_failure: Callable[[Cell, CellError], None] = lambda _cell, _error: None,
    ) -> None:
        """Measure until every cell is known to the precision, or can't be, or time or patience runs out.

        Args:
            meter: The device.
            grid: In: what was measured before, in an earlier call that was interrupted. Out: all that was measured.
            on_record: Told each visit.
            on_failure: Told each cell that can't be measured.

        Raises:
            DeviceError: The device was lost; the grid has what was measured before.
        """
        begin = meter.now_ns()
        number = max((record.round for record in grid.records), default=-1) + 1
        while wanted := self.wanted(grid, early=meter.now_ns() - begin < self.min_duration_ns):
            stream(self.seed, "profile.order", number).shuffle(wanted)
            for cell in wanted:
                if self.budget_ns is not None and meter.now_ns() - begin >= self.budget_ns:
                    return
                try:
                    before = meter.device_state()
                    found = visit(meter.prepare(cell), self.rule)
                except CellError as error:
                    grid.failed[cell] = error.status
                    on_failure(cell, error)
                    continue
                grid.records.append(TrialRecord(cell, number, found, worst_state(before, meter.device_state())))
                on_record(grid.records[-1])
            number += 1

    def ahead(self, grid: Grid) -> tuple[int, int]:
        """Return how many visits are still to come, as far as can be foreseen, and how many cells are in doubt.

        A cell in doubt gets the visits that every cell gets; of those that come after, one is foreseen.
        """
        open_ = [cell for cell in self.cells if cell not in grid.failed]
        visits = {cell: len(grid.trials_of(cell)) for cell in open_}
        doubtful = [
            cell
            for cell in open_
            if visits[cell] < self.max_trials and _doubt(grid, cell, self.precision) > self.precision
        ]
        return sum(max(1, MIN_TRIALS - visits[cell]) for cell in doubtful), len(doubtful)

    def wanted(self, grid: Grid, *, early: bool) -> list[Cell]:
        """Return the cells of the next round: those with the fewest visits, and later the half most in doubt.

        Args:
            grid: What was measured so far.
            early: Whether it is too early to trust in what is known.
        """
        open_ = [cell for cell in self.cells if cell not in grid.failed]
        visits = {cell: len(grid.trials_of(cell)) for cell in open_}
        fewest = min(visits.values(), default=0)
        if fewest < MIN_TRIALS:
            return [cell for cell in open_ if visits[cell] == fewest]
        if early:
            return open_
        doubts = {cell: _doubt(grid, cell, self.precision) for cell in open_ if visits[cell] < self.max_trials}
        unsure = sorted((cell for cell, doubt in doubts.items() if doubt > self.precision), key=lambda c: -doubts[c])
        return unsure[: max(1, (len(unsure) + 1) // 2)]


def _doubt(grid: Grid, cell: Cell, precision: float) -> float:
    found = grid.estimate(cell, precision)
    if found.status is CellStatus.OK:
        return 0.0
    if found.wall is None:
        return float("inf")  # not visited yet
    # A throttled cell is in doubt however alike its samples are.
    return float("inf") if found.status is CellStatus.THROTTLED else found.wall.relative_half_width


def worst_state(before: DeviceState, after: DeviceState) -> DeviceState:
    """Return the condition of a visit: the slower clock, the higher temperature and power, all reasons to be slow."""
    return DeviceState(
        _of(min, before.clock_mhz, after.clock_mhz),
        _of(max, before.peak_mhz, after.peak_mhz),
        _of(max, before.temperature_c, after.temperature_c),
        _of(max, before.power_w, after.power_w),
        tuple(dict.fromkeys((*before.throttled_by, *after.throttled_by))),
    )


def _of(choose: Callable[[Sequence[float]], float], *values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None
