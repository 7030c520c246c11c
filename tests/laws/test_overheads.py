"""The overhead of a query is a slower table, and a network is a shorter SLO with later answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.maxbatch import MaxBatch
from policies.slackfit import SlackFit
from sim import Cluster, Outcome, Result, SpecError, Trace, simulate
from sim.compiled.tabulate import tabulate
from sim.engine.arrow import queries_table
from sim.tables.files import load_table
from tests.laws.cases import Case, cases

TABLE = load_table("ofa-resnet50-rtx2080ti")


def same_run(one: Result, other: Result) -> None:
    assert one.outcome.tolist() == other.outcome.tolist()
    assert one.batch.tolist() == other.batch.tolist()
    for name in ("start_ns", "finish_ns", "worker", "subnet", "size", "lost"):
        assert getattr(one.batches, name).tolist() == getattr(other.batches, name).tolist(), name


@settings(max_examples=300, deadline=None)
@given(cases(), st.integers(1, 30))
def test_a_network_is_a_shorter_slo_with_later_answers(case: Case, delay_ns: int) -> None:
    """Whatever the policy: it sees slacks and deadlines without the delay."""
    without = replace(case.cluster, network_ns=0)
    longer = Trace(case.trace.arrival_ns, case.trace.slo_ns + delay_ns, case.trace.duration_ns)
    near = simulate(case.trace, without, case.table, case.policy)
    far = simulate(longer, replace(without, network_ns=delay_ns), case.table, case.policy)
    same_run(far, near)
    assert far.latency_ns.tolist() == (near.latency_ns + delay_ns).tolist()
    assert far.busy_ns == near.busy_ns
    assert far.horizon_ns == near.horizon_ns
    answers = [queries_table(result)["finish_ns"].to_pylist() for result in (near, far)]
    assert answers[1] == [None if answer is None else answer + delay_ns for answer in answers[0]]


@settings(max_examples=300, deadline=None)
@given(cases(drawn=False), st.integers(0, 5))
def test_the_overhead_of_a_query_is_a_slower_table(case: Case, overhead_ns: int) -> None:
    """Where every batch size is measured, so that no batch has empty places."""
    sizes = tuple(range(1, case.table.max_batch + 1))
    unknown = {"p99_ns": None, "samples_ns": None}
    table = replace(case.table, batch_sizes=sizes, latency_ns=case.table.dense_ns[:, 1:], **unknown)
    slower = replace(table, latency_ns=table.latency_ns + overhead_ns * np.array(sizes))
    without = replace(case.cluster, dispatch_per_query_ns=0)
    as_overhead = replace(without, dispatch_per_query_ns=overhead_ns)
    for policy in (case.policy, SlackFit(3), MaxBatch()):
        same_run(simulate(case.trace, as_overhead, table, policy), simulate(case.trace, without, slower, policy))


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(0, 5))
def test_empty_places_of_a_batch_have_no_overhead(case: Case, overhead_ns: int) -> None:
    served = case.table.with_query_overhead(overhead_ns)
    sizes = np.arange(case.table.max_batch + 1)
    assert (served.dense_ns == case.table.dense_ns + overhead_ns * sizes).all()
    again = served.with_query_overhead(0)
    assert (again.dense_ns == case.table.dense_ns).all()
    assert (again.latency_ns == case.table.latency_ns).all()


@pytest.mark.parametrize("overhead_ns", [0, 100_000])
def test_both_engines_and_streaming_metrics_agree_under_all_overheads(overhead_ns: int) -> None:
    pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")
    from sim.compiled.replay import replay_compiled, replay_counted, replay_stream

    cluster = Cluster(
        2, dispatch_ns=1_000_000, dispatch_per_query_ns=overhead_ns, network_ns=3_000_000, drop="hopeless"
    )
    arrivals = np.sort(np.random.default_rng(5).integers(0, 10**9, 4500))
    trace = Trace(arrivals, 36_000_000, 10**9)
    rule = tabulate(SlackFit(), cluster.served(TABLE), cluster.dispatch_ns)
    reference = simulate(trace, cluster, TABLE, SlackFit())
    same_run(replay_compiled(trace, cluster, TABLE, rule), reference)
    counted = replay_counted(trace, cluster, TABLE, rule)
    stream = replay_stream([arrivals], 36_000_000, 10**9, cluster, TABLE, rule)
    assert 0 < reference.count(Outcome.MET) < len(trace)
    for one, other in zip(counted.counts, stream.counts, strict=True):
        assert one.tolist() == other.tolist()
    assert [counted.count(outcome) for outcome in Outcome] == [reference.count(outcome) for outcome in Outcome]
    assert counted.latency_quantile_ns(0.5) == pytest.approx(reference.latency_quantile_ns(0.5), rel=0.003)
    assert reference.latency_ns.min() >= TABLE.smallest_ns + 4_000_000


def test_a_network_slower_than_the_slo_leaves_nothing_to_meet() -> None:
    trace = Trace(np.arange(5) * 10**6, 10**7, 10**7)
    for drop in ("never", "expired", "hopeless"):
        result = simulate(trace, Cluster(1, drop=drop, network_ns=2 * 10**7), TABLE, SlackFit())
        assert result.count(Outcome.MET) == 0
        assert result.count(Outcome.DROPPED) == (0 if drop == "never" else 5)


@pytest.mark.parametrize("name", ["dispatch_per_query_ns", "network_ns"])
@pytest.mark.parametrize("value", [-1, 0.5, True, 2**60])
def test_an_impossible_overhead_is_refused(name: str, value: object) -> None:
    with pytest.raises(SpecError, match=name):
        Cluster(1, **{name: value})


def test_an_overhead_that_fits_only_alone_is_refused_with_the_table() -> None:
    with pytest.raises(SpecError, match="too long"):
        Cluster(1, dispatch_per_query_ns=2**57).served(TABLE)
