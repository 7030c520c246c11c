"""A queue that grows is the queue of a trace that is known beforehand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.growing_queue import GrowingQueue
from sim.engine.queues import DROPPED, HeapQueue

STEPS = st.lists(
    st.tuples(st.lists(st.integers(1, 50), max_size=5), st.sampled_from(["take", "drop", "before"]), st.integers(1, 4)),
    max_size=12,
)


@given(STEPS)
def test_it_is_the_queue_of_the_whole_trace(steps: list[tuple[list[int], str, int]]) -> None:
    arrivals = [10 * turn for turn, (slos, _, _) in enumerate(steps) for _ in slos]
    deadlines = [10 * turn + slo for turn, (slos, _, _) in enumerate(steps) for slo in slos]
    whole, growing = HeapQueue(arrivals, deadlines), GrowingQueue(1)
    for turn, (slos, action, count) in enumerate(steps):
        for slo in slos:
            growing.arrive(10 * turn, slo)
        assert growing.waiting == whole.length + len(slos)
        for queue in (whole, growing):
            queue.admit(10 * turn)
            if action == "take" and queue.length:
                queue.take(min(count, queue.length))
            elif action == "drop" and queue.length:
                queue.drop(min(count, queue.length))
            else:
                queue.drop_before(10 * turn + count)
        assert growing.length == whole.length
        assert growing.deadlines(3) == whole.deadlines(3)
    batches = growing.batch_of_query()
    np.testing.assert_array_equal(batches, whole.batch_of_query())
    assert sorted(growing.dropped) == np.flatnonzero(batches == DROPPED).tolist()
    for number, queries in enumerate(growing.taken):
        assert sorted(queries) == np.flatnonzero(batches == number).tolist()
