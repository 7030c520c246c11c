"""Queues that grow are those of a trace that is known beforehand; who is cancelled leaves the others as they were."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policies.slackfit import SlackFit
from serving.growing_queues import GrowingQueues
from sim.engine.cluster import Cluster
from sim.engine.instant import Scheduler
from sim.engine.policy import Decision, View, Wait
from sim.engine.queues import CANCELLED, DROPPED, REJECTED, HeapQueue
from sim.engine.service_queue import ServiceQueue
from tests.serving.laws import TABLE

MS = 1_000_000

STEPS = st.lists(
    st.tuples(st.lists(st.integers(1, 50), max_size=5), st.sampled_from(["take", "drop", "before"]), st.integers(1, 4)),
    max_size=12,
)


@given(STEPS)
def test_it_is_the_queue_of_the_whole_trace(steps: list[tuple[list[int], str, int]]) -> None:
    arrivals = [10 * turn for turn, (slos, _, _) in enumerate(steps) for _ in slos]
    deadlines = [10 * turn + slo for turn, (slos, _, _) in enumerate(steps) for slo in slos]
    whole, queues = HeapQueue(arrivals, deadlines), GrowingQueues(Cluster(1), 0, [1])
    (growing,) = queues.queues(0)
    for turn, (slos, action, count) in enumerate(steps):
        for slo in slos:
            queues.arrive(10 * turn, slo)
        assert queues.waiting == whole.length + len(slos)
        whole.admit(10 * turn)
        queues.admit(10 * turn)
        for queue in (whole, growing):
            if action == "take" and queue.length:
                queue.take(min(count, queue.length))
            elif action == "drop" and queue.length:
                queue.drop(min(count, queue.length))
            else:
                queue.drop_before(10 * turn + count)
        assert growing.length == whole.length
        assert growing.deadlines(3) == whole.deadlines(3)
    batches = queues.batch_of_query()
    np.testing.assert_array_equal(batches, whole.batch_of_query())
    assert sorted(queues.dropped) == np.flatnonzero(batches == DROPPED).tolist()
    for number, queries in enumerate(queues.taken):
        assert sorted(queries) == np.flatnonzero(batches == number).tolist()


@given(st.data(), st.integers(1, 6), st.sampled_from(["central", "round_robin", "shortest"]))
def test_cancelled_queries_leave_the_others_as_they_were(data: st.DataObject, bound: int, routing: str) -> None:
    """What waits is what came, less what was taken, rejected and cancelled, in the order of deadlines."""
    cluster = Cluster(2, queues=(ServiceQueue("a", bound=bound), ServiceQueue("b")), routing=routing)
    queues, waiting = GrowingQueues(cluster, 0, [1, 1]), dict[int, tuple[int, int]]()
    for turn in range(data.draw(st.integers(1, 8))):
        for place, slo in data.draw(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 50)), max_size=5)):
            has_room = queues.has_room(place, 1)
            assert has_room == (place == 1 or sum(of == 0 for of, _ in waiting.values()) < bound)
            number = queues.arrive(10 * turn, slo, place)
            if has_room:
                waiting[number] = place, 10 * turn + slo
        queues.admit(10 * turn)
        gone = data.draw(st.lists(st.sampled_from(sorted(waiting)), unique=True)) if waiting else []
        queues.cancel(gone)
        for number in gone:
            del waiting[number]
        workers = range(1 if routing == "central" else 2)
        for place in (0, 1):
            left = sorted(deadline for of, deadline in waiting.values() if of == place)
            parts = [queues.queues(worker)[place] for worker in workers]
            assert sorted(due for part in parts for due in part.deadlines(part.length)) == left
            head = min((part for part in parts if part.length), key=lambda part: part.head_deadline(), default=None)
            if head is not None:
                head.take(1)
                (taken,) = queues.taken[-1]
                assert waiting.pop(taken) == (place, left[0])
        assert queues.waiting == len(waiting)
    found = queues.batch_of_query()
    assert np.count_nonzero(found == CANCELLED) + np.count_nonzero(found >= 0) + len(waiting) + len(
        queues.rejected
    ) == len(found)
    assert sorted(queues.rejected) == np.flatnonzero(found == REJECTED).tolist()


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=12), st.integers(0, 3))
def test_who_is_cancelled_while_the_worker_is_busy_might_as_well_not_have_come(
    later: list[tuple[int, bool]], waits: int
) -> None:
    """A query keeps the worker busy while others come, some of which are cancelled; then all decisions are compared."""

    def decisions(*, with_cancelled: bool) -> list[tuple[int, int, int, int]]:
        cluster = Cluster(1, drop="expired")
        queues = GrowingQueues(cluster, 0, [10 * MS])
        scheduler = Scheduler(queues, cluster, TABLE, SlackFit(), 0)
        queues.arrive(0, 50 * MS)
        (start,), _, _ = scheduler.settle(1)
        came = {queues.arrive(2, slo * MS): gone for slo, gone in later if with_cancelled or not gone}
        scheduler.settle(3)
        scheduler.settle(4, cancelled=[query for query, gone in came.items() if gone])
        found, at_ns = [], (5 + 10 * waits) * MS
        while start is not None:
            starts, _, _ = scheduler.settle(at_ns, completed=[(0, start.batch)])
            start = starts[0] if starts else None
            found += [(at_ns, one.subnet, one.size, queues.deadlines[one.head]) for one in starts]
            at_ns += 7 * MS
        assert queues.waiting == 0
        return found

    assert decisions(with_cancelled=True) == decisions(with_cancelled=False)


def test_a_policy_that_waits_is_asked_again_when_a_query_is_cancelled() -> None:
    """Else it would go on waiting for a head that is gone."""
    cluster, asked = Cluster(1), list[int]()

    class Waiting:
        def decide(self, view: View) -> Decision:
            asked.append(view.queue_length)
            return Wait(view.now_ns + MS)

    queues = GrowingQueues(cluster, 0, [MS])
    scheduler = Scheduler(queues, cluster, TABLE, Waiting(), 0)
    first, _ = queues.arrive(0, 9 * MS), queues.arrive(0, 9 * MS)
    scheduler.settle(1)
    scheduler.settle(2, cancelled=[first])
    assert asked == [2, 1]
