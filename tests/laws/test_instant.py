"""The rule of an instant needs no SimPy: a plain loop over a log of events gets the decisions of `simulate`."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings

from sim import Cluster, Dispatch, LatencyTable, Result, Trace, View, Wait, WorkerFailure, simulate
from sim.engine.instant import BatchStart, Scheduler
from sim.engine.queues import queue_for
from sim.tables.service_times import service_times
from tests.laws.cases import Case, cases
from tests.sim.engine.test_engine import TABLE, Scripted, trace_of

Reports = tuple[list[tuple[int, int]], list[int], list[int]]
"""What a driver reports of an instant: completions, recoveries, failures."""


def log_of(result: Result) -> dict[int, Reports]:
    """Return the reports of the workers of a run by instant; completions of lost batches come late, as in a network."""
    log: dict[int, Reports] = defaultdict(lambda: ([], [], []))
    batches = result.batches
    finish_ns = batches.finish_ns + batches.lost  # a nanosecond after the failure
    for batch, (at_ns, worker) in enumerate(zip(finish_ns.tolist(), batches.worker.tolist(), strict=True)):
        log[at_ns][0].append((worker, batch))
    for at_ns, worker, fails in result.cluster.changes():
        log[at_ns][2 if fails else 1].append(worker)
    return log


def decisions(case: Case, log: dict[int, Reports]) -> tuple[list[tuple[int, BatchStart]], list[tuple[int, int]]]:
    """Return the batches that a scheduler starts, and those that it loses, each with its instant."""
    queue = queue_for(case.trace, case.cluster.network_ns)
    table = case.cluster.served(case.table)
    scheduler = Scheduler(queue, case.cluster, table, case.policy, 0)
    started, lost_batches = [], []
    wake_ns = queue.next_arrival_ns
    upcoming = sorted(log)[::-1]
    while upcoming or wake_ns is not None:
        now_ns = min(at_ns for at_ns in (wake_ns, upcoming[-1] if upcoming else None) if at_ns is not None)
        reports = log[upcoming.pop()] if upcoming and upcoming[-1] == now_ns else ([], [], [])
        starts, lost, wake_ns = scheduler.settle(now_ns, *reports)
        assert wake_ns is None or wake_ns > now_ns
        started += [(now_ns, start) for start in starts]
        lost_batches += [(now_ns, batch) for batch in lost]
    return started, lost_batches


@settings(max_examples=300, deadline=None)
@given(cases(overlaps=False))
def test_a_log_of_events_without_simpy_gives_the_decisions_of_a_run(case: Case) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    started, lost_batches = decisions(case, log_of(result))
    batches = result.batches
    columns = (batches.start_ns, batches.worker, batches.subnet, batches.size)
    expected = list(zip(*(column.tolist() for column in columns), strict=True))
    assert [(at_ns, start.worker, start.subnet, start.size) for at_ns, start in started] == expected
    assert [start.batch for _, start in started] == list(range(len(batches)))
    lost = batches.lost.nonzero()[0].tolist()
    assert sorted(lost_batches) == sorted(zip(batches.finish_ns[lost].tolist(), lost, strict=True))
    delays = case.cluster.actuation_delays(case.table)
    latency_of = service_times(case.table, case.cluster.latency).of_run(0)
    overhead_of = case.cluster.overheads(0)
    for batch, (at_ns, start) in enumerate(started):
        if not batches.lost[batch]:
            run_ns = latency_of(start.subnet, start.size, start.head) + overhead_of(start.size, start.head)
            assert batches.finish_ns[batch] == at_ns + run_ns + start.actuates * delays[start.subnet]


def new_scheduler(trace: Trace, policy: Scripted, workers: int = 1, table: LatencyTable = TABLE) -> Scheduler:
    return Scheduler(queue_for(trace), Cluster(workers), table, policy, 0)


def test_a_late_report_of_a_lost_batch_asks_nobody() -> None:
    policy = Scripted(lambda view: Dispatch(0, 1) if view.now_ns == 0 else Wait(99))
    scheduler = new_scheduler(trace_of(0, 5), policy)
    assert scheduler.settle(0)[0] == [BatchStart(0, worker=0, subnet=0, size=1, actuates=False, head=0)]
    assert scheduler.settle(4, failed=[0]) == ([], [0], None)
    assert scheduler.settle(6, recovered=[0]) == ([], [], 99)
    assert scheduler.settle(10, completed=[(0, 0)]) == ([], [], 99)
    assert [view.now_ns for view in policy.seen] == [0, 6]


def test_a_batch_may_take_longer_than_its_table_says() -> None:
    """A live worker reports when it is done; until then the scheduler knows nothing of it."""
    scheduler = new_scheduler(trace_of(0, 500), Scripted(lambda _: Dispatch(1, 1)))
    scheduler.settle(0)
    assert scheduler.settle(500) == ([], [], None)
    assert not scheduler.idle
    starts, _, wake_ns = scheduler.settle(10**9, completed=[(0, 0)])
    assert (starts, wake_ns) == ([BatchStart(1, worker=0, subnet=1, size=1, actuates=False, head=1)], None)


def test_a_late_wake_up_is_still_the_end_of_the_wait() -> None:
    """A live clock is never called at the very nanosecond."""
    policy = Scripted(lambda view: Dispatch(0, 1) if view.now_ns >= 50 else Wait(50))
    scheduler = new_scheduler(trace_of(0), policy)
    assert scheduler.settle(0) == ([], [], 50)
    assert len(scheduler.settle(53)[0]) == 1


def test_a_worker_that_comes_back_and_fails_at_one_instant_is_down() -> None:
    faults = (WorkerFailure(0, 5, 20), WorkerFailure(0, 20, 40))
    result = simulate(trace_of(0, 20), Cluster(1, faults=faults), TABLE, Scripted(lambda _: Dispatch(0, 1)))
    assert result.batches.start_ns.tolist() == [0, 40]


def test_a_view_sees_the_state_after_the_batches_started_before_it() -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def look(view: View) -> Dispatch:
        seen.append((view.queue_length, tuple(view.system.free_workers())))
        return Dispatch(0, 1)

    new_scheduler(trace_of(0, 0, 0), Scripted(look), workers=2).settle(0)
    assert seen == [(3, (0, 1)), (2, (1,))]
