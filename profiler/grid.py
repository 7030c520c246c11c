"""What was measured: visits to the cells of the grid of subnets and batch sizes, and what they amount to."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from profiler.confidence import Interval, median_interval, spread_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from profiler.trial import Trial

THROTTLED_BELOW = 0.75
"""A clock below this share of the fastest one seen is a throttled one (nvbench's threshold)."""

_POLISHES = 10
_WHOLE_ROUND = 0.25
"""A round of fewer visits than this share of the largest says nothing of drift."""

MIN_TRIALS = 3
"""With fewer visits nothing is said of their spread."""


class CellStatus(StrEnum):
    """What may be believed of a cell."""

    OK = "ok"
    """Its median is known to the precision that was asked for."""
    NOISY = "noisy"
    """It is not: time or patience ran out."""
    THROTTLED = "throttled"
    """Too few visits found the device at its own speed."""
    OUT_OF_MEMORY = "out of memory"
    NOT_A_NUMBER = "not a number"
    """The subnet's result has NaN or infinity: what it took says nothing."""


class Cell(NamedTuple):
    """One subnet at one batch size."""

    subnet: str
    batch_size: int


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The state of the device around a visit, as far as it tells.

    Attributes:
        clock_mhz: The slowest clock of its processors that was seen.
        peak_mhz: The fastest.
        temperature_c: Its temperature in degrees Celsius.
        power_w: The power that it draws in watts.
        throttled_by: Why it says that it is slowed down; empty if it does not.
    """

    clock_mhz: float | None = None
    peak_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttled_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TrialRecord:
    """One visit to a cell.

    Attributes:
        cell: Where.
        round: In which round of visits, from 0.
        visit: The samples.
        condition: The state of the device.
    """

    cell: Cell
    round: int
    visit: Trial
    condition: DeviceState = DeviceState()


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """What is known of a cell.

    Attributes:
        status: What may be believed of it.
        wall: The median of the wall clock and its interval, in nanoseconds; None where there is none.
        device: Likewise, of the device's own time.
        p99_ns: The 99th percentile of the wall clock.
        samples: How many samples these come from.
        visits: In how many visits they were taken.
        discarded: Visits that do not count: the device was throttled, or times were still falling.
    """

    status: CellStatus
    wall: Interval | None = None
    device: Interval | None = None
    p99_ns: float | None = None
    samples: int = 0
    visits: int = 0
    discarded: int = 0


@dataclass(slots=True)
class Grid:
    """All that was measured so far.

    Attributes:
        records: The visits, as they were made.
        failed: Cells that can't be measured, and why.
    """

    records: list[TrialRecord] = field(default_factory=list[TrialRecord])
    failed: dict[Cell, CellStatus] = field(default_factory=dict[Cell, CellStatus])
    _spread: tuple[int, float] = (0, 0.0)  # of so many records

    def trials_of(self, cell: Cell) -> list[TrialRecord]:
        """Return the visits to a cell."""
        return [record for record in self.records if record.cell == cell]

    @property
    def fastest_mhz(self) -> float | None:
        """The fastest clock that was seen."""
        return max((r.state.peak_mhz for r in self.records if r.state.peak_mhz is not None), default=None)

    def measured(self, cell: Cell, precision: float) -> CellEstimate:
        """Return what is known of a cell.

        Args:
            cell: The cell.
            precision: How large the relative doubt of its median may be.
        """
        if cell in self.failed:
            return CellEstimate(self.failed[cell], visits=len(self.trials_of(cell)))
        return estimate_cell(self.trials_of(cell), precision, self.fastest_mhz, self.spread)

    @property
    def spread(self) -> float:
        """How much visits to one cell differ, usually: their relative standard deviation, the median over all cells."""
        if self._spread[0] != len(self.records):
            visits: dict[Cell, list[npt.NDArray[np.int64]]] = {}
            for record in self.records:
                visits.setdefault(record.cell, []).append(record.trial.wall_ns)
            self._spread = (len(self.records), spread_of(visits.values()))
        return self._spread[1]

    def drift(self) -> dict[int, float]:
        """Return by round how much slower it was than the first, whatever cells it visited: 0.02 is 2 percent.

        The time of a visit is taken as that of its cell times that of its round, and both are found by medians in turn
        (Tukey's median polish), so that one odd visit says nothing. Rounds of a few visits are left out.
        """
        visits = Counter(record.round for record in self.records)
        enough = max(visits.values(), default=0) * _WHOLE_ROUND
        counted = [record for record in self.records if visits[record.round] >= enough]
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
    """Return what the visits to one cell amount to.

    Visits that found the device throttled, or in which times never stopped falling, are left out if enough others are
    left.

    Args:
        records: The visits.
        precision: How large the relative doubt of the median may be.
        fastest_mhz: The fastest clock of the device that was seen anywhere.
        spread: The usual relative standard deviation of visits to one cell.
    """
    everything = list(records)
    if not everything:
        return CellEstimate(CellStatus.NOISY)
    own_speed = [record for record in everything if not is_throttled(record.state, fastest_mhz)]
    settled = [record for record in own_speed if record.trial.settled]
    least = min(MIN_TRIALS, len(everything))
    used = next((some for some in (settled, own_speed) if len(some) >= least), everything)
    wall = median_interval([record.trial.wall_ns for record in used], spread)
    own = [record.trial.device_ns for record in used]
    device = None if any(times is None for times in own) else median_interval([t for t in own if t is not None], spread)
    samples = _joined(used)
    sure = len(used) >= MIN_TRIALS and used is settled and wall.relative_half_width <= precision
    status = CellStatus.THROTTLED if len(own_speed) < least else CellStatus.OK if sure else CellStatus.NOISY
    p99 = float(np.quantile(samples, 0.99))
    return CellEstimate(status, wall, device, p99, len(samples), len(used), len(everything) - len(used))


def is_throttled(condition: DeviceState, fastest_mhz: float | None) -> bool:
    """Return whether a device was slowed down: it says so, or its clock was far below the fastest one seen."""
    slowed = (
        condition.clock_mhz is not None
        and fastest_mhz is not None
        and condition.clock_mhz < THROTTLED_BELOW * fastest_mhz
    )
    return bool(condition.throttled_by) or slowed


def _joined(records: Iterable[TrialRecord]) -> npt.NDArray[np.int64]:
    return np.concatenate([record.trial.wall_ns for record in records])


def grid_cells(subnets: Iterable[str], batch_sizes: Iterable[int]) -> list[Cell]:
    """Return all cells of a grid."""
    sizes = list(batch_sizes)
    return [Cell(subnet, size) for subnet in subnets for size in sizes]


def count_statuses(found: Mapping[Cell, CellEstimate]) -> dict[CellStatus, int]:
    """Return how many cells have each status, those with none left out."""
    counts = {status: sum(one.status is status for one in found.values()) for status in CellStatus}
    return {status: count for status, count in counts.items() if count}
