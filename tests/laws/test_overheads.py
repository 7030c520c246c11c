"""The overhead of a query is a slower table, and a network is a shorter SLO with later answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.maxacc import MaxAcc
from policies.maxbatch import MaxBatch
from policies.slackfit import SlackFit
from sim import (
    Cluster,
    Dispatch,
    LatencyTable,
    Outcome,
    ProfiledSubnet,
    Result,
    SpecError,
    Trace,
    View,
    WorkerFailure,
    simulate,
)
from sim.compiled.tabulate import tabulate
from sim.engine.arrow import queries_table
from sim.tables.files import load_table
from tests.laws.cases import Case, cases

TABLE = load_table("ofa-resnet50-rtx2080ti")


def same_run(one: Result, other: Result) -> None:
    assert one.outcome.tolist() == other.outcome.tolist()
    assert one.batch.tolist() == other.batch.tolist()
    for name in ("start_ns", "finish_ns", "worker", "subnet", "size", "lost", "free_ns"):
        assert getattr(one.batches, name).tolist() == getattr(other.batches, name).tolist(), name


@settings(max_examples=100, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(cases(drawn=False, overlaps=False), st.integers(0, 5))
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


PIPELINE = LatencyTable("toy", (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0)), (1,), np.array([[4], [20]]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=30), st.sampled_from([2, 4, 5]))
def test_a_pipeline_of_equal_stages_answers_when_a_tandem_of_servers_does(gaps: list[int], stages: int) -> None:
    arrivals = np.cumsum(np.array(gaps))
    table = replace(PIPELINE, latency_ns=np.array([[20], [20]]))
    result = simulate(Trace(arrivals, 10**6, 10**4), Cluster(1, occupancy=1 / stages), table, MaxAcc())
    left = np.zeros(stages, dtype=np.int64)  # when the last query left each stage
    for query, arrival in enumerate(arrivals):
        at = arrival
        for stage in range(stages):
            at = left[stage] = max(at, left[stage]) + 20 // stages
        assert result.batches.finish_ns[query] == at


def test_batches_of_a_worker_overlap_in_the_order_of_their_starts() -> None:
    """The second, which is faster alone, comes out behind the first."""
    trace = Trace(np.array([0, 1]), 10**6, 100)
    run = simulate(trace, Cluster(1, occupancy=0.25), PIPELINE, Switching())
    assert run.batches.start_ns.tolist() == [0, 5]
    assert run.batches.free_ns.tolist() == [5, 6]
    assert run.batches.finish_ns.tolist() == [20, 20]
    assert run.busy_ns == 6
    fails = Cluster(1, occupancy=0.25, faults=(WorkerFailure(0, 10),))
    run = simulate(trace, fails, PIPELINE, Switching())
    assert run.batches.lost.tolist() == [True, True]
    assert run.batches.free_ns.tolist() == [5, 6]


@dataclass
class Switching:
    """The slow subnet at first, then the fast one."""

    begun: bool = False

    def decide(self, _: View) -> Dispatch:
        self.begun = not self.begun
        return Dispatch(int(self.begun), 1)


@pytest.mark.parametrize("value", [0, -0.5, 1.5, True, "half", math.nan])
def test_a_part_of_a_latency_is_above_0_and_at_most_1(value: object) -> None:
    with pytest.raises(SpecError, match=r"cluster.occupancy: is out of range"):
        Cluster(1, occupancy=value)  # type: ignore[arg-type]


SPREADS = (
    (5, 0.9, "range"),
    (5, math.nan, "range"),
    (5, True, "range"),
    (0, 1.5, "no meaning"),
    (2**50, 9.0, "long"),
)


@pytest.mark.parametrize(("dispatch_ns", "spread", "says"), SPREADS)
def test_an_impossible_spread_of_overheads_is_refused(dispatch_ns: int, spread: float, says: str) -> None:
    with pytest.raises(SpecError, match=rf"cluster.dispatch_p99_over_median: .*{says}"):
        Cluster(1, dispatch_ns, dispatch_p99_over_median=spread)


def test_an_overhead_that_fits_only_alone_is_refused_with_the_table() -> None:
    with pytest.raises(SpecError, match="long"):
        Cluster(1, dispatch_per_query_ns=2**57).served(TABLE)
