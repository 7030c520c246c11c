"""The grid of measurements: trials of cells (a subnet at a batch size), and the estimates that follow from them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from profiler.confidence import (
    Interval,
    median_interval,
    percentile_interval,
    trial_deviation,
    trial_spread,
    widened,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from profiler.trial import Trial

THROTTLED_BELOW = 0.75
"""A clock below this share of the fastest observed one counts as throttled (nvbench's threshold)."""

_POLISHES = 10
_FULL_ROUND = 0.25
"""Rounds with less than this share of the trials of the largest round are left out of the drift."""

MIN_TRIALS = 3
"""The fewest trials from which their spread is estimated."""

_P99 = 0.99


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


class DeviceUse(NamedTuple):
    """How a batch of a cell uses its device, as far as the device tells.

    Attributes:
        busy_ns: The device time without the gaps in which the device waits for launches.
        energy_mj: The energy of a batch in millijoules, when batches follow one another.
    """

    busy_ns: float | None = None
    energy_mj: float | None = None


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
        p99: The 99th percentile of the wall clock and its interval; None if the samples are too few for it.
        samples_ns: The samples of the wall clock that were used, int64, shape (samples,), trial after trial.
        trials: The number of trials used.
        discarded: The number of trials not used: the device was throttled, or times were still falling.
    """

    status: CellStatus
    wall: Interval | None = None
    device: Interval | None = None
    p99: Interval | None = None
    samples_ns: npt.NDArray[np.int64] | None = None
    trials: int = 0
    discarded: int = 0


@dataclass(slots=True)
class _Row:
    """The trials of a cell, with what was computed of them: each trial is looked at once.

    Attributes:
        records: The trials.
        medians: Of the wall clock of each.
        deviation: Between them; None for one trial.
        pooled: Their estimate without the spread of other cells, and the fastest clock that it was made with.
    """

    records: list[TrialRecord] = field(default_factory=list[TrialRecord])
    medians: list[float] = field(default_factory=list[float])
    deviation: float | None = None
    pooled: tuple[float | None, _Pooled] | None = None

    def add(self, record: TrialRecord) -> None:
        self.records.append(record)
        self.medians.append(float(np.median(record.trial.wall_ns)))
        self.deviation = trial_deviation(self.medians) if len(self.medians) > 1 else None
        self.pooled = None


@dataclass(slots=True)
class Grid:
    """All measurements so far.

    Attributes:
        records: The trials, in the order in which they were made; new ones are appended.
        failed: The cells that can't be measured.
        use: How cells use the device.
    """

    records: list[TrialRecord] = field(default_factory=list[TrialRecord])
    failed: dict[Cell, CellStatus] = field(default_factory=dict[Cell, CellStatus])
    use: dict[Cell, DeviceUse] = field(default_factory=dict[Cell, DeviceUse])
    _rows: dict[Cell, _Row] = field(default_factory=dict[Cell, "_Row"], repr=False)
    _indexed: int = 0
    _fastest_mhz: float | None = None
    _spread: float = 0.0

    def _row(self, cell: Cell) -> _Row:
        self._index()
        return self._rows.get(cell) or _Row()

    def _index(self) -> None:
        if self._indexed == len(self.records):
            return
        for record in self.records[self._indexed :]:
            self._rows.setdefault(record.cell, _Row()).add(record)
            peak = record.state.peak_mhz
            self._fastest_mhz = max(self._fastest_mhz or 0, peak) if peak is not None else self._fastest_mhz
        self._indexed = len(self.records)
        self._spread = trial_spread(row.deviation for row in self._rows.values() if row.deviation is not None)

    def trials_of(self, cell: Cell) -> Sequence[TrialRecord]:
        """Return the trials of a cell."""
        return self._row(cell).records

    @property
    def fastest_mhz(self) -> float | None:
        """The fastest observed clock."""
        self._index()
        return self._fastest_mhz

    def estimate(self, cell: Cell, precision: float) -> CellEstimate:
        """Return the estimate of a cell.

        The time that this takes does not grow with the trials of other cells, since it is asked between two trials.

        Args:
            cell: The cell.
            precision: The largest relative half-width of its interval that counts as precise.
        """
        row, fastest = self._row(cell), self.fastest_mhz
        if cell in self.failed:
            return CellEstimate(self.failed[cell], trials=len(row.records))
        if not row.records:
            return CellEstimate(CellStatus.NOISY)
        if row.pooled is None or row.pooled[0] != fastest:
            row.pooled = fastest, _pooled(row, fastest)
        return row.pooled[1].estimate(precision, self.spread)

    @property
    def spread(self) -> float:
        """The typical relative standard deviation between trials of one cell."""
        self._index()
        return self._spread

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


@dataclass(frozen=True, slots=True, eq=False)
class _Pooled:
    """The estimate of a cell from its own trials, before the spread between trials of all cells widens its intervals.

    Attributes:
        wall: Of the wall clock.
        device: Of the device time.
        p99: The 99th percentile of the wall clock.
        samples_ns: The samples of the wall clock used.
        used: The number of trials used.
        discarded: The number of trials not used.
        throttled: Whether too few trials ran at the device's normal clock.
        settled: Whether the times of all trials used had stopped falling, and these are enough.
    """

    wall: Interval
    device: Interval | None
    p99: Interval | None
    samples_ns: npt.NDArray[np.int64]
    used: int
    discarded: int
    throttled: bool
    settled: bool

    def estimate(self, precision: float, spread: float) -> CellEstimate:
        wall, device, p99 = (part and widened(part, spread) for part in (self.wall, self.device, self.p99))
        status = CellStatus.NOISY
        if self.throttled:
            status = CellStatus.THROTTLED
        elif self.settled and wall is not None and wall.relative_half_width <= precision:
            status = CellStatus.OK
        return CellEstimate(status, wall, device, p99, self.samples_ns, self.used, self.discarded)


def _pooled(row: _Row, fastest_mhz: float | None) -> _Pooled:
    """Return the estimate of a cell from its trials.

    Trials with a throttled device, or whose times never stopped falling, are discarded if enough others are left.
    """
    everything = list(range(len(row.records)))
    unthrottled = [n for n in everything if not is_throttled(row.records[n].state, fastest_mhz)]
    settled = [n for n in unthrottled if row.records[n].trial.settled]
    enough = min(MIN_TRIALS, len(everything))
    used = next((subset for subset in (settled, unthrottled) if len(subset) >= enough), everything)
    trials = [row.records[n].trial for n in used]
    device_times = [trial.device_ns for trial in trials if trial.device_ns is not None]
    samples_ns = np.concatenate([trial.wall_ns for trial in trials])
    return _Pooled(
        wall=median_interval([trial.wall_ns for trial in trials], [row.medians[n] for n in used]),
        device=median_interval(device_times) if len(device_times) == len(trials) else None,
        p99=percentile_interval(samples_ns, _P99) if len(used) >= MIN_TRIALS else None,
        samples_ns=samples_ns,
        used=len(used),
        discarded=len(everything) - len(used),
        throttled=len(unthrottled) < enough,
        settled=used is settled and len(used) >= MIN_TRIALS,
    )


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
