"""QueueFit with a reserve against its definition, its estimate of the arrivals, and in both engines."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.queuefit_reserve import QueueFitReserve
from policies.slackfit import SlackFit
from sim import Cluster, Dispatch, LatencyLaw, SpecError, Trace, WorkerFailure, metrics, simulate
from sim.compiled.tabulate import tabulate
from sim.engines import choose
from sim.tables.files import load_table
from tests.policies.engines import assert_engines_agree
from tests.policies.test_policies import tables

if TYPE_CHECKING:
    from sim import LatencyTable

MS = 1_000_000
TABLE = load_table("ofa-resnet50-rtx2080ti")


def defined(
    table: LatencyTable, site: tuple[int, int, int], seen: tuple[float, float], slack: int, queue: int
) -> tuple[int, int]:
    """The choice, by trying everything; `seen` is the mean and the variance of arrivals within an SLO."""
    dispatch, workers, slo = site
    policy, rate = QueueFitReserve(), seen[0] / slo
    reserve = policy.reserve * math.sqrt(seen[1])
    cells = list(product(table.pareto, table.batch_sizes))
    busy = {cell: table.latency(*cell) + dispatch for cell in cells}
    through = {cell: cell[1] * workers / busy[cell] for cell in cells}
    in_time = {cell: through[cell] * min(1, max(0, (slo - busy[cell]) * workers / busy[cell])) for cell in cells}

    def slow(speed: float) -> float:
        return 1e18 * (1 + rate - speed)

    def lost(cell: tuple[int, int]) -> float:
        spare = through[cell] - rate
        return busy[cell] + (queue + reserve) / spare if spare > 0 else slow(through[cell])

    def fastest(cell: tuple[int, int]) -> float:
        return busy[cell] + (queue + reserve) / in_time[cell] if in_time[cell] > rate else slow(in_time[cell])

    if slack < min(busy.values()) - dispatch:
        return min(cells, key=lost)
    fast = min(cells, key=fastest)
    spare = max(in_time.values()) - rate
    excess = 0.0
    if seen[1]:
        excess = policy.excess**2 * (seen[1] / slo) / (4 * spare) if spare > 0 else math.inf
    needed = min((size for size in table.batch_sizes if size >= queue), default=table.max_batch)
    for subnet in reversed(table.pareto):
        allowed = [
            size
            for size in table.batch_sizes
            if size <= needed and table.latency(subnet, size) <= slack
            if size in (needed, table.max_batch) or through[subnet, size] >= rate
        ]
        if not allowed:
            continue
        size = max(allowed)
        left = max(0, queue - size + reserve)
        drained = min(busy[subnet, other] + left / through[subnet, other] * 1 for other in table.batch_sizes)
        burst = busy[fast] + max(0, queue - size + excess) / through[fast]
        first = busy[subnet, size] / workers
        if first + drained <= slo and (excess == 0 or first + burst <= slo):
            return subnet, size
    return fast


@settings(max_examples=100, deadline=None)
@given(
    tables(),
    st.integers(-5, 40),
    st.integers(1, 200),
    st.integers(1, 60),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 50),
    st.integers(0, 60),
)
def test_it_is_what_its_definition_says(
    table: LatencyTable, slack: int, queue: int, slo: int, workers: int, dispatch: int, mean: int, deviation: int
) -> None:
    memory = QueueFitReserve().begun(table, dispatch, workers, slo)
    memory[2:5] = 5, mean, deviation**2
    found = QueueFitReserve.step(memory, 0, slack, queue, 0, table.dense_ns)
    expected = defined(table, (dispatch, workers, slo), (mean, deviation**2), slack, queue)
    if found != expected:  # the same to rounding: a hair more reserve or less gives either
        near = [
            defined(table, (dispatch, workers, slo), (mean * (1 + by), deviation**2 * (1 + by)), slack, queue)
            for by in (-1e-9, 1e-9)
        ]
        assert found in near


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 3 * MS), min_size=20, max_size=300),
    st.integers(1, 3),
    st.sampled_from([0, 5 * MS]),
    st.booleans(),
    st.booleans(),
)
def test_both_engines_decide_alike(gaps: list[int], workers: int, network: int, drawn: bool, own: bool) -> None:
    pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")
    arrivals = np.cumsum(np.array(gaps, dtype=np.int64))
    slos = np.where(np.arange(len(gaps)) % 3 == 0, 30 * MS, 60 * MS)
    trace = Trace(arrivals, slos if own else 36 * MS, int(arrivals[-1]) + 1)
    law = LatencyLaw("lognormal", p99_over_median=1.2) if drawn else LatencyLaw()
    cluster = Cluster(workers, 2 * MS, network_ns=network, latency=law)
    assert_engines_agree(trace, cluster, TABLE, QueueFitReserve())


def test_the_unit_of_time_does_not_matter() -> None:
    """Twice all times, the same decisions: exactly, since 2 is a power of 2."""
    rng = np.random.default_rng(3)
    slow, fast = (QueueFitReserve().begun(TABLE, MS, 4, 36 * MS) for _ in range(2))
    slow[5], slow[7], slow[8] = 2 * slow[5], 2 * slow[7], slow[8] / 2
    now = arrived = 0
    for _ in range(500):
        now, arrived = now + int(rng.integers(9 * MS)), arrived + int(rng.integers(40))
        slack, queue = int(rng.integers(-MS, 36 * MS)), int(rng.integers(1, 90))
        chosen = QueueFitReserve.step(fast, now, slack, queue, arrived, TABLE.dense_ns)
        assert chosen == QueueFitReserve.step(slow, 2 * now, 2 * slack, queue, arrived, 2 * TABLE.dense_ns)


def test_it_sees_mean_and_variance_of_the_arrivals_within_an_slo() -> None:
    counts = np.random.default_rng(5).poisson(40, 60)
    memory = QueueFitReserve(windows=1000).begun(TABLE, 0, 2, 10 * MS)
    for number, arrived in enumerate(np.cumsum(counts).tolist(), start=1):
        QueueFitReserve.step(memory, number * 10 * MS, 5 * MS, 1, arrived, TABLE.dense_ns)
    assert memory[3] == pytest.approx(counts.mean())
    assert memory[4] == pytest.approx(counts.var())
    QueueFitReserve.step(memory, 5000 * 10 * MS, 5 * MS, 1, int(counts.sum()), TABLE.dense_ns)
    assert memory[3] < 40 * 60 / 1000  # forgotten, but for less than the windows that count


def test_calm_is_served_by_the_most_accurate_subnet_and_more_than_the_fastest_keeps_up_with_by_the_fastest() -> None:
    site = (TABLE, 0, 4, 200 * MS)
    calm, flood = QueueFitReserve().begun(*site), QueueFitReserve().begun(*site)
    flood[2:5] = 100, 1e6, 1e3
    assert QueueFitReserve.step(calm, 0, 200 * MS, 1, 1, TABLE.dense_ns) == (TABLE.pareto[-1], 1)
    assert QueueFitReserve.step(flood, 0, 200 * MS, 1, 1, TABLE.dense_ns) == TABLE.max_throughput


def test_it_answers_a_burst_that_the_first_form_on_one_worker_loses() -> None:
    burst = np.sort(np.concatenate([np.arange(20) * 20 * MS, np.full(150, 450 * MS)]))
    run = simulate(Trace(burst, 100 * MS, 600 * MS), Cluster(1, 2 * MS), TABLE, QueueFitReserve())
    alone = simulate(Trace(burst, 100 * MS, 600 * MS), Cluster(1, 2 * MS), TABLE, SlackFit(buckets=20))
    assert metrics.slo_attainment(run) > metrics.slo_attainment(alone)


def test_workers_that_fail_are_for_simpy() -> None:
    pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")
    failing = Cluster(2, faults=(WorkerFailure(1, MS),))
    assert "workers fail" in choose(10**9, failing, TABLE, QueueFitReserve(), "auto", 36 * MS).reason
    with pytest.raises(SpecError, match="workers fail"):
        choose(10**9, failing, TABLE, QueueFitReserve(), "compiled", 36 * MS)


@pytest.mark.parametrize("wrong", [{"reserve": -1.0}, {"excess": math.inf}, {"windows": 0}])
def test_wrong_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=next(iter(wrong))):
        QueueFitReserve(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("buckets", [3, 5, 20])
def test_a_draining_slackfit_never_leaves_queries_behind_a_small_batch(buckets: int) -> None:
    plain, draining = (tabulate(SlackFit(buckets, drain=drain), TABLE) for drain in (False, True))
    fastest = Dispatch(*TABLE.max_throughput)
    for slack in range(-MS, 40 * MS, MS // 4):
        for queue in range(1, 40):
            as_ever = plain.at(slack, queue)
            assert isinstance(as_ever, Dispatch)
            leaves = as_ever.batch_size < min(queue, TABLE.max_batch)
            assert draining.at(slack, queue) == (fastest if leaves else as_ever)
