"""The loop of the compiled engine for several queues: as `sim.compiled.kernel`, with the order of offers among queues.

It replays a trace as a whole, which is sorted by queue before. Where deadlines never decrease in any queue, the queries
that wait in one are a slice of this array, else a heap in the same place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.compiled.compiling import BOOL, BOOLS, INT, INTS, NOTHING, READ_CODES, READ_INTS, compiled
from sim.compiled.heaps import pop, push, without
from sim.compiled.kernel import drawn_latency
from sim.compiled.loop_state import (
    CHANGE,
    COMES,
    DROPPED,
    FAILED,
    FAILS,
    FAR,
    GONE,
    HELD_NS,
    IDLE,
    LENGTH,
    LOG_TYPE,
    NEW,
    NOBODY,
    RUNNING,
)
from sim.compiled.offers import begin, in_turn, most_urgent
from sim.compiled.queue_state import ARRIVALS_TYPE, FAIR, QUEUE_SETTING_TYPE, QUEUE_STATE_TYPE, TURN
from sim.compiled.step_policy import DROP, HOLD

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.compiled.compiling import Bools, Ints
    from sim.compiled.loop_state import Log
    from sim.compiled.queue_state import ArrivalArrays, QueueSetting, QueueState


@compiled(BOOL(ARRIVALS_TYPE, INTS))
def are_in_order(arrivals: ArrivalArrays, last_ns: Ints) -> bool:
    """Return whether deadlines never decrease in any queue.

    Args:
        arrivals: The queries.
        last_ns: In: less than all deadlines, int64, shape (queues,). Changed.
    """
    queue_of, deadline_ns, found = arrivals.queue, arrivals.deadline_ns, True
    for query in range(queue_of.size):
        of = queue_of[query]
        found &= deadline_ns[query] >= last_ns[of]
        last_ns[of] = deadline_ns[query]
    return found


@compiled(NOTHING(READ_CODES, INTS, INTS))
def line_up(queue_of: npt.NDArray[np.uint16], ends: Ints, waiting: Ints) -> None:
    """Sort queries by queue and then arrival.

    Args:
        queue_of: The queue of each query.
        ends: Out: where each queue ends in `waiting`, shape (queues + 1,); in: 0.
        waiting: Out: the queries, int64, shape (queries,).
    """
    one = np.uint16(1)
    for query in range(queue_of.size):
        ends[queue_of[query] + one] += 1
    for place in range(1, ends.size):
        ends[place] += ends[place - 1]
    for query in range(queue_of.size):
        of = queue_of[query]
        waiting[np.uint64(ends[of])] = query
        ends[of] += 1


@compiled(INT(ARRIVALS_TYPE, INT, INT, INT, QUEUE_STATE_TYPE, BOOLS))
def _admit(arrivals: ArrivalArrays, place: int, now: int, bound: int, state: QueueState, rejected: Bools) -> int:
    """Admit to a queue what has arrived, and return how much.

    Args:
        arrivals: The queries.
        place: The queue, to which a query has come.
        now: The time.
        bound: The most queries that may wait in it.
        state: In and out: the state.
        rejected: Out: whether each query found its queue full.
    """
    arrival_ns, waiting, end, one = arrivals.arrival_ns, state.waiting, np.uint64(state.ends[place]), np.uint64(1)
    at, head, length = np.uint64(state.upcoming[place]), state.head[place], state.length[place]
    next_ns = state.next_ns[place]
    while next_ns <= now:
        query = waiting[at]
        if length >= bound:
            rejected[query] = True
        elif state.keys.size == 0:
            waiting[np.uint64(head + length)] = query
            length += 1
        else:
            length = push(state.keys, waiting, head, length, arrivals.deadline_ns[query], query)
        at += one
        next_ns = arrival_ns[np.uint64(waiting[at])] if at < end else FAR
    came = int(length - state.length[place])
    state.upcoming[place], state.next_ns[place], state.length[place] = np.int64(at), next_ns, length
    state.head_ns[place] = arrivals.deadline_ns[waiting[head]]
    return came


@compiled(NOTHING(READ_INTS, INT, INT, QUEUE_STATE_TYPE, INTS, INT))
def _take(deadline_ns: Ints, place: int, count: int, state: QueueState, left: Ints, gone: int) -> None:
    """Take the most urgent queries out of a queue, and write them down in order of leaving.

    Args:
        deadline_ns: Deadlines.
        place: The queue.
        count: How many.
        state: In and out: the state.
        left: Out: queries in order of leaving.
        gone: Queries that have left before.
    """
    waiting, head, length = state.waiting, state.head[place], state.length[place]
    if state.keys.size == 0:
        for nth in range(count):
            left[np.uint64(gone + nth)] = waiting[np.uint64(head + nth)]
        head += count
        length -= count
    else:
        for nth in range(count):
            left[gone + nth] = waiting[head]
            length = pop(state.keys, waiting, head, length)
    state.head[place], state.length[place] = head, length
    if length > 0:
        state.head_ns[place] = deadline_ns[waiting[head]]


@compiled(INT(QUEUE_SETTING_TYPE, ARRIVALS_TYPE, QUEUE_STATE_TYPE, INT, LOG_TYPE, INTS, BOOLS))
def advance_queues(  # noqa: C901, PLR0912, PLR0915 - one loop that numba compiles as one
    setting: QueueSetting,
    arrivals: ArrivalArrays,
    state: QueueState,
    until_ns: int,
    log: Log,
    left: Ints,
    rejected: Bools,
) -> int:
    """Replay up to an instant and return the number of rows written to the log.

    Args:
        setting: The constants.
        arrivals: The queries.
        state: In and out: the state.
        until_ns: The run stops before the first instant from here on, with all queries admitted that arrived before.
            `FAR` for its end.
        log: Out: the rows, arrays of shape (queries,).
        left: Out: the queries in order of leaving their queues, int64, shape (queries,).
        rejected: Out: whether each query found its queue full; in: False.
    """
    deadline_ns, in_order = arrivals.deadline_ns, state.keys.size == 0
    order, alone_ns, ranks = setting.order, setting.alone_ns, setting.rank
    latency_ns, changes, kind_of, first_of = setting.latency_ns, setting.changes, setting.kind, setting.first
    kinds, queues = first_of.size, setting.rank.size
    longest, dispatch_ns, one = setting.rows.shape[1], setting.dispatch_ns, setting.dispatch
    nodes_ns, nodes, parts, is_linear, latency_key = setting.drawn
    is_drawn, dispatch_is_drawn = nodes_ns.size > 0, one.nodes_ns.size > 0
    idle_of, free, free_ns, busy = state.idle, state.free, state.free_ns, state.busy
    loaded, last_ns, fails_ns = state.loaded, state.last_ns, state.fails_ns
    length, head_ns, next_ns = state.length, state.head_ns, state.next_ns
    # What may still be used, and whose turn it is; and the same where the offer that was made last is taken.
    deficit, ahead, offered, turn, next_turn = state.deficit, state.ahead, state.offered, state.at[TURN], 0
    idle, running, waits, change = state.at[IDLE], state.at[RUNNING], state.at[LENGTH], state.at[CHANGE]
    rows, gone, held_ns, is_fair = 0, 0, state.at[HELD_NS], setting.order == FAIR and queues > 1

    while True:
        # The next instant at which something can happen. While a worker is idle, all queues are empty or held.
        now = free_ns[0] if (idle == 0 or waits > 0) and running > 0 else FAR
        if change < len(changes):
            now = min(now, changes[change, 0])
        if idle > 0 and waits > 0:
            now = min(now, held_ns)
        if idle > 0:
            for place in range(queues):
                now = min(now, next_ns[place])
        if now >= until_ns:
            break

        while running > 0 and free_ns[0] <= now:
            worker = busy[0]
            running = pop(free_ns, busy, 0, running)
            if loaded[worker] != GONE:
                kind = kind_of[worker]
                idle_of[kind] = push(free, free, first_of[kind], idle_of[kind], worker, worker)
                idle += 1

        # Nothing leaves a queue between two offers of it, so its queries are admitted at the next one, and here only
        # those that may be its most urgent one.
        for place in range(queues):
            if next_ns[place] <= now and (length[place] == 0 or not in_order):
                waits += _admit(arrivals, place, now, setting.bounds[place], state, rejected)

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
                loaded[worker] = FAILED if changes[change, 2] == FAILS else GONE
                last_ns[worker] = 0
            change += 1

        if idle > 0 and waits > 0:
            for place in range(queues):
                limit_ns = setting.limits_ns[change, place] + now + dispatch_ns
                if next_ns[place] <= now and head_ns[place] < limit_ns:
                    waits += _admit(arrivals, place, now, setting.bounds[place], state, rejected)
                while length[place] > 0 and head_ns[place] < limit_ns:
                    _take(deadline_ns, place, 1, state, left, gone)
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
            if next_ns[place] <= now:
                waits += _admit(arrivals, place, now, setting.bounds[place], state, rejected)
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
            query = state.waiting[state.head[place]]
            _take(deadline_ns, place, size, state, left, gone)
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

    for place in range(queues):  # while no worker is idle, what arrives waits to be admitted
        if next_ns[place] < until_ns:
            waits += _admit(arrivals, place, until_ns - 1, setting.bounds[place], state, rejected)
    state.at[IDLE], state.at[RUNNING], state.at[LENGTH], state.at[CHANGE] = idle, running, waits, change
    state.at[HELD_NS], state.at[TURN] = held_ns, turn
    return rows
