"""The loop of the compiled engine: the semantics of `sim.engine.instant` over arrays, without an event queue.

With one queue and decisions that depend on little more than slack and queue length, nothing can happen between the
instants at which a worker becomes free, a query meets a free worker, or a worker fails or recovers. The loop steps from
one to the next: one step per batch, and idle time is free. It stops at the end of its arrivals and continues with the
next, so that a trace need not be in memory as a whole.

The functions also run without numba's compiler, as `advance.py_func`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.compiled.compiling import BOOL, INT, INTS, READ_INTS, STEPS, compiled
from sim.compiled.heaps import pop, push, without
from sim.compiled.loop_state import (
    ARRIVED,
    BEFORE,
    CHANGE,
    COMES,
    DROPPED,
    FAILED,
    FAILS,
    FAR,
    GONE,
    HEAD,
    HELD_NS,
    IDLE,
    LENGTH,
    LOG_TYPE,
    NEW,
    NOBODY,
    RUNNING,
    SETTING_TYPE,
    STATE_TYPE,
)
from sim.compiled.step_policy import DROP, HOLD

if TYPE_CHECKING:
    from sim.compiled.compiling import Ints
    from sim.compiled.loop_state import Log, Setting, State


@compiled(INT(INT, INT))
def quantile(key: int, query: int) -> int:
    """Return `sim.tables.service_times.quantile`."""
    mixed = np.uint64(key) + (np.uint64(query) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return int((mixed ^ mixed >> np.uint64(31)) >> np.uint64(32))


@compiled(INT(READ_INTS, INT, INT, INT, INT, INT))
def drawn_latency(nodes_ns: Ints, first: int, parts: int, is_linear: int, key: int, query: int) -> int:
    """Return `sim.tables.service_times.Distributions.latency` for the `quantile` of a query."""
    place = quantile(key, query) * parts
    node = first + (place >> 32)
    low = nodes_ns[node]
    if is_linear:
        low += (nodes_ns[node + 1] - low) * (place >> 16 & 0xFFFF) >> 16
    return int(low)


@compiled(INT(SETTING_TYPE, STATE_TYPE, STEPS, READ_INTS, READ_INTS, BOOL, INT, LOG_TYPE, INTS))
def advance(  # noqa: C901, PLR0912, PLR0915 - one loop that numba compiles as one
    setting: Setting,
    state: State,
    step: Any,
    arrival_ns: Ints,
    deadline_ns: Ints,
    in_order: bool,
    until_ns: int,
    log: Log,
    left: Ints,
) -> int:
    """Replay up to an instant and return the number of rows written to the log.

    If the step function returns an invalid decision, the run ends, and the result is -1 minus the row of the log with
    its time, subnet and batch size; slack and queue length stand in place of the completion and of the worker.

    Args:
        setting: The constants.
        state: In and out: the state. Its query numbers are indices of these arrays.
        step: The compiled step function; any if the setting has a table.
        arrival_ns: Arrivals, int64, shape (queries,), never decreasing.
        deadline_ns: Deadlines, int64, shape (queries,).
        in_order: Whether deadlines never decrease: the queue is then a slice of the arrivals, else a heap.
        until_ns: The run stops before the first instant from here on; all arrivals before are known. `FAR` for its end.
        log: Out: the rows, arrays of shape (queries,).
        left: Out: the queries in order of leaving the queue, int64, shape (queries,); not written if `in_order`.
    """
    latency_ns, dispatch_ns, changes = setting.latency_ns, setting.dispatch_ns, setting.changes
    from_ns, decided, sizes = setting.from_ns, setting.rows, setting.sizes
    kind_of, first_of, edges = setting.kind, setting.first, setting.edges
    idle_of, kinds = state.idle, first_of.size
    nodes_ns, nodes, parts, is_linear, latency_key = setting.drawn
    one = setting.dispatch
    is_drawn, dispatch_is_drawn = nodes_ns.size > 0, one.nodes_ns.size > 0
    free, free_ns, busy, loaded = state.free, state.free_ns, state.busy, state.loaded
    waiting_ns, waiting = state.deadline_ns, state.waiting
    head, arrived, change = state.at[HEAD], state.at[ARRIVED], state.at[CHANGE]
    idle, running, length, held_ns = state.at[IDLE], state.at[RUNNING], state.at[LENGTH], state.at[HELD_NS]
    queries, longest, place = arrival_ns.size, decided.shape[1], from_ns.size
    limit_ns = changes[change - 1, 4] if change > 0 else setting.limit_ns
    prolongs = in_order and kinds == 1 and not setting.uses_step
    rows = gone = 0

    while True:
        # The next instant at which something can happen. While a worker is idle, the queue is empty or held.
        now = free_ns[0] if (idle == 0 or length > 0) and running > 0 else FAR
        if change < len(changes):
            now = min(now, changes[change, 0])
        if idle > 0 and length > 0:
            if prolongs:
                # Most arrivals prolong the hold: those until a decision differs or something else can happen.
                due_ns = deadline_ns[head] - dispatch_ns
                ends_ns = min(now, until_ns, due_ns - limit_ns + 1)
                while arrived < queries and arrival_ns[arrived] < min(ends_ns, held_ns):
                    while place > 0 and from_ns[place - 1] > due_ns - arrival_ns[arrived]:
                        place -= 1
                    column = min(arrived - head, longest - 1)
                    if decided[place, column] != HOLD:
                        break
                    held_ns = due_ns - sizes[place, column]
                    arrived += 1
            now = min(now, held_ns)
        if idle > 0 and arrived < queries:
            now = min(now, arrival_ns[arrived])
        if now >= until_ns:
            break

        while running > 0 and free_ns[0] <= now:
            worker = busy[0]
            running = pop(free_ns, busy, 0, running)
            if loaded[worker] != GONE:
                kind = kind_of[worker]
                idle_of[kind] = push(free, free, first_of[kind], idle_of[kind], worker, worker)
                idle += 1

        first = arrived
        while arrived < queries and arrival_ns[arrived] <= now:
            arrived += 1
        if in_order:
            length = arrived - head
        else:
            for query in range(first, arrived):
                length = push(waiting_ns, waiting, 0, length, deadline_ns[query], query)

        while change < len(changes) and changes[change, 0] <= now:
            worker = changes[change, 1]
            kind = kind_of[worker]
            if changes[change, 2] == COMES:
                state.fails_ns[worker] = changes[change, 3]
                idle_of[kind] = push(free, free, first_of[kind], idle_of[kind], worker, worker)
                idle += 1
            else:
                idle -= idle_of[kind]
                idle_of[kind] = without(free, first_of[kind], idle_of[kind], worker)
                idle += idle_of[kind]
                loaded[worker] = FAILED if changes[change, 2] == FAILS else GONE
                state.last_ns[worker] = 0
            limit_ns = changes[change, 4]
            change += 1

        held_ns, kind = FAR, 0
        while idle > 0 and length > 0 and kind < kinds:
            if idle_of[kind] == 0:
                kind += 1
                continue
            slack = (deadline_ns[head] if in_order else waiting_ns[0]) - now - dispatch_ns
            if slack < limit_ns:
                row, size = DROP, 1
                while in_order and size < length and deadline_ns[head + size] - now - dispatch_ns < limit_ns:
                    size += 1
            elif setting.uses_step:
                row, size = step(state.memory, now, slack, length, arrived + state.at[BEFORE], setting.planned_ns)
                runs = 0 <= row < len(setting.planned_ns) and 0 < size < latency_ns.shape[1]
                holds, drops = row == HOLD and 0 <= size < slack, row == DROP and 0 < size <= length
                if not (runs or holds or drops):
                    log.start_ns[rows], log.finish_ns[rows], log.worker[rows] = now, slack, length
                    log.row[rows], log.size[rows] = row, size
                    return -1 - rows
            else:
                place, above, column = edges[kind], edges[kind + 1], min(length, longest) - 1
                while place < above:  # faster than `np.searchsorted`
                    middle = (place + above) >> 1
                    if from_ns[middle] <= slack:
                        place = middle + 1
                    else:
                        above = middle
                row, size = decided[place + kind, column], sizes[place + kind, column]
            if row == HOLD:
                held_ns = min(held_ns, now + slack - size)
                kind += 1
                continue
            if row == DROP:
                row, worker, finish, frees, lost = DROPPED, NOBODY, now, now, False
            else:
                size = min(size, length)
                worker = free[first_of[kind]]
                idle_of[kind] = pop(free, free, first_of[kind], idle_of[kind])
                idle -= 1
                query = head + state.at[BEFORE] if in_order else waiting[0]
                latency, overhead = latency_ns[row, size], dispatch_ns
                if is_drawn:
                    latency = drawn_latency(nodes_ns, nodes[row, size], parts[row, size], is_linear, latency_key, query)
                if dispatch_is_drawn:
                    overhead = drawn_latency(one.nodes_ns, one.first[0, 1], one.parts[0, 1], 1, one.key, query)
                overhead += setting.per_query_ns * size
                if loaded[worker] != row:
                    if loaded[worker] != NEW:
                        overhead += setting.actuation_ns[row]
                    loaded[worker] = row
                finish = frees = now + overhead + latency
                if setting.occupancy < 1:
                    frees = now + overhead + max(1, int(latency * setting.occupancy))
                    finish = state.last_ns[worker] = max(finish, state.last_ns[worker])
                fails = state.fails_ns[worker]
                lost, finish = fails < finish, min(finish, fails)
                if frees <= fails:
                    running = push(free_ns, busy, 0, running, frees, worker)
                frees = min(frees, fails)
            log.start_ns[rows], log.finish_ns[rows], log.free_ns[rows], log.worker[rows] = now, finish, frees, worker
            log.row[rows], log.size[rows], log.lost[rows] = row, size, lost
            rows += 1
            held_ns, kind = FAR, 0  # all that is free is offered anew
            if in_order:
                head += size
                length -= size
            else:
                for gone_at in range(gone, gone + size):
                    left[gone_at] = waiting[0]
                    length = pop(waiting_ns, waiting, 0, length)
            gone += size

    state.at[HEAD], state.at[ARRIVED], state.at[CHANGE] = head, arrived, change
    state.at[IDLE], state.at[RUNNING], state.at[LENGTH], state.at[HELD_NS] = idle, running, length, held_ns
    return rows
