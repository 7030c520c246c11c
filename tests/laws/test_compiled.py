"""One semantics, two engines: the compiled one agrees with the SimPy one on every query."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.slackfit import SlackFit
from sim import Cluster, LatencyLaw, LatencyTable, Outcome, ProfiledSubnet, Result, Trace, WorkerFailure, simulate
from sim.base.errors import DataError
from sim.compiled.step_policy import DROP, HOLD
from sim.compiled.tabulate import DecisionTable, tabulate
from sim.engine.histogram import QUANTILE_ERROR, latency_histogram
from sim.engine.kind_metrics import by_kind
from sim.tables.files import load_table
from tests.laws.cases import Case, cases, kind_cases
from tests.laws.naive_engine import NaiveEngine
from tests.policies.engines import assert_same

if TYPE_CHECKING:
    from sim import Decision, View

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

from sim.compiled import kernel
from sim.compiled.replay import replay_compiled, replay_counted, replay_stream


@dataclasses.dataclass(frozen=True)
class FromTable:
    """Decides by a table of decisions."""

    decisions: DecisionTable

    def decide(self, view: View) -> Decision:
        return self.decisions.at(view.slack_ns, view.queue_length)


@st.composite
def decision_tables(draw: st.DrawFn, subnets: int, largest: int) -> DecisionTable:
    edges = sorted(draw(st.sets(st.integers(-20, 40), max_size=6)))
    lengths = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))  # many numbers of which none is special
    chosen, sizes = np.zeros((2, len(edges) + 1, lengths), np.int64)
    for row, lowest in enumerate([-100, *edges]):
        for column in range(lengths):
            kind = int(rng.integers(DROP, subnets))
            largest_here = {HOLD: lowest - 1, DROP: column + 1}.get(kind, largest)
            if kind == -1 or largest_here < 0:  # no slack to hold for
                kind, largest_here = 0, largest
            chosen[row, column], sizes[row, column] = kind, rng.integers(int(kind != HOLD), largest_here + 1)
    return DecisionTable(np.array(edges, dtype=np.int64), chosen, sizes, calls=0)


@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_both_engines_agree_on_every_query(case: Case, data: st.DataObject) -> None:
    engines_agree(case, data)


@pytest.mark.slow
@settings(max_examples=4000, deadline=None)
@given(cases(), st.data())
def test_both_engines_agree_on_every_query_of_many_cases(case: Case, data: st.DataObject) -> None:
    engines_agree(case, data)


def engines_agree(case: Case, data: st.DataObject) -> None:
    decisions = data.draw(decision_tables(len(case.table.subnets), case.table.max_batch))
    seed = data.draw(st.integers(0, 3))
    reference = simulate(case.trace, case.cluster, case.table, FromTable(decisions), seed=seed)
    compiled = replay_compiled(case.trace, case.cluster, case.table, decisions, seed=seed)
    assert_same(compiled, reference)


@dataclasses.dataclass(frozen=True)
class FromTables:
    """Decides by a table of decisions for each kind of workers."""

    decisions: dict[str, DecisionTable]

    def decide(self, view: View) -> Decision:
        return self.decisions[view.kind].at(view.slack_ns, view.queue_length)


def by_name(case: Case, tables: tuple[DecisionTable, ...]) -> dict[str, DecisionTable]:
    return {kind.name: table for kind, table in zip(case.cluster.kinds, tables, strict=True)}


@st.composite
def tables_by_kind(draw: st.DrawFn, case: Case) -> tuple[DecisionTable, ...]:
    longest = [(kind.table or case.table).max_batch for kind in case.cluster.kinds]
    return tuple(draw(decision_tables(len(case.table.subnets), largest)) for largest in longest)


@settings(max_examples=150, deadline=None)
@given(kind_cases(), st.data())
def test_three_engines_agree_with_kinds_of_workers(case: Case, data: st.DataObject) -> None:
    engines_agree_on_kinds(case, data)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(kind_cases(), st.data())
def test_three_engines_agree_with_kinds_of_workers_in_many_cases(case: Case, data: st.DataObject) -> None:
    engines_agree_on_kinds(case, data)


def engines_agree_on_kinds(case: Case, data: st.DataObject) -> None:
    """Query by query; and a stream in pieces, where it can be one, has the counts of the whole, kind by kind."""
    cluster, table, seed, rule = case.cluster, case.table, data.draw(st.integers(0, 3)), data.draw(tables_by_kind(case))
    policy = FromTables(by_name(case, rule))
    reference = simulate(case.trace, cluster, table, policy, seed=seed)
    whole = replay_compiled(case.trace, cluster, table, rule, seed=seed)
    assert_same(whole, reference)
    assert NaiveEngine(case.trace, cluster, table, policy, seed).run().finish == _answers(whole)
    if case.trace.in_order and isinstance(case.trace.slo_ns, int):
        how = (cluster, table, rule)
        counted = replay_counted(case.trace, *how, width_ns=7, seed=seed)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(case.trace)), max_size=5)))
        pieces, trace = np.split(case.trace.arrival_ns, cuts), case.trace
        stream = replay_stream(pieces, trace.slo_ns, trace.duration_ns, *how, width_ns=7, seed=seed)
        for one, other in zip(counted.counts, stream.counts, strict=True):
            assert one.tolist() == other.tolist()
        assert by_kind(counted) == by_kind(stream) == by_kind(reference)


def _answers(result: Result) -> list[int]:
    return np.where(result.answered, result.per_query(result.batches.finish_ns), -1).tolist()


def edges() -> list[tuple[Case, DecisionTable]]:
    """Return what small random runs hardly ever have.

    Long latencies that are drawn; a recovery within a batch; a hold that ends before an arrival could prolong it, one
    that an arrival shortens, and one at whose arrival a query is dropped.
    """
    a40, rng = load_table("ofa-resnet50-a40"), np.random.default_rng(2)
    cluster = Cluster(2, 10**6, latency=LatencyLaw("lognormal"), dispatch_p99_over_median=2.0, occupancy=0.5)
    varied = Trace(np.sort(rng.integers(0, 10**9, 200)), 36_000_000, 10**9)
    two = (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0))
    table = LatencyTable("toy", two, (1,), np.array([[4], [20]]))
    again = Trace(np.array([0, 12]), np.array([1000, 30]), 20)
    fails = Cluster(1, occupancy=0.25, faults=(WorkerFailure(0, 10, 11),))
    by_slack = DecisionTable(np.array([500]), np.array([[0], [1]]), np.ones((2, 1), np.int64), calls=0)
    nothing: Any = None
    longer = [[0, 0], [0, HOLD], [HOLD, HOLD]], [[1, 1], [1, 3], [10, 3]]
    shorter = [[0, 0], [HOLD, 0], [HOLD, HOLD]], [[1, 1], [10, 1], [10, 14]]
    dropped = [[0], [HOLD], [0]], [[1], [1], [1]]

    def holding(at: list[int], slos: list[int], drop: Any, edges: list[int], cells: Any) -> tuple[Case, DecisionTable]:
        trace, found = Trace(np.array(at), np.array(slos), 20), [np.array(part) for part in cells]
        return Case(trace, Cluster(1, drop=drop), table, nothing), DecisionTable(np.array(edges), *found, calls=0)

    return [
        (Case(varied, cluster, a40, nothing), tabulate(SlackFit(20), a40, 10**6)),
        (Case(again, fails, table, nothing), by_slack),
        holding([0, 12], [20, 20], "never", [4, 11], longer),
        holding([0, 5], [20, 20], "never", [11, 15], shorter),
        holding([0, 17], [20, 30], "hopeless", [2, 21], dropped),
    ]


@pytest.mark.parametrize("number", range(5))
def test_both_engines_agree_at_the_edges(number: int) -> None:
    case, decisions = edges()[number]
    reference = simulate(case.trace, case.cluster, case.table, FromTable(decisions), seed=1)
    assert_same(replay_compiled(case.trace, case.cluster, case.table, decisions, seed=1), reference)


@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_a_stream_in_pieces_and_a_trace_that_is_only_counted_have_the_counts_of_the_whole(
    case: Case, data: st.DataObject
) -> None:
    decisions = data.draw(decision_tables(len(case.table.subnets), case.table.max_batch))
    slo_ns = data.draw(st.integers(1, 40))
    trace = Trace(case.trace.arrival_ns, slo_ns, case.trace.duration_ns)
    whole = replay_compiled(trace, case.cluster, case.table, decisions)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(trace)), max_size=12)))
    stream = replay_stream(
        np.split(trace.arrival_ns, cuts), slo_ns, trace.duration_ns, case.cluster, case.table, decisions, width_ns=7
    )
    counted = replay_counted(trace, case.cluster, case.table, decisions, width_ns=7)
    for one, other in zip(counted.counts, stream.counts, strict=True):
        assert one.tolist() == other.tolist()
    assert stream.queries == len(trace)
    assert [stream.count(outcome) for outcome in Outcome] == [whole.count(outcome) for outcome in Outcome]
    assert stream.met_by_subnet.tolist() == whole.met_by_subnet.tolist()
    figures = ("batch_count", "batched", "busy_ns", "until_ns")
    assert [getattr(stream, name) for name in figures] == [getattr(whole, name) for name in figures]
    for q in (0.0, 0.5, 0.99, 1.0):
        exact, close = whole.latency_quantile_ns(q), stream.latency_quantile_ns(q)
        assert close == pytest.approx(exact, rel=QUANTILE_ERROR * (1 + 1e-9), nan_ok=True)
    assert stream.counts.latencies.tolist() == latency_histogram(whole.latency_ns).tolist()
    one, other = stream.window_counts(7), whole.window_counts(7)
    for name in one._fields:
        assert getattr(one, name).tolist() == getattr(other, name).tolist(), name


def test_codes_of_decisions_are_the_same_in_the_loop() -> None:
    assert (kernel.HOLD, kernel.DROP) == (HOLD, DROP)


def test_a_trace_whose_deadlines_decrease_is_not_counted() -> None:
    trace = Trace(np.array([0, 1]), np.array([9, 3]), 10)
    decisions = DecisionTable(np.empty(0, np.int64), np.zeros((1, 1), np.int64), np.ones((1, 1), np.int64), calls=0)
    with pytest.raises(DataError, match="deadlines decrease"):
        replay_counted(trace, Cluster(1), load_table("ofa-resnet50-rtx2080ti"), decisions)
