"""What holds for every run: the engine against the naive one, conservation, scaling, determinism."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings

from benchmarks.naive_engine import NaiveEngine
from sim import Cluster, Fault, LatencyTable, Outcome, Result, Trace, metrics, simulate
from tests.laws.cases import Case, cases


def run(case: Case) -> Result:
    return simulate(case.trace, case.cluster, case.table, case.policy)


@settings(max_examples=1500, deadline=None)
@given(cases())
def test_the_engine_and_a_process_for_each_query_agree_on_every_query(case: Case) -> None:
    result = run(case)
    naive = NaiveEngine(case.trace, case.cluster, case.table, case.policy).run()
    finish = np.where(result.answered, result.per_query(result.batches.finish_ns), -1)
    assert result.per_query(result.batches.start_ns).tolist() == naive.start
    assert finish.tolist() == naive.finish
    assert result.per_query(result.batches.worker).tolist() == naive.worker
    assert result.per_query(result.batches.subnet).tolist() == naive.subnet
    assert result.outcome.tolist() == [int(outcome) for outcome in naive.outcome]


@settings(max_examples=400, deadline=None)
@given(cases())
def test_every_arrival_has_one_outcome_and_every_batch_its_queries(case: Case) -> None:
    result = run(case)
    assert sum(metrics.count(result, outcome) for outcome in Outcome) == len(case.trace)
    in_batches = result.batch[result.batch >= 0]
    assert np.bincount(in_batches, minlength=len(result.batches)).tolist() == result.batches.size.tolist()
    started = result.batch >= 0
    assert (result.per_query(result.batches.start_ns)[started] >= case.trace.arrival_ns[started]).all()
    assert (result.batches.size <= case.table.max_batch).all()


@settings(max_examples=400, deadline=None)
@given(cases())
def test_busy_idle_and_down_make_up_the_workers_time(case: Case) -> None:
    result = run(case)
    for worker in range(case.cluster.workers):
        mine = np.flatnonzero(result.batches.worker == worker)
        start, finish = result.batches.start_ns[mine], result.batches.finish_ns[mine]
        assert (start[1:] >= finish[:-1]).all(), "a worker runs one batch at a time"
        for fault in (fault for fault in case.cluster.faults if fault.worker == worker):
            end = fault.recover_ns if fault.recover_ns is not None else np.inf
            assert ((finish <= fault.at_ns) | (start >= end)).all(), "nothing runs on a worker that is down"
    idle = case.cluster.workers * result.horizon_ns - result.down_ns - metrics.busy_ns(result)
    assert idle >= 0
    assert result.horizon_ns >= case.trace.duration_ns


@settings(max_examples=300, deadline=None)
@given(cases(faults=False))
def test_work_conservation_a_worker_idles_only_while_nothing_waits(case: Case) -> None:
    eager = dataclasses.replace(case.policy, waits=False)
    result = simulate(case.trace, case.cluster, case.table, eager)
    waits = result.per_query(result.batches.start_ns)
    for query in np.flatnonzero(result.batch >= 0):
        arrival, start = int(case.trace.arrival_ns[query]), int(waits[query])
        for instant in range(arrival, start):
            busy = np.count_nonzero((result.batches.start_ns <= instant) & (result.batches.finish_ns > instant))
            assert busy == case.cluster.workers


@settings(max_examples=200, deadline=None)
@given(cases(faults=False))
def test_queries_start_in_order_of_deadlines(case: Case) -> None:
    result = run(case)
    start, deadline = result.per_query(result.batches.start_ns), case.trace.deadline_ns
    for later in np.flatnonzero(result.batch >= 0):
        waiting = (case.trace.arrival_ns <= start[later]) & (start > start[later])
        assert (deadline[waiting] >= deadline[later]).all()


@settings(max_examples=200, deadline=None)
@given(cases())
def test_the_same_arguments_give_the_same_run(case: Case) -> None:
    first, second = run(case), run(case)
    assert first.outcome.tobytes() == second.outcome.tobytes()
    assert first.batches.finish_ns.tobytes() == second.batches.finish_ns.tobytes()
    assert first.horizon_ns == second.horizon_ns


@settings(max_examples=200, deadline=None)
@given(cases())
def test_time_has_no_unit(case: Case) -> None:
    """A run in units ten times as fine gives the same outcomes, and all times tenfold."""
    policy = dataclasses.replace(
        case.policy, waits=False, drops=False, picks_worker=False, answers=case.policy.answers[:1]
    )
    slow = simulate(case.trace, case.cluster, case.table, policy)
    fine = simulate(_scaled_trace(case.trace), _scaled_cluster(case.cluster), _scaled_table(case.table), policy)
    if case.table.between == "pad":  # a straight line between cells is rounded to whole nanoseconds
        assert fine.outcome.tolist() == slow.outcome.tolist()
        assert fine.batches.finish_ns.tolist() == (10 * slow.batches.finish_ns).tolist()


def _scaled_trace(trace: Trace) -> Trace:
    return Trace(10 * trace.arrival_ns, 10 * trace.slo_ns, 10 * trace.duration_ns)


def _scaled_cluster(cluster: Cluster) -> Cluster:
    delay = cluster.actuation_ns if cluster.actuation_ns == "table" else 10 * cluster.actuation_ns
    faults = (
        Fault(f.worker, 10 * f.at_ns, None if f.recover_ns is None else 10 * f.recover_ns) for f in cluster.faults
    )
    return Cluster(cluster.workers, 10 * cluster.dispatch_ns, delay, cluster.drop, tuple(faults))


def _scaled_table(table: LatencyTable) -> LatencyTable:
    subnets = tuple(dataclasses.replace(s, loading_ns=10 * (s.loading_ns or 0)) for s in table.subnets)
    return LatencyTable(table.device, subnets, table.batch_sizes, 10 * table.latency_ns)
