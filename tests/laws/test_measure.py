"""What is true of the metrics of a part of a run, whatever the run and whatever the part."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

from policies.slackfit import SlackFit
from sim import Cluster, LatencyTable, Measure, Outcome, ProfiledSubnet, Trace, metrics, simulate
from sim.base.errors import NoArrivalsError, SpecError
from sim.base.units import NS_PER_S
from sim.compiled.replay import replay_counted, replay_stream
from sim.compiled.tabulate import DecisionTable, tabulate
from sim.engine.histogram import latency_histogram
from sim.tables.files import load_table
from sim.tables.law import FIXED
from tests.laws.cases import Case, cases
from tests.laws.test_compiled import FromTable, decision_tables

if TYPE_CHECKING:
    from sim import Result
    from sim.engine.run_metrics import RunMetrics

WIDTH_NS = 7


def facts(run: RunMetrics) -> dict[str, Any]:
    """Return what adds up over parts of a run."""
    outcomes = {outcome.name: run.count(outcome) for outcome in Outcome}
    counts = {name: getattr(run, name) for name in ("queries", "batch_count", "batched", "busy_ns")}
    return outcomes | counts | {"met": run.met_by_subnet.tolist(), "time": run.until_ns - run.from_ns}


def over_time(run: RunMetrics) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in metrics.windows(run, WIDTH_NS).items()}


def parts_of(result: Result, cuts: list[int]) -> list[Result]:
    edges = [0, *sorted(set(cuts) - {0}), None]
    return [replace(result, measure=Measure(a or 0, b)) for a, b in pairwise(edges)]


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_parts_of_a_run_add_up_to_the_whole(case: Case, data: st.DataObject) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    end = case.trace.duration_ns
    cuts = data.draw(st.lists(st.integers(1, max(1, end - 1)), max_size=4)) if end > 1 else []
    parts = [facts(part) for part in parts_of(result, cuts)]
    whole = facts(result)
    for name in whole.keys() - {"met"}:
        assert sum(part[name] for part in parts) == whole[name], name
    assert np.sum([part["met"] for part in parts], axis=0).tolist() == whole["met"]
    latencies = np.concatenate([part.latency_ns for part in parts_of(result, cuts)])
    assert latencies.tolist() == result.latency_ns.tolist()


@settings(max_examples=100, deadline=None)
@given(cases())
def test_the_whole_interval_is_the_whole_run(case: Case) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    for measure in (Measure(), Measure(0, case.trace.duration_ns)):
        measured = result.measured(measure)
        assert facts(measured) == facts(result)
        assert np.array_equal(metrics.utilisation(measured), metrics.utilisation(result), equal_nan=True)
        for name, values in metrics.windows(measured, WIDTH_NS).items():
            assert np.array_equal(values, metrics.windows(result, WIDTH_NS)[name], equal_nan=True), name


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_a_part_is_what_its_definition_says(case: Case, data: st.DataObject) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    end = case.trace.duration_ns
    first = data.draw(st.integers(0, end - 1))
    last = data.draw(st.integers(first + 1, end))
    part = replace(result, measure=Measure(first, last))
    until = result.horizon_ns if last == end else last
    inside = [first <= at and (at < last or last == end) for at in case.trace.arrival_ns.tolist()]
    for outcome in Outcome:
        assert part.count(outcome) == sum(np.array(inside) & (result.outcome == outcome))
    batches = result.batches
    rows = list(zip(batches.start_ns.tolist(), batches.free_ns.tolist(), batches.size.tolist(), strict=True))
    own = [size for start, _, size in rows if first <= start and (start < last or last == end)]
    assert (part.batch_count, part.batched) == (len(own), sum(own))
    busy = sum(start <= instant < finish for start, finish, _ in rows for instant in range(first, until))
    assert part.busy_ns == busy
    up = sum(
        not any(
            fault.worker == worker
            and fault.at_ns <= instant < (until if fault.recover_ns is None else fault.recover_ns)
            for fault in case.cluster.faults
        )
        for worker in range(case.cluster.workers)
        for instant in range(first, until)
    )
    assert metrics.utilisation(part) == (busy / up if up else pytest.approx(np.nan, nan_ok=True))


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_a_stream_measures_what_the_whole_run_does(case: Case, data: st.DataObject) -> None:
    decisions = data.draw(decision_tables(len(case.table.subnets), case.table.max_batch))
    slo_ns, end = data.draw(st.integers(1, 40)), case.trace.duration_ns
    trace = Trace(case.trace.arrival_ns, slo_ns, end)
    first = data.draw(st.integers(0, end - 1))
    measure = Measure(first, data.draw(st.one_of(st.none(), st.integers(first + 1, end))))
    whole = replace(simulate(trace, case.cluster, case.table, FromTable(decisions)), measure=measure)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(trace)), max_size=6)))
    pieces = np.split(trace.arrival_ns, cuts)
    args = (pieces, slo_ns, end, case.cluster, case.table, decisions, WIDTH_NS, measure)
    if not whole.queries:
        with pytest.raises(NoArrivalsError, match="measure: no query arrives in the interval"):
            replay_stream(*args)
        return
    stream = replay_stream(*args)
    assert facts(stream) == facts(whole)
    assert stream.counts.latencies.tolist() == latency_histogram(whole.latency_ns).tolist()
    one, other = stream.window_counts(WIDTH_NS), whole.window_counts(WIDTH_NS)
    for name in one._fields:
        assert getattr(one, name).tolist() == getattr(other, name).tolist(), name


@pytest.mark.parametrize("after_ns", [0, 10**16])
def test_windows_of_long_and_late_runs_are_equal_to_the_last_digit(after_ns: int) -> None:
    """Also where the instants add up to more than 64 bits, and accuracies to a sum that is rounded."""
    rng, table, cluster = np.random.default_rng(0), load_table("ofa-resnet50-rtx2080ti"), Cluster(4)
    arrival_ns = after_ns + np.cumsum(rng.exponential(1e6, 20_000)).astype(np.int64)
    trace = Trace(arrival_ns, 36_000_000, int(arrival_ns[-1]))
    measure, policy = Measure(after_ns), SlackFit()
    stream = replay_counted(trace, cluster, table, tabulate(policy, table), measure=measure)
    whole = replace(simulate(trace, cluster, table, policy), measure=measure)
    one, other = stream.window_counts(NS_PER_S), whole.window_counts(NS_PER_S)
    for name in one._fields:
        assert getattr(one, name).tolist() == getattr(other, name).tolist(), name
    edges_ns = np.append(np.arange(after_ns, trace.duration_ns, NS_PER_S), trace.duration_ns)
    begin, end = (
        np.clip(instants[:, None], edges_ns[:-1], edges_ns[1:])
        for instants in (whole.batches.start_ns, whole.batches.free_ns)
    )
    assert other.busy_ns.tolist() == (end - begin).sum(axis=0).tolist()


@settings(max_examples=100, deadline=None)
@given(cases(faults=False), cases(faults=False), st.data())
def test_after_a_long_warm_up_a_run_is_measured_as_without_it(case: Case, before: Case, data: st.DataObject) -> None:
    decisions = data.draw(decision_tables(len(case.table.subnets), case.table.max_batch))
    # What a worker has loaded is all that a warm-up leaves behind, but for the numbers of queries, by which latencies
    # are drawn.
    cluster = replace(case.cluster, actuation_ns=0, latency=FIXED, dispatch_p99_over_median=None)
    alone = simulate(case.trace, cluster, case.table, FromTable(decisions))
    shift = before.trace.duration_ns + 100_000
    slos = [np.broadcast_to(trace.slo_ns, len(trace)) for trace in (before.trace, case.trace)]
    arrivals = np.concatenate([before.trace.arrival_ns, case.trace.arrival_ns + shift])
    both = Trace(arrivals, np.concatenate(slos), shift + case.trace.duration_ns)
    late = simulate(both, cluster, case.table, FromTable(decisions)).measured(Measure(shift))
    assert facts(late) == facts(alone)
    assert late.latency_ns.tolist() == alone.latency_ns.tolist()
    assert metrics.utilisation(late) == pytest.approx(metrics.utilisation(alone), nan_ok=True)
    windows = over_time(alone)
    for edge in ("start_s", "end_s"):
        windows[edge] = [at + shift / 1e9 for at in windows[edge]]
    for name, values in over_time(late).items():
        assert values == pytest.approx(windows[name], nan_ok=True, abs=1e-6), name


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        (Measure(100), r"measure.from_s: is outside of the run \(1e-07\); the trace is 1e-07 s long"),
        (Measure(-1), "measure.from_s: is outside of the run"),
        (Measure(0, 101), "measure.to_s: is outside of the run"),
        (Measure(50, 50), "measure.to_s: must be above from_s"),
        (Measure(20, 30), "measure: no query arrives in the interval"),
    ],
)
def test_a_part_outside_of_the_run_or_without_a_query_is_refused(measure: Measure, says: str) -> None:
    case = Trace([0, 10, 90], 40, 100)
    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), np.array([[5]]))
    only = DecisionTable(np.empty(0, np.int64), np.zeros((1, 1), np.int64), np.ones((1, 1), np.int64), calls=0)
    result = simulate(case, Cluster(1), table, FromTable(only))
    with pytest.raises((SpecError, NoArrivalsError), match=says):
        result.measured(measure)
    with pytest.raises((SpecError, NoArrivalsError), match=says):
        replay_stream([case.arrival_ns], 40, 100, Cluster(1), table, only, measure=measure)
