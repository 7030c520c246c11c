"""QueueFit against its definition, and in both engines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.checks import StaticSystem
from policies.queuefit import QueueFit
from policies.slackfit import SlackFit
from sim import Cluster, Dispatch, SpecError, Trace, View, WorkerFailure, metrics, simulate
from sim.compiled.tabulate import tabulate
from sim.engines import choose, replay
from sim.tables.files import load_table
from tests.policies.engines import assert_engines_agree
from tests.policies.test_policies import tables

if TYPE_CHECKING:
    from sim import LatencyTable

MS = 1_000_000
TABLE = load_table("ofa-resnet50-rtx2080ti")


def defined(table: LatencyTable, view: View, beta: float) -> Dispatch:
    """The choice, by trying everything."""
    system, queue = view.system, view.queue_length
    size = min((size for size in table.batch_sizes if size >= queue), default=table.max_batch)

    def is_possible(subnet: int) -> bool:
        latency = table.latency(subnet, size)
        busy = latency + system.dispatch_ns
        drained = (queue - size) * busy <= beta * (system.slo_ns - busy) * size * system.workers_alive
        return latency <= view.slack_ns and (queue <= size or drained)

    possible = [subnet for subnet in table.pareto if is_possible(subnet)]
    return Dispatch(max(possible), size) if possible else Dispatch(*table.max_throughput)


@settings(max_examples=150, deadline=None)
@given(
    tables(),
    st.integers(-5, 40),
    st.integers(1, 200),
    st.integers(1, 60),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from([0.25, 0.5, 1.0, 2.0]),
)
def test_it_takes_the_most_accurate_subnet_that_fits_and_drains(
    table: LatencyTable, slack: int, queue: int, slo: int, workers: int, dispatch: int, beta: float
) -> None:
    system = StaticSystem((), workers_alive=workers, dispatch_ns=dispatch, slo_ns=slo)
    view = View(0, slack, queue, table, system)
    assert QueueFit(beta).decide(view) == defined(table, view, beta)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3 * MS), min_size=20, max_size=300),
    st.integers(1, 3),
    st.sampled_from([0, 2 * MS]),
    st.sampled_from([0, 5 * MS]),
    st.sampled_from([0, 100_000]),
)
def test_both_engines_decide_alike(gaps: list[int], workers: int, dispatch: int, network: int, each: int) -> None:
    pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")
    arrivals = np.cumsum(np.array(gaps, dtype=np.int64))
    trace = Trace(arrivals, 36 * MS, int(arrivals[-1]) + 1)
    cluster = Cluster(workers, dispatch, dispatch_per_query_ns=each, network_ns=network)
    assert_engines_agree(trace, cluster, TABLE, QueueFit())


def test_workers_that_fail_and_unknown_slos_are_for_simpy() -> None:
    pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")
    failing = Cluster(2, faults=(WorkerFailure(1, MS),))
    assert "workers_alive" in choose(10**9, failing, TABLE, QueueFit(), "auto", 36 * MS).reason
    assert "slo_ns" in choose(10**9, Cluster(2), TABLE, QueueFit(), "auto").reason
    with pytest.raises(SpecError, match="workers_alive"):
        choose(10**9, failing, TABLE, QueueFit(), "compiled", 36 * MS)
    trace = Trace(np.arange(50) * MS, 36 * MS, 50 * MS)
    assert replay(trace, failing, TABLE, QueueFit())[1].engine == "simpy"


def test_a_burst_that_slackfit_sees_too_late_is_drained_in_time() -> None:
    """On one worker, after a calm: the queue is long while the slack of its head is still large."""
    burst = np.concatenate([np.arange(20) * 20 * MS, np.full(150, 450 * MS)])
    trace, cluster = Trace(np.sort(burst), 100 * MS, 600 * MS), Cluster(1, 2 * MS)
    attained = [metrics.slo_attainment(simulate(trace, cluster, TABLE, policy)) for policy in (SlackFit(), QueueFit())]
    assert attained[1] > attained[0]


def test_mixed_slos_are_drained_within_the_smallest() -> None:
    arrivals = np.arange(40) * MS // 4
    mixed = Trace(arrivals, np.array([30 * MS, 60 * MS] * 20), 20 * MS)
    decisions: list[int] = []

    class Looking(QueueFit):
        def decide(self, view: View) -> Dispatch:
            decisions.append(view.system.slo_ns)
            return QueueFit.decide(self, view)

    simulate(mixed, replace(Cluster(1), network_ns=2 * MS), TABLE, Looking())
    assert set(decisions) == {28 * MS}


def test_its_table_is_that_of_its_cluster() -> None:
    few, many = (tabulate(QueueFit(), TABLE, 0, workers, 36 * MS) for workers in (1, 8))
    assert few.at(30 * MS, 60) != many.at(30 * MS, 60)
