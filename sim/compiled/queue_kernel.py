"""The loop of the compiled engine for several queues: as `sim.compiled.kernel`, with the order of offers among queues.

It replays a trace as a whole. Queries of a queue wait in order of arrival where deadlines never decrease in any queue,
else in a heap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.compiled.compiling import BOOL, BOOLS, INT, INTS, NOTHING, READ_INTS, compiled
from sim.compiled.heaps import pop, push, without
from sim.compiled.kernel import drawn_latency
from sim.compiled.loop_state import COMES, DROPPED, FAILED, FAR, LOG_TYPE, NEW, NOBODY
from sim.compiled.offers import begin, in_turn, most_urgent
from sim.compiled.queue_state import ARRIVALS_TYPE, FAIR, QUEUE_SETTING_TYPE
from sim.compiled.step_policy import DROP, HOLD

if TYPE_CHECKING:
    from sim.compiled.compiling import Bools, Ints
    from sim.compiled.loop_state import Log
    from sim.compiled.queue_state import ArrivalArrays, QueueSetting


@compiled(NOTHING(BOOL, READ_INTS, INT, INT, INT, INTS, INTS, INTS, INTS, INTS, INTS, INT))
def _take(
    in_order: bool,
    deadline_ns: Ints,
    place: int,
    count: int,
    start: int,
    keys: Ints,
    waiting: Ints,
    head: Ints,
    length: Ints,
    head_ns: Ints,
    left: Ints,
    gone: int,
) -> None:
    """Take the most urgent queries out of a queue, and write them down in order of leaving.

    Args:
        in_order: Whether queries of a queue leave it in order of arrival.
        deadline_ns: Deadlines.
        place: The queue.
        count: How many.
        start: Where it begins in `keys` and `waiting`.
        keys: In and out: deadlines, if the queue is a heap.
        waiting: In and out: queries of all queues.
        head: In and out: the first query that waits in each queue, if these are in order.
        length: In and out: queries that wait in each.
        head_ns: In and out: the deadline of the most urgent one of each.
        left: Out: queries in order of leaving.
        gone: Queries that have left before.
    """
    for nth in range(count):
        if in_order:
            left[gone + nth] = waiting[head[place] + nth]
        else:
            left[gone + nth] = waiting[start]
            length[place] = pop(keys, waiting, start, length[place])
    if in_order:
        head[place] += count
        length[place] -= count
    if length[place] > 0:
        head_ns[place] = deadline_ns[waiting[head[place] if in_order else start]]


@compiled(INT(QUEUE_SETTING_TYPE, ARRIVALS_TYPE, LOG_TYPE, INTS, BOOLS))
def advance_queues(  # noqa: C901, PLR0912, PLR0915 - one loop that numba compiles as one
    setting: QueueSetting, arrivals: ArrivalArrays, log: Log, left: Ints, rejected: Bools
) -> int:
    """Replay a trace and return the number of rows written to the log.

    Args:
        setting: The constants.
        arrivals: The queries.
        log: Out: the rows, arrays of shape (queries,).
        left: Out: the queries in order of leaving their queues, int64, shape (queries,).
        rejected: Out: whether each query found its queue full; in: False.
    """
    arrival_ns, deadline_ns, queue_of = arrivals.arrival_ns, arrivals.deadline_ns, arrivals.queue
    order, alone_ns, ranks = setting.order, setting.alone_ns, setting.rank
    latency_ns, changes, kind_of, first_of = setting.latency_ns, setting.changes, setting.kind, setting.first
    queries, kinds, queues, workers = len(arrival_ns), len(first_of), len(setting.rank), len(kind_of)
    longest, dispatch_ns, one = setting.rows.shape[1], setting.dispatch_ns, setting.dispatch
    nodes_ns, nodes, parts, is_linear, latency_key = setting.drawn
    is_drawn, dispatch_is_drawn = nodes_ns.size > 0, one.nodes_ns.size > 0
    # Workers.
    idle_of, free = np.zeros(kinds, np.int64), np.arange(workers)
    for worker in range(workers):
        idle_of[kind_of[worker]] += 1
    free_ns, busy = np.empty(workers, np.int64), np.empty(workers, np.int64)
    loaded, last_ns, fails_ns = np.full(workers, NEW), np.zeros(workers, np.int64), np.full(workers, FAR)
    for number in range(len(changes) - 1, -1, -1):
        if changes[number, 2] != COMES:
            fails_ns[changes[number, 1]] = changes[number, 0]
    # Queues: the part of each in these arrays has room for all of its queries.
    start = np.zeros(queues + 1, np.int64)
    in_order, last = True, np.full(queues, -FAR)
    for query in range(queries):
        of = queue_of[query]
        start[of + np.uint16(1)] += 1
        in_order &= deadline_ns[query] >= last[of]
        last[of] = deadline_ns[query]
    for place in range(queues):
        start[place + 1] += start[place]
    waiting, keys = np.empty(queries, np.int64), np.empty(0 if in_order else queries, np.int64)
    head, tail = start[:-1].copy(), start[:-1].copy()
    length, head_ns = np.zeros(queues, np.int64), np.zeros(queues, np.int64)
    lists = waiting, head, length, head_ns
    # What may still be used, and whose turn it is; and the same where the offer that was made last is taken.
    deficit, ahead, turn, next_turn = np.zeros(queues), np.zeros(queues), queues - 1, queues - 1
    offered = np.zeros(queues, np.bool_)
    idle, running, waits, arrived, change, rows, gone = workers, 0, 0, 0, 0, 0, 0
    held_ns, is_fair = FAR, setting.order == FAIR and queues > 1

    while True:
        # The next instant at which something can happen. While a worker is idle, all queues are empty or held.
        now = free_ns[0] if (idle == 0 or waits > 0) and running > 0 else FAR
        if change < len(changes):
            now = min(now, changes[change, 0])
        if idle > 0 and waits > 0:
            now = min(now, held_ns)
        if idle > 0 and arrived < queries:
            now = min(now, arrival_ns[arrived])
        if now >= FAR:
            break

        while running > 0 and free_ns[0] <= now:
            worker = busy[0]
            running = pop(free_ns, busy, 0, running)
            kind = kind_of[worker]
            idle_of[kind] = push(free, free, first_of[kind], idle_of[kind], worker, worker)
            idle += 1

        while arrived < queries and arrival_ns[arrived] <= now:
            of = queue_of[arrived]
            if length[of] >= setting.bounds[of]:
                rejected[arrived] = True
            elif in_order:
                waiting[tail[of]] = arrived
                tail[of] += 1
                if length[of] == 0:
                    head_ns[of] = deadline_ns[arrived]
                length[of] += 1
                waits += 1
            else:
                length[of] = push(keys, waiting, start[of], length[of], deadline_ns[arrived], arrived)
                head_ns[of] = keys[start[of]]
                waits += 1
            arrived += 1

        while change < len(changes) and changes[change, 0] <= now:
            worker = changes[change, 1]
            kind = kind_of[worker]
            if changes[change, 2] == COMES:
                fails_ns[worker] = changes[change, 3]
                idle_of[kind] = push(free, free, first_of[kind], idle_of[kind], worker, worker)
                idle += 1
            else:
                idle -= idle_of[kind]
                idle_of[kind] = without(free, first_of[kind], idle_of[kind], worker)
                idle += idle_of[kind]
                loaded[worker], last_ns[worker] = FAILED, 0
            change += 1

        if idle > 0 and waits > 0:
            for place in range(queues):
                limit_ns = setting.limits_ns[change, place] + now + dispatch_ns
                while length[place] > 0 and head_ns[place] < limit_ns:
                    _take(
                        in_order, deadline_ns, place, 1, start[place], keys, waiting, head, length, head_ns, left, gone
                    )
                    log.start_ns[rows], log.finish_ns[rows], log.free_ns[rows], log.worker[rows] = now, now, now, NOBODY
                    log.row[rows], log.size[rows], log.lost[rows] = DROPPED, 1, False
                    rows, gone, waits = rows + 1, gone + 1, waits - 1

        held_ns, kind, next_turn = FAR, 0, begin(offered, deficit, turn, ahead)
        while idle > 0 and waits > 0 and kind < kinds:
            place = -1
            if idle_of[kind] > 0:
                if is_fair:
                    place = in_turn(setting.quantum_ns, length, offered, ahead, next_turn)
                else:
                    place = most_urgent(order, alone_ns, ranks, kind, head_ns, length, offered)
            if place < 0:
                kind, next_turn = kind + 1, begin(offered, deficit, turn, ahead)
                continue
            next_turn = place
            slack, block = head_ns[place] - now - dispatch_ns, place * kinds + kind
            low, above, column = setting.edges[block], setting.edges[block + 1], min(length[place], longest) - 1
            while low < above:  # faster than `np.searchsorted`
                middle = (low + above) >> 1
                if setting.from_ns[middle] <= slack:
                    low = middle + 1
                else:
                    above = middle
            row, size = setting.rows[low + block, column], setting.sizes[low + block, column]
            if row == HOLD:
                held_ns = min(held_ns, now + slack - size)
                offered[place] = True
                continue
            size = min(size, length[place])
            query = waiting[head[place] if in_order else start[place]]
            _take(in_order, deadline_ns, place, size, start[place], keys, *lists, left, gone)
            gone, waits = gone + size, waits - size
            if row == DROP:
                row, worker, finish, frees, lost = DROPPED, NOBODY, now, now, False
            else:
                if is_fair:
                    turn = begin(offered, ahead, next_turn, deficit)
                    deficit[place] -= dispatch_ns + setting.planned_ns[row, size]
                worker = free[first_of[kind]]
                idle_of[kind] = pop(free, free, first_of[kind], idle_of[kind])
                idle -= 1
                latency, overhead = latency_ns[row, size], dispatch_ns
                if is_drawn:
                    latency = drawn_latency(nodes_ns, nodes[row, size], parts[row, size], is_linear, latency_key, query)
                if dispatch_is_drawn:
                    overhead = drawn_latency(one.nodes_ns, one.first[0, 1], one.parts[0, 1], 1, one.key, query)
                overhead += setting.per_query_ns * size
                if loaded[worker] != setting.subnet[row]:
                    if loaded[worker] != NEW:
                        overhead += setting.actuation_ns[row]
                    loaded[worker] = setting.subnet[row]
                finish = frees = now + overhead + latency
                if setting.occupancy < 1:
                    frees = now + overhead + max(1, int(latency * setting.occupancy))
                    finish = last_ns[worker] = max(finish, last_ns[worker])
                fails = fails_ns[worker]
                lost, finish = fails < finish, min(finish, fails)
                if frees <= fails:
                    running = push(free_ns, busy, 0, running, frees, worker)
                frees = min(frees, fails)
            log.start_ns[rows], log.finish_ns[rows], log.free_ns[rows], log.worker[rows] = now, finish, frees, worker
            log.row[rows], log.size[rows], log.lost[rows] = row, size, lost
            rows += 1
            held_ns, kind = FAR, 0  # all that is free is offered anew
            next_turn = begin(offered, deficit, turn, ahead)

    for query in range(arrived, queries):  # no worker is left to whom these could be offered
        length[queue_of[query]] += 1
        rejected[query] = length[queue_of[query]] > setting.bounds[queue_of[query]]
    return rows
