"""The loop of the compiled engine for a queue of each worker: as `sim.compiled.queue_kernel`, worker by worker.

At an instant all idle workers at which queries wait are offered these: so are those whose policies hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.compiled.compiling import BOOLS, INT, INTS, NOTHING, READ_INTS, compiled
from sim.compiled.heaps import merged, pop, push, without_root
from sim.compiled.kernel import drawn_latency, quantile
from sim.compiled.loop_state import (
    ARRIVED,
    CHANGE,
    COMES,
    DROPPED,
    FAILED,
    FAILS,
    FAR,
    GONE,
    HELD_NS,
    LOG_TYPE,
    NEW,
    NOBODY,
    RUNNING,
)
from sim.compiled.offers import begin, in_turn, most_urgent
from sim.compiled.queue_state import ARRIVALS_TYPE, FAIR, QUEUE_SETTING_TYPE
from sim.compiled.routed_state import (
    ALIVE,
    NEXT,
    OPEN,
    RANDOM,
    ROUTED_STATE_TYPE,
    ROUTES_TYPE,
    SHORTEST,
    STRAYS,
)
from sim.compiled.step_policy import DROP, HOLD

if TYPE_CHECKING:
    from sim.compiled.compiling import Bools, Ints
    from sim.compiled.loop_state import Log
    from sim.compiled.queue_state import ArrivalArrays, QueueSetting
    from sim.compiled.routed_state import RoutedState, Routes


@compiled(NOTHING(ROUTED_STATE_TYPE, INT, INT))
def _set_load(state: RoutedState, worker: int, queries: int) -> None:
    """Change the load of a worker, and who has the smallest."""
    load, fewest = state.load, state.fewest
    load[worker] = queries
    place = (worker + load.size) // 2
    while place > 0:
        one, other = fewest[2 * place], fewest[2 * place + 1]
        is_other = load[other] < load[one] or (load[other] == load[one] and other < one)
        fewest[place] = other if is_other else one
        place //= 2


@compiled(NOTHING(ROUTES_TYPE, ROUTED_STATE_TYPE, INT))
def _open(routes: Routes, state: RoutedState, worker: int) -> None:
    """Add a worker to those that are idle and at which queries wait."""
    place = state.at[OPEN]
    while place > 0 and routes.rank[state.open[place - 1]] > routes.rank[worker]:
        state.open[place] = state.open[place - 1]
        place -= 1
    state.open[place] = worker
    state.at[OPEN] += 1


@compiled(NOTHING(ROUTES_TYPE, ROUTED_STATE_TYPE, READ_INTS, INT, INT))
def _join(routes: Routes, state: RoutedState, deadline_ns: Ints, query: int, place: int) -> None:
    """Have a query wait at a worker; one at least is alive.

    Args:
        routes: Who gets it.
        state: In and out: the state.
        deadline_ns: Deadlines.
        query: The query.
        place: Its queue.
    """
    if routes.rule == SHORTEST:
        worker = state.fewest[1]
    elif routes.rule == RANDOM:
        worker = state.alive[quantile(routes.key, query) * state.at[ALIVE] >> 32]
    else:
        worker = state.at[NEXT]
        while worker == state.load.size or state.load[worker] == FAR:
            worker = worker + 1 if worker < state.load.size else 0
        state.at[NEXT] = worker + 1
    state.child[query] = -1
    root = merged(deadline_ns, state.child, state.sibling, state.root[worker, place], query)
    state.root[worker, place], state.head_ns[worker, place] = root, deadline_ns[root]
    state.length[worker, place] += 1
    state.total[worker] += 1
    _set_load(state, worker, state.load[worker] + 1)
    if state.is_idle[worker] and state.total[worker] == 1:
        _open(routes, state, worker)


@compiled(NOTHING(ROUTED_STATE_TYPE, READ_INTS, INT, INT, INT, INTS, INT))
def _take(state: RoutedState, deadline_ns: Ints, worker: int, place: int, count: int, left: Ints, gone: int) -> None:
    """Take the most urgent queries out of a queue of a worker, and write them down in order of leaving.

    Args:
        state: In and out: the state.
        deadline_ns: Deadlines.
        worker: The worker.
        place: The queue.
        count: How many.
        left: Out: queries in order of leaving.
        gone: Queries that have left before.
    """
    root = state.root[worker, place]
    for nth in range(count):
        left[gone + nth] = root
        root = without_root(deadline_ns, state.child, state.sibling, root)
    state.root[worker, place] = root
    state.length[worker, place] -= count
    state.total[worker] -= count
    if root >= 0:
        state.head_ns[worker, place] = deadline_ns[root]


@compiled(NOTHING(ROUTED_STATE_TYPE, READ_INTS, INT, INT))
def _remove(state: RoutedState, deadline_ns: Ints, worker: int, mark: int) -> None:
    """Have a worker fail or go, with `FAILED` or `GONE` for its subnet; the queries that wait there are stranded."""
    at, stranded = state.at, state.stranded
    opened, at[OPEN] = at[OPEN], 0
    for place in range(opened):
        if state.open[place] != worker:
            state.open[at[OPEN]] = state.open[place]
            at[OPEN] += 1
    for place in range(state.waits.size):
        while state.length[worker, place] > 0:
            query = state.root[worker, place]
            _take(state, deadline_ns, worker, place, 1, stranded, at[STRAYS])
            at[STRAYS] = push(stranded, stranded, 0, at[STRAYS], query, query)
    state.is_idle[worker], state.runs[worker] = False, 0
    state.loaded[worker], state.last_ns[worker] = mark, 0
    _set_load(state, worker, FAR)


@compiled(NOTHING(ROUTES_TYPE, ROUTED_STATE_TYPE, ARRIVALS_TYPE))
def _reroute(routes: Routes, state: RoutedState, arrivals: ArrivalArrays) -> None:
    """Have stranded queries wait at workers, if any are alive, after workers came or went."""
    at, stranded = state.at, state.stranded
    at[ALIVE] = 0
    for worker in range(state.load.size):
        if state.load[worker] < FAR:
            state.alive[at[ALIVE]] = worker
            at[ALIVE] += 1
    while at[ALIVE] > 0 and at[STRAYS] > 0:
        query = stranded[0]
        at[STRAYS] = pop(stranded, stranded, 0, at[STRAYS])
        _join(routes, state, arrivals.deadline_ns, query, arrivals.queue[query])


@compiled(INT(QUEUE_SETTING_TYPE, ROUTES_TYPE, ARRIVALS_TYPE, ROUTED_STATE_TYPE, INT, LOG_TYPE, INTS, BOOLS))
def advance_routed(  # noqa: C901, PLR0912, PLR0915 - one loop that numba compiles as one
    setting: QueueSetting,
    routes: Routes,
    arrivals: ArrivalArrays,
    state: RoutedState,
    until_ns: int,
    log: Log,
    left: Ints,
    rejected: Bools,
) -> int:
    """Replay up to an instant and return the number of rows written to the log.

    Args:
        setting: The constants; its limits are not used.
        routes: How queries get to workers.
        arrivals: The queries.
        state: In and out: the state.
        until_ns: The run stops before the first instant from here on. `FAR` for its end.
        log: Out: the rows, arrays of shape (queries,).
        left: Out: the queries in order of leaving their queues, int64, shape (queries,).
        rejected: Out: whether each query found its queue full; in: False.
    """
    arrival_ns, deadline_ns, queue_of = arrivals.arrival_ns, arrivals.deadline_ns, arrivals.queue
    latency_ns, changes, kind_of, dispatch_ns = setting.latency_ns, setting.changes, setting.kind, setting.dispatch_ns
    queries, kinds, queues, longest = arrival_ns.size, setting.first.size, setting.rank.size, setting.rows.shape[1]
    nodes_ns, nodes, parts, is_linear, latency_key = setting.drawn
    one, is_drawn, dispatch_is_drawn = setting.dispatch, nodes_ns.size > 0, setting.dispatch.nodes_ns.size > 0
    at, is_idle, runs, load, total, waits = state.at, state.is_idle, state.runs, state.load, state.total, state.waits
    length, head_ns, free_ns, busy = state.length, state.head_ns, state.free_ns, state.busy
    loaded, last_ns = state.loaded, state.last_ns
    deficit, ahead, offered, is_fair = state.deficit, state.ahead, state.offered, setting.order == FAIR and queues > 1
    running, arrived, change, held_ns, rows, gone = at[RUNNING], at[ARRIVED], at[CHANGE], at[HELD_NS], 0, 0

    while True:
        # The next instant at which something can happen. Workers that are open now are held.
        now = min(free_ns[0] if running > 0 else FAR, held_ns)
        if change < len(changes):
            now = min(now, changes[change, 0])
        if arrived < queries:
            now = min(now, arrival_ns[arrived])
        if now >= until_ns:
            at[RUNNING], at[ARRIVED], at[CHANGE], at[HELD_NS] = running, arrived, change, held_ns
            return rows

        while running > 0 and free_ns[0] <= now:
            worker = busy[0]
            running = pop(free_ns, busy, 0, running)
            if loaded[worker] != GONE:
                _set_load(state, worker, load[worker] - runs[worker])
                is_idle[worker], runs[worker] = True, 0
                if total[worker] > 0:
                    _open(routes, state, worker)

        while arrived < queries and arrival_ns[arrived] <= now:
            place = queue_of[arrived]
            if waits[place] >= setting.bounds[place]:
                rejected[arrived] = True
            elif at[ALIVE] > 0:
                _join(routes, state, deadline_ns, arrived, place)
                waits[place] += 1
            else:
                at[STRAYS] = push(state.stranded, state.stranded, 0, at[STRAYS], arrived, arrived)
                waits[place] += 1
            arrived += 1

        if change < len(changes) and changes[change, 0] <= now:
            while change < len(changes) and changes[change, 0] <= now:
                worker = changes[change, 1]
                if changes[change, 2] == COMES:
                    is_idle[worker], state.fails_ns[worker] = True, changes[change, 3]
                    _set_load(state, worker, 0)
                else:
                    _remove(state, deadline_ns, worker, FAILED if changes[change, 2] == FAILS else GONE)
                change += 1
            _reroute(routes, state, arrivals)

        held_ns, offers, at[OPEN] = FAR, at[OPEN], 0
        for nth in range(offers):
            worker = state.open[nth]
            kind = kind_of[worker]
            for place in range(queues):
                limit_ns = routes.limits_ns[place, kind] + now + dispatch_ns
                while length[worker, place] > 0 and head_ns[worker, place] < limit_ns:
                    _take(state, deadline_ns, worker, place, 1, left, gone)
                    _set_load(state, worker, load[worker] - 1)
                    log.start_ns[rows], log.finish_ns[rows], log.free_ns[rows], log.worker[rows] = now, now, now, NOBODY
                    log.row[rows], log.size[rows], log.lost[rows] = DROPPED, 1, False
                    rows, gone, waits[place] = rows + 1, gone + 1, waits[place] - 1

            next_turn = begin(offered, deficit[worker], state.turn[worker], ahead)
            while is_idle[worker] and total[worker] > 0:
                if is_fair:
                    place = in_turn(setting.quantum_ns, length[worker], offered, ahead, next_turn)
                else:
                    urgent = setting.order, setting.alone_ns, setting.rank, kind, head_ns[worker]
                    place = most_urgent(*urgent, length[worker], offered)
                if place < 0:  # all are held
                    state.open[at[OPEN]] = worker
                    at[OPEN] += 1
                    break
                next_turn = place
                slack, block = head_ns[worker, place] - now - dispatch_ns, place * kinds + kind
                low, above, size = setting.edges[block], setting.edges[block + 1], length[worker, place]
                column = min(size, longest) - 1
                while low < above:  # faster than `np.searchsorted`
                    middle = (low + above) >> 1
                    if setting.from_ns[middle] <= slack:
                        low = middle + 1
                    else:
                        above = middle
                row, number = setting.rows[low + block, column], setting.sizes[low + block, column]
                if row == HOLD:
                    held_ns, offered[place] = min(held_ns, now + slack - number), True
                    continue
                size = min(size, number)
                query = state.root[worker, place]
                _take(state, deadline_ns, worker, place, size, left, gone)
                gone, waits[place] = gone + size, waits[place] - size
                ran_by, finish, frees, lost = NOBODY, now, now, False
                if row == DROP:
                    row = DROPPED
                    _set_load(state, worker, load[worker] - size)
                else:
                    if is_fair:
                        state.turn[worker] = begin(offered, ahead, next_turn, deficit[worker])
                        deficit[worker, place] -= dispatch_ns + setting.planned_ns[row, size]
                    latency, overhead = latency_ns[row, size], dispatch_ns
                    if is_drawn:
                        cell = nodes[row, size], parts[row, size], is_linear
                        latency = drawn_latency(nodes_ns, *cell, latency_key, query)
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
                    fails = state.fails_ns[worker]
                    lost, finish = fails < finish, min(finish, fails)
                    if frees <= fails:
                        running = push(free_ns, busy, 0, running, frees, worker)
                    ran_by, frees, is_idle[worker], runs[worker] = worker, min(frees, fails), False, size
                log.start_ns[rows], log.finish_ns[rows], log.free_ns[rows], log.worker[rows] = (
                    now,
                    finish,
                    frees,
                    ran_by,
                )
                log.row[rows], log.size[rows], log.lost[rows] = row, size, lost
                rows += 1
                next_turn = begin(offered, deficit[worker], state.turn[worker], ahead)  # all is offered anew
