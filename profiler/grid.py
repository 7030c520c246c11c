"""The grid of measurements: trials of cells (a subnet at a batch size), and the estimates that follow from them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from profiler.confidence import Interval, median_interval, trial_spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from profiler.trial import Trial

THROTTLED_BELOW = 0.75
"""A clock below this share of the fastest observed one counts as throttled (nvbench's threshold)."""

_POLISHES = 10
_FULL_ROUND = 0.25
"""Rounds with less than this share of the trials of the largest round are left out of the drift."""

MIN_TRIALS = 3
"""The fewest trials from which their spread is estimated."""


class CellStatus(StrEnum):
    """The quality of a cell's estimate."""

    OK = "ok"
    """The median is known to the requested precision."""
    NOISY = "noisy"
    """It is not: time or trials ran out."""
    THROTTLED = "throttled"
    """Too few trials ran at the device's normal clock."""
    OUT_OF_MEMORY = "out of memory"
    NOT_A_NUMBER = "not a number"
    """The subnet's result contains NaN or infinity, so that its time is meaningless."""
    NOT_COMPILED = "not compiled"
    """It would run uncompiled, in whole or in part."""


class Cell(NamedTuple):
    """One subnet at one batch size."""

    subnet: str
    batch_size: int


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The state of the device around a trial, as far as it is known.

    Attributes:
        clock_mhz: The slowest observed clock.
        peak_mhz: The fastest observed clock.
        temperature_c: The temperature in degrees Celsius.
        power_w: The power in watts.
        throttled_by: The reasons for slower clocks that the device reports; empty for none.
        max_mhz: The fastest clock that the device is made for.
        other_processes: The number of other processes on the device.
    """

    clock_mhz: float | None = None
    peak_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttled_by: tuple[str, ...] = ()
    max_mhz: float | None = None
    other_processes: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrialRecord:
    """One trial of a cell and its circumstances.

    Attributes:
        cell: The cell.
        round: The round of the schedule, from 0.
        trial: The samples.
        state: The state of the device.
    """

    cell: Cell
    round: int
    trial: Trial
    state: DeviceState = DeviceState()


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """The estimated latency of a cell.

    Attributes:
        status: The quality of the estimate.
        wall: The median of the wall clock and its interval, in nanoseconds; None without a trial.
        device: Likewise, of the device time.
        p99_ns: The 99th percentile of the wall clock.
        samples: The number of samples used.
        trials: The number of trials used.
        discarded: The number of trials not used: the device was throttled, or times were still falling.
    """

    status: CellStatus
    wall: Interval | None = None
    device: Interval | None = None
    p99_ns: float | None = None
    samples: int = 0
    trials: int = 0
    discarded: int = 0


@dataclass(slots=True)
class Grid:
    """All measurements so far.

    Attributes:
        records: The trials, in the order in which they were made.
        failed: The cells that can't be measured.
    """

    records: list[TrialRecord] = field(default_factory=list[TrialRecord])
    failed: dict[Cell, CellStatus] = field(default_factory=dict[Cell, CellStatus])
    _spread: tuple[int, float] = (0, 0.0)  # of this many records

    def trials_of(self, cell: Cell) -> list[TrialRecord]:
        """Return the trials of a cell."""
        return [record for record in self.records if record.cell == cell]

    @property
    def fastest_mhz(self) -> float | None:
        """The fastest observed clock."""
        return max((r.state.peak_mhz for r in self.records if r.state.peak_mhz is not None), default=None)

    def estimate(self, cell: Cell, precision: float) -> CellEstimate:
        """Return the estimate of a cell.

        Args:
            cell: The cell.
            precision: The largest relative half-width of its interval that counts as precise.
        """
        if cell in self.failed:
            return CellEstimate(self.failed[cell], trials=len(self.trials_of(cell)))
        return estimate_cell(self.trials_of(cell), precision, self.fastest_mhz, self.spread)

    @property
    def spread(self) -> float:
        """The typical relative standard deviation between trials of one cell."""
        if self._spread[0] != len(self.records):
            trials: dict[Cell, list[npt.NDArray[np.int64]]] = {}
            for record in self.records:
                trials.setdefault(record.cell, []).append(record.trial.wall_ns)
            self._spread = (len(self.records), trial_spread(trials.values()))
        return self._spread[1]

    def drift(self) -> dict[int, float]:
        """Return the slow-down of each round relative to the first, corrected for its cells: 0.02 is 2 percent.

        The time of a trial is modelled as the time of its cell times the slow-down of its round. Both are estimated by
        medians in turn (Tukey's median polish), which is robust to single outliers. Rounds of few trials are left out.
        """
        trials = Counter(record.round for record in self.records)
        enough = max(trials.values(), default=0) * _FULL_ROUND
        counted = [record for record in self.records if trials[record.round] >= enough]
        times = {(r.cell, r.round): math.log(float(np.median(r.trial.wall_ns))) for r in counted}
        of_cell = dict.fromkeys((cell for cell, _ in times), 0.0)
        of_round = dict.fromkeys((number for _, number in times), 0.0)
        for _ in range(_POLISHES):
            for cell in of_cell:
                of_cell[cell] = float(np.median([t - of_round[n] for (c, n), t in times.items() if c == cell]))
            for number in of_round:
                of_round[number] = float(np.median([t - of_cell[c] for (c, n), t in times.items() if n == number]))
        first = of_round[min(of_round)] if of_round else 0.0
        return {number: math.exp(value - first) - 1 for number, value in sorted(of_round.items())}


def estimate_cell(
    records: Iterable[TrialRecord], precision: float, fastest_mhz: float | None = None, spread: float = 0.0
) -> CellEstimate:
    """Return the estimate of a cell from its trials.

    Trials with a throttled device, or whose times never stopped falling, are discarded if enough others are left.

    Args:
        records: The trials.
        precision: The largest relative half-width of the interval that counts as precise.
        fastest_mhz: The fastest clock of the device that was observed in any trial.
        spread: The typical relative standard deviation between trials of one cell.
    """
    all_records = list(records)
    if not all_records:
        return CellEstimate(CellStatus.NOISY)
    unthrottled = [record for record in all_records if not is_throttled(record.state, fastest_mhz)]
    settled = [record for record in unthrottled if record.trial.settled]
    enough = min(MIN_TRIALS, len(all_records))
    used = next((subset for subset in (settled, unthrottled) if len(subset) >= enough), all_records)
    wall = median_interval([record.trial.wall_ns for record in used], spread)
    times = [record.trial.device_ns for record in used]
    has_device_times = all(time is not None for time in times)
    device = median_interval([time for time in times if time is not None], spread) if has_device_times else None
    samples = np.concatenate([record.trial.wall_ns for record in used])
    is_precise = len(used) >= MIN_TRIALS and used is settled and wall.relative_half_width <= precision
    status = CellStatus.OK if is_precise else CellStatus.NOISY
    if len(unthrottled) < enough:
        status = CellStatus.THROTTLED
    p99 = float(np.quantile(samples, 0.99))
    return CellEstimate(status, wall, device, p99, len(samples), len(used), len(all_records) - len(used))


def is_throttled(state: DeviceState, fastest_mhz: float | None) -> bool:
    """Return whether the device was slowed by heat or a fault, or its clock was far below the fastest observed one.

    A power cap counts by the clock: many devices run at their cap whenever they are busy.
    """
    slowed = state.clock_mhz is not None and fastest_mhz is not None and state.clock_mhz < THROTTLED_BELOW * fastest_mhz
    return slowed or any(reason != "power" for reason in state.throttled_by)


def grid_cells(subnets: Iterable[str], batch_sizes: Iterable[int]) -> list[Cell]:
    """Return all cells of subnets and batch sizes."""
    sizes = list(batch_sizes)
    return [Cell(subnet, size) for subnet in subnets for size in sizes]


def count_statuses(estimates: Mapping[Cell, CellEstimate]) -> dict[CellStatus, int]:
    """Return the number of cells of each status, without statuses of no cell."""
    counts = Counter(estimate.status for estimate in estimates.values())
    return {status: counts[status] for status in CellStatus if counts[status]}
