"""The logic of measuring, on simulated devices whose latencies, drift, outliers and throttling are known."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.confidence import (
    FEWEST_FOR_P99,
    median_interval,
    percentile_interval,
    trial_deviation,
    trial_spread,
    widened,
)
from profiler.grid import Cell, CellStatus, DeviceState, DeviceUse, Grid, TrialRecord, grid_cells, is_throttled
from profiler.report import warnings
from profiler.schedule import CellError, DeviceError, NotANumberError, OutOfMemoryError, Schedule
from profiler.trial import Sample, Trial, TrialLimits, run_trial

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000
LATENCY = {Cell(name, size): int((2 + 3 * n) * size**0.8 * MS) for n, name in enumerate("abc") for size in (1, 4, 16)}


@dataclass
class Device:
    """A simulated device: its clock goes by what it runs, and by nothing else."""

    noise: float = 0.01
    cold: float = 0.0
    """How much slower the first run after a change of cell is; it halves with each run."""
    drift_per_s: float = 0.0
    outliers: float = 0.0
    clock: Callable[[int], float] = lambda _now: 1500.0
    fail: dict[Cell, CellError] = field(default_factory=dict)
    lost_at_ns: int | None = None
    now: int = 0
    log: list[Cell] = field(default_factory=list)
    used: list[Cell] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def prepare(self, cell: Cell) -> Callable[[], Sample]:
        if cell in self.fail:
            raise self.fail[cell]
        self.log.append(cell)
        runs = 0

        def run() -> Sample:
            nonlocal runs
            if self.lost_at_ns is not None and self.now >= self.lost_at_ns:
                raise DeviceError("gpu 0", "was lost")
            slower = 1 + self.cold * 0.5**runs + self.drift_per_s * self.now / 1e9
            slower *= 1500 / self.clock(self.now) * self.rng.lognormal(0, self.noise)
            if self.rng.random() < self.outliers:
                slower *= 1 + 5 * self.rng.random()
            runs += 1
            took = round(LATENCY[cell] * slower)
            self.now += took
            return Sample(took, round(took * 0.9))

        return run

    def device_state(self) -> DeviceState:
        return DeviceState(self.clock(self.now), self.clock(self.now))

    def device_use(self, cell: Cell) -> DeviceUse:
        self.used.append(cell)
        return DeviceUse(0.8 * LATENCY[cell])

    def now_ns(self) -> int:
        return self.now


CELLS = tuple(LATENCY)


def measured(device: Device, **changes: object) -> Grid:
    grid = Grid()
    Schedule(CELLS, **changes).run(device, grid)
    return grid


def test_planted_medians_are_found_to_one_percent() -> None:
    grid = measured(Device())
    for cell, planted in LATENCY.items():
        found = grid.estimate(cell, 0.02)
        assert found.status is CellStatus.OK
        assert found.wall.median == pytest.approx(planted, rel=0.01)
        assert found.wall.low <= planted <= found.wall.high or found.wall.relative_half_width < 0.01
        assert found.device.median == pytest.approx(0.9 * planted, rel=0.01)


@pytest.mark.parametrize("outliers", [0.05, 0.15])
def test_outliers_do_not_move_medians(outliers: float) -> None:
    grid = measured(Device(outliers=outliers))
    for cell, planted in LATENCY.items():
        assert grid.estimate(cell, 0.02).wall.median == pytest.approx(planted, rel=0.01)
    slowest = [np.quantile(grid.estimate(cell, 0.02).samples_ns, 0.99) / planted for cell, planted in LATENCY.items()]
    assert np.median(slowest) > 1.2, "they are in the tail, not in the median"


def test_slow_first_runs_are_warm_up_however_many_there_are() -> None:
    for cold in (0.5, 4.0, 50.0):
        grid = measured(Device(cold=cold))
        for cell, planted in LATENCY.items():
            assert grid.estimate(cell, 0.02).wall.median == pytest.approx(planted, rel=0.01)
    calm = min(record.trial.warmups for record in measured(Device()).records)
    assert all(record.trial.warmups > calm for record in measured(Device(cold=50.0)).records)


def test_drift_is_seen_and_not_mistaken_for_a_difference() -> None:
    device = Device(drift_per_s=0.004)
    grid = measured(device, precision=0.001, max_trials=6)
    drift = list(grid.drift().values())[:7]  # later rounds visit few cells
    assert drift == pytest.approx(np.linspace(0, drift[-1], 7), abs=0.02)
    assert drift[-1] > 0.05
    one = grid.estimate(CELLS[0], 0.001).wall.median / LATENCY[CELLS[0]]
    for cell in CELLS:  # each is as much too slow as the others
        assert grid.estimate(cell, 0.001).wall.median / LATENCY[cell] == pytest.approx(one, rel=0.03)
    assert abs(list(measured(Device()).drift().values())[-1]) < 0.005


def test_an_interval_of_drifting_trials_is_wider_than_that_of_their_samples() -> None:
    rng = np.random.default_rng(0)
    trials = [(rng.normal(1e6 * (1 + 0.05 * n), 1e3, 50)).astype(np.int64) for n in range(4)]
    same = [(rng.normal(1e6, 1e3, 50)).astype(np.int64) for _ in range(4)]
    assert median_interval(trials).relative_half_width > 0.05
    assert median_interval(same).relative_half_width < 0.002


def test_noise_beyond_the_precision_is_a_verdict_and_ends() -> None:
    grid = measured(Device(noise=0.5), precision=0.01, max_trials=5)
    found = [grid.estimate(cell, 0.01) for cell in CELLS]
    assert {estimate.status for estimate in found} == {CellStatus.NOISY}
    assert {estimate.trials for estimate in found} == {5}


def test_throttled_trials_do_not_count_if_others_are_there() -> None:
    # Slow from 2 to 4 seconds, then fast again.
    device = Device(clock=lambda now: 900.0 if 2e9 < now < 4e9 else 1500.0)
    grid = measured(device, precision=0.005)
    assert any(grid.estimate(cell, 0.005).discarded for cell in CELLS)
    for cell, planted in LATENCY.items():
        found = grid.estimate(cell, 0.005)
        assert found.status is CellStatus.OK
        assert found.wall.median == pytest.approx(planted, rel=0.01)


def test_a_device_that_stays_slow_is_called_throttled() -> None:
    grid = measured(Device(clock=lambda now: 1500.0 if now < 1e8 else 900.0), max_trials=5)
    count_statuses = {grid.estimate(cell, 0.02).status for cell in CELLS}
    assert count_statuses == {CellStatus.THROTTLED}


def test_a_cell_that_fails_is_marked_and_the_rest_goes_on() -> None:
    told = []
    fail = {
        Cell("c", 16): OutOfMemoryError("c at 16", "does not fit"),
        Cell("a", 1): NotANumberError("a at 1", "gives NaN"),
    }
    grid = Grid()
    Schedule(CELLS).run(Device(fail=fail), grid, on_failure=lambda cell, _: told.append(cell))
    assert set(told) == set(fail)
    assert grid.estimate(Cell("c", 16), 0.02).status is CellStatus.OUT_OF_MEMORY
    assert grid.estimate(Cell("a", 1), 0.02).status is CellStatus.NOT_A_NUMBER
    others = [cell for cell in CELLS if cell not in fail]
    assert {grid.estimate(cell, 0.02).status for cell in others} == {CellStatus.OK}


def test_a_lost_device_leaves_what_was_measured_and_the_rest_is_measured_later() -> None:
    grid = Grid()
    with pytest.raises(DeviceError, match="was lost"):
        Schedule(CELLS).run(Device(lost_at_ns=2 * 10**9), grid)
    before = len(grid.records)
    assert 0 < before < 3 * len(CELLS)
    Schedule(CELLS).run(Device(), grid)
    assert {grid.estimate(cell, 0.02).status for cell in CELLS} == {CellStatus.OK}
    rounds = [record.round for record in grid.records]
    assert rounds == sorted(rounds)


def test_trials_are_interleaved_in_an_order_that_the_seed_decides() -> None:
    orders = []
    for seed in (0, 0, 1):
        device = Device()
        measured(device, seed=seed)
        first, second = device.log[: len(CELLS)], device.log[len(CELLS) : 2 * len(CELLS)]
        assert sorted(first) == sorted(second) == sorted(CELLS)
        assert first != second
        orders.append(device.log)
    assert orders[0] == orders[1] != orders[2]


def test_a_budget_is_kept_and_spent_where_the_uncertainty_is_largest() -> None:
    noisy = Cell("a", 1)

    class Uneven(Device):
        def prepare(self, cell: Cell) -> Callable[[], Sample]:
            run = super().prepare(cell)
            self.noise = 0.3 if cell == noisy else 0.003
            return run

    device = Uneven()
    grid = measured(device, precision=0.005, budget_ns=20 * 10**9, max_trials=100)
    longest = max(record.trial.wall_ns.sum() for record in grid.records)
    assert device.now < 20 * 10**9 + 3 * longest
    trials = {cell: len(grid.trials_of(cell)) for cell in CELLS}
    assert trials[noisy] == max(trials.values()) > 3 * sorted(trials.values())[len(CELLS) // 2]


def test_a_budget_that_is_used_up_still_ends_in_order() -> None:
    grid = measured(Device(), budget_ns=10**9)
    assert len(grid.records) < len(CELLS)
    assert grid.estimate(CELLS[0], 0.02).status is CellStatus.NOISY


def test_two_schedules_on_one_device_overlap_nearly_everywhere() -> None:
    cells = overlaps = 0
    for seed in range(12):
        device = Device(noise=0.05, outliers=0.05, rng=np.random.default_rng(seed))
        first, second = measured(device), measured(device)
        for cell in CELLS:
            cells += 1
            overlaps += first.estimate(cell, 0.02).wall.overlaps(second.estimate(cell, 0.02).wall)
    assert overlaps / cells >= 0.95


def test_an_interval_covers_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        trials = [(rng.lognormal(0, 0.3, 12) * 1e6).astype(np.int64) for _ in range(4)]
        found = median_interval(trials)
        covered += found.low <= 1e6 <= found.high
    assert covered / 400 >= 0.95


def test_too_few_samples_have_no_interval() -> None:
    assert median_interval([np.array([5])]).relative_half_width == math.inf
    assert median_interval([np.arange(1, 100)]).relative_half_width == math.inf, (
        "one trial says nothing of their spread"
    )
    assert median_interval([np.array([5, 6]), np.array([5])]).relative_half_width == math.inf


def test_a_trial_that_never_settles_ends_and_says_so() -> None:
    took = iter(range(10**6, 0, -1))

    def run() -> Sample:
        return Sample(next(took) * 100)

    found, state = run_trial(run, TrialLimits(max_warmup_ns=10**8), lambda: next(took))
    assert state == 10**6 - found.warmups, "the state is read between warm-up and sampling"
    assert not found.settled
    assert found.device_ns is None
    assert len(found.wall_ns) >= 8


def test_a_power_cap_counts_by_the_clock() -> None:
    capped = DeviceState(1400.0, 1400.0, throttled_by=("power",))
    assert not is_throttled(capped, 1500.0)
    assert is_throttled(replace(capped, clock_mhz=1000.0), 1500.0)
    assert is_throttled(DeviceState(1500.0, 1500.0, throttled_by=("thermal",)), 1500.0)


@given(count=st.integers(1, 400))
def test_ranks_enclose_the_median_with_the_confidence_that_they_claim(count: int) -> None:
    trials = [np.arange(count), np.arange(count)]
    found = median_interval(trials)
    tails = np.cumsum([math.comb(2 * count, k) / 4**count for k in range(count)])
    below = int(np.count_nonzero(tails <= 0.025)) - 1
    if below < 0:
        assert found.low == -math.inf
    else:
        assert found.low <= np.sort(np.concatenate(trials))[below]


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_percentile_is_in_its_interval_as_often_as_it_says(share: float) -> None:
    rng, count = np.random.default_rng(1), 600
    true = math.exp(0.3 * {0.5: 0.0, 0.99: 2.3263}[share])
    covered = 0
    for _ in range(400):
        found = percentile_interval((rng.lognormal(0, 0.3, count) * 1e9).astype(np.int64), share)
        covered += found.low <= true * 1e9 <= found.high
    assert covered / 400 >= 0.94


def test_the_99th_percentile_is_left_out_where_samples_are_too_few_for_it() -> None:
    samples = np.arange(1, FEWEST_FOR_P99 + 1)
    assert percentile_interval(samples[1:], 0.99) is None
    assert percentile_interval(samples, 0.99).high == FEWEST_FOR_P99 == 368, "the largest"
    few, many = measured(Device()), measured(Device(), limits=TrialLimits(min_samples=150))
    assert all(few.estimate(cell, 0.02).p99 is None for cell in CELLS)
    for cell in CELLS:
        found = many.estimate(cell, 0.02)
        assert found.wall.median < found.p99.low < found.p99.median < found.p99.high


def fast_grid(rounds: int) -> tuple[Schedule, Grid]:
    """Return a profile under way of six subnets at five batch sizes, of 0.1 ms each."""
    rng, grid = np.random.default_rng(0), Grid()
    cells = [Cell(f"s{number}", size) for number in range(6) for size in (1, 2, 4, 8, 16)]
    for number in range(rounds):
        for cell in cells:
            wall = (1e5 * (1 + 0.02 * rng.standard_normal(200))).astype(np.int64)
            grid.records.append(TrialRecord(cell, number, Trial(wall, wall, 8, settled=True)))
    return Schedule(tuple(cells), precision=0.001), grid


def test_a_trial_is_looked_at_once_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule, grid = fast_grid(15)
    schedule.remaining(grid)
    looked = []
    quantile, median = np.quantile, np.median
    monkeypatch.setattr(np, "median", lambda x, *rest, **more: (looked.append(np.size(x)), median(x, *rest, **more))[1])
    monkeypatch.setattr(np, "quantile", lambda x, *rest: (looked.append(np.size(x)), quantile(x, *rest))[1])
    grid.records.append(replace(grid.records[0], round=15))
    schedule.remaining(grid)
    schedule.next_round(grid, early=False)
    one_cell = 16 * 200
    assert sum(looked) < 5 * one_cell, "of 30 cells"


def test_the_arithmetic_between_trials_takes_no_time_to_speak_of() -> None:
    schedule, grid = fast_grid(15)
    schedule.remaining(grid)
    spent = []
    for record in grid.records[:30]:
        grid.records.append(replace(record, round=15))
        begin = time.process_time()
        schedule.remaining(grid)
        spent.append(time.process_time() - begin)
    assert np.median(spent) < 0.01  # of trials of 30 ms; it is about 1 ms


def test_warnings_say_what_was_not_looked_at_and_what_disturbed() -> None:
    trial = Trial(np.array([10, 10]), None, 8, settled=True)

    def said(state: DeviceState) -> str:
        return " ".join(warnings(Grid([TrialRecord(Cell("a", 1), 0, trial, state)])))

    assert "Clocks were not read" in said(DeviceState())
    assert "61% of the device's maximum" in said(DeviceState(1220.0, 1220.0, max_mhz=2000.0))
    assert "power limit in 1 of 1" in said(DeviceState(1500.0, 1500.0, throttled_by=("power",), max_mhz=1500.0))
    assert "Other processes" in said(DeviceState(1500.0, 1500.0, other_processes=1))
    assert said(DeviceState(1500.0, 1500.0, max_mhz=1500.0, other_processes=0)) == ""


def test_cells_of_a_grid() -> None:
    assert grid_cells("ab", [1, 2]) == [Cell("a", 1), Cell("a", 2), Cell("b", 1), Cell("b", 2)]


def test_all_cells_are_measured_for_a_while_even_if_they_are_known() -> None:
    calm = measured(Device(noise=0.001))
    assert {len(calm.trials_of(cell)) for cell in CELLS} == {3}
    longer = measured(Device(noise=0.001), min_duration_ns=3 * calm_ns(calm))
    trials = {len(longer.trials_of(cell)) for cell in CELLS}
    assert len(trials) == 1
    assert min(trials) > 3


def calm_ns(grid: Grid) -> int:
    return sum(int(record.trial.wall_ns.sum()) for record in grid.records)


def test_trials_that_happen_to_agree_do_not_make_an_interval_narrow() -> None:
    """Each cell alone is fooled now and then; all together know the spread of trials."""
    rng = np.random.default_rng(3)
    narrow = 0
    for _ in range(200):
        cells = [
            [(1e6 * np.exp(rng.normal(0, 0.05)) * np.ones(8)).astype(np.int64) for _ in range(3)] for _ in range(20)
        ]
        spread = trial_spread(trial_deviation([np.median(trial) for trial in cell]) for cell in cells)
        assert 0.02 < spread < 0.08
        narrow += sum(widened(median_interval(cell), spread).relative_half_width < 0.02 for cell in cells)
    assert narrow == 0
