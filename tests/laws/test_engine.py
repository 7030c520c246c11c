"""What holds for every run: the engine against the naive one, conservation, scaling, determinism."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from sim import Cluster, Dispatch, LatencyTable, Outcome, Trace, View, WorkerFailure, simulate
from sim.engine.driver import _Run
from tests.laws.cases import Case, cases, kind_cases, queue_cases
from tests.laws.naive_engine import naive_engine_agrees, run


@settings(max_examples=200, deadline=None)
@given(cases())
def test_the_engine_and_a_process_for_each_query_agree_on_every_query(case: Case) -> None:
    naive_engine_agrees(case)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(cases())
def test_the_engine_and_a_process_for_each_query_agree_in_many_cases(case: Case) -> None:
    naive_engine_agrees(case)


@settings(max_examples=100, deadline=None)
@given(kind_cases())
def test_the_engine_and_a_process_for_each_query_agree_with_kinds_of_workers(case: Case) -> None:
    naive_engine_agrees(case)


@settings(max_examples=100, deadline=None)
@given(queue_cases())
def test_the_engine_and_a_process_for_each_query_agree_with_queues(case: Case) -> None:
    naive_engine_agrees(case)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(queue_cases())
def test_the_engine_and_a_process_for_each_query_agree_with_queues_in_many_cases(case: Case) -> None:
    naive_engine_agrees(case)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_every_arrival_has_one_outcome_and_every_batch_its_queries(case: Case) -> None:
    result = run(case)
    assert sum(result.count(outcome) for outcome in Outcome) == len(case.trace)
    in_batches = result.batch[result.batch >= 0]
    assert np.bincount(in_batches, minlength=len(result.batches)).tolist() == result.batches.size.tolist()
    started = result.batch >= 0
    assert (result.per_query(result.batches.start_ns)[started] >= case.trace.arrival_ns[started]).all()
    assert (result.batches.size <= case.table.max_batch).all()


@settings(max_examples=100, deadline=None)
@given(cases())
def test_busy_idle_and_down_make_up_the_workers_time(case: Case) -> None:
    result = run(case)
    horizon = result.horizon_ns
    idle = 0
    for worker in range(case.cluster.workers):
        mine = result.batches.worker == worker
        taken = list(zip(result.batches.start_ns[mine].tolist(), result.batches.free_ns[mine].tolist(), strict=True))
        for fault in case.cluster.faults:
            if fault.worker == worker:
                end = horizon if fault.recover_ns is None else min(fault.recover_ns, horizon)
                taken.append((min(fault.at_ns, horizon), end))
        clock = 0
        for start, end in sorted(taken):
            assert start >= clock, "a worker runs one batch at a time, and none while it is down"
            idle += start - clock
            clock = end
        idle += horizon - clock
    assert result.busy_ns + idle + result.cluster.down_ns(result.horizon_ns) == case.cluster.workers * horizon


@settings(max_examples=100, deadline=None)
@given(cases(faults=False))
def test_work_conservation_a_worker_idles_only_while_nothing_waits(case: Case) -> None:
    eager = dataclasses.replace(case.policy, waits=False)
    result = simulate(case.trace, case.cluster, case.table, eager)
    waits = result.per_query(result.batches.start_ns)
    for query in np.flatnonzero(result.batch >= 0):
        arrival, start = int(case.trace.arrival_ns[query]), int(waits[query])
        for instant in range(arrival, start):
            busy = np.count_nonzero((result.batches.start_ns <= instant) & (result.batches.free_ns > instant))
            assert busy == case.cluster.workers


@settings(max_examples=100, deadline=None)
@given(cases(faults=False))
def test_queries_start_in_order_of_deadlines(case: Case) -> None:
    result = run(case)
    start, deadline = result.per_query(result.batches.start_ns), case.trace.deadline_ns
    for later in np.flatnonzero(result.batch >= 0):
        waiting = (case.trace.arrival_ns <= start[later]) & (start > start[later])
        assert (deadline[waiting] >= deadline[later]).all()


@settings(max_examples=100, deadline=None)
@given(cases())
def test_the_same_arguments_give_the_same_run(case: Case) -> None:
    first, second = run(case), run(case)
    assert first.outcome.tobytes() == second.outcome.tobytes()
    assert first.batches.finish_ns.tobytes() == second.batches.finish_ns.tobytes()
    assert first.horizon_ns == second.horizon_ns


@settings(max_examples=100, deadline=None)
@given(cases(drawn=False, overlaps=False))
def test_time_has_no_unit(case: Case) -> None:
    """A run in units ten times as fine gives the same outcomes, and all times tenfold."""
    fixed = OneAnswer(*case.policy.answers[0])
    table = dataclasses.replace(case.table, between="pad")  # a straight line is rounded to whole nanoseconds
    slow = simulate(case.trace, case.cluster, table, fixed)
    fine = simulate(_scaled_trace(case.trace), _scaled_cluster(case.cluster), _scaled_table(table), fixed)
    assert fine.outcome.tolist() == slow.outcome.tolist()
    assert fine.batches.finish_ns.tolist() == (10 * slow.batches.finish_ns).tolist()


@dataclasses.dataclass(frozen=True)
class OneAnswer:
    subnet: int
    size: int

    def decide(self, _: View) -> Dispatch:
        return Dispatch(self.subnet, self.size)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_events_exist_per_batch_and_per_arrival_at_an_idle_cluster_not_per_query(case: Case) -> None:
    eager = OneAnswer(*case.policy.answers[0])
    counted = _Counting(case.trace, case.cluster, case.table, eager, 0, None)
    result = counted.run()
    idle_starts = np.unique(result.batches.start_ns[np.isin(result.batches.start_ns, case.trace.arrival_ns)])
    changes = sum(1 if fault.recover_ns is None else 2 for fault in case.cluster.faults)
    # One wake-up more: for the first query that arrives after everything before it was dropped, or found no worker.
    dropped = result.count(Outcome.DROPPED) + result.count(Outcome.UNFINISHED)
    assert counted.events <= len(result.batches) + len(idle_starts) + 2 * changes + dropped + 1


class _Counting(_Run):
    events = 0

    def _after(self, *args: object) -> None:
        self.events += 1
        super()._after(*args)


def _scaled_trace(trace: Trace) -> Trace:
    return Trace(10 * trace.arrival_ns, 10 * trace.slo_ns, 10 * trace.duration_ns)


def _scaled_cluster(cluster: Cluster) -> Cluster:
    delay = cluster.actuation_ns if cluster.actuation_ns == "table" else 10 * cluster.actuation_ns
    faults = (
        WorkerFailure(f.worker, 10 * f.at_ns, None if f.recover_ns is None else 10 * f.recover_ns)
        for f in cluster.faults
    )
    more = (10 * cluster.dispatch_per_query_ns, 10 * cluster.network_ns)
    return Cluster(cluster.workers, 10 * cluster.dispatch_ns, delay, cluster.drop, tuple(faults), *more)


def _scaled_table(table: LatencyTable) -> LatencyTable:
    subnets = tuple(dataclasses.replace(s, loading_ns=10 * (s.loading_ns or 0)) for s in table.subnets)
    return LatencyTable(table.device, subnets, table.batch_sizes, 10 * table.latency_ns)
