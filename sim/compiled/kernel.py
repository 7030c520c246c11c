"""The loop of the compiled engine: the semantics of `sim.engine.instant` over arrays, without an event queue.

With one queue and decisions that depend on little more than slack and queue length, nothing can happen between the
instants at which a worker becomes free, a query meets a free worker, or a worker fails or recovers. The loop steps from
one to the next: one step per batch, and idle time is free. It stops at the end of its arrivals and continues with the
next, so that a trace need not be in memory as a whole.

The functions also run without numba's compiler, as `advance.py_func`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sim.compiled.compiling import (
    BOOL,
    BOOLS,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    READ_GRID,
    READ_INTS,
    STEPS,
    compiled,
    tuple_of,
)

if TYPE_CHECKING:
    from sim.compiled.compiling import Bools, Floats, Ints

HEAD, ARRIVED, BEFORE, _CHANGE, IDLE, _RUNNING, _LENGTH, _HELD_NS = range(8)
"""Indices of `State.at`."""

FAR = 2**62
"""The time of events that never happen."""

DROPPED = -1
"""Placeholder in the log for the subnet of dropped queries."""

HOLD, DROP = -2, -3
"""Decisions in place of subnets: those of `sim.compiled.step_policy`, of which numba's cache would not see a change."""

_NONE, NOTHING_YET = -1, -2


class Drawn(NamedTuple):
    """`sim.tables.service_times.Distributions` by row, and the key of their luck; without nodes nothing is drawn."""

    nodes_ns: Ints
    first: Ints
    parts: Ints
    is_linear: int
    key: int


class Setting(NamedTuple):
    """The constants of a run; all arrays are read-only.

    Kinds are in the order in which they are offered; identical workers are one kind. A *row* is a subnet of a kind's
    table; the rows of the first kind come first. A step function knows one table, that of all kinds.

    Attributes:
        latency_ns: Latency by row and batch size if none is drawn, int64, shape (kinds x subnets, largest batch + 1).
        planned_ns: What step functions see, by subnet and batch size.
        actuation_ns: Delay of a switch to each row, int64, shape (kinds x subnets,).
        dispatch_ns: Overhead of a batch.
        per_query_ns: Overhead of each query in a batch.
        limit_ns: Queries with less slack are dropped, until the first change.
        kind: The kind of each worker, int64, shape (workers,).
        first: The first worker of each kind, whose numbers are consecutive, int64, shape (kinds,).
        changes: Failures and recoveries in order, int64, shape (changes, 5): time, worker, 1 for a failure, for a
            recovery the time of the worker's next failure, and `limit_ns` from then on.
        uses_step: Whether decisions come from a step function instead of the decision tables.
        drawn: What latencies are drawn from.
        dispatch: What the overhead of a batch is drawn from, as that of batches of one query in row 0.
        occupancy: The part of a latency after which a worker can take its next batch.
        edges: Where the slacks of each kind begin in `from_ns`, and where the last ones end, int64, shape (kinds + 1,).
        from_ns: As in `sim.compiled.tabulate.DecisionTable`, kind by kind, as the next two.
        rows: Rows, int64, shape (slacks + kinds, lengths); `HOLD` or `DROP` for other decisions.
        sizes: Batch size, likewise; the slack until which to hold, or the number of queries to drop.
    """

    latency_ns: Ints
    planned_ns: Ints
    actuation_ns: Ints
    dispatch_ns: int
    per_query_ns: int
    limit_ns: int
    kind: Ints
    first: Ints
    changes: Ints
    uses_step: bool
    drawn: Drawn
    dispatch: Drawn
    occupancy: float
    edges: Ints
    from_ns: Ints
    rows: Ints
    sizes: Ints


class State(NamedTuple):
    """The state of a run; `advance` changes all of it.

    Attributes:
        at: Indices of the first query in the queue and of the next arrival, arrivals before these arrays, index of the
            next change, idle and running workers, queue length, and the end of a hold. int64, shape (8,).
        idle: Number of idle workers of each kind, int64, shape (kinds,).
        free: Idle workers, a heap for each kind that begins at the place of its first worker, int64, shape (workers,).
        free_ns: When running workers can take their next batches, a heap with `busy`, int64, shape (workers,).
        busy: The numbers of these workers.
        loaded: The row of the subnet on each worker, int64, shape (workers,).
        fails_ns: Next failure of each worker, int64, shape (workers,).
        last_ns: When each worker finishes all batches that it has begun, int64, shape (workers,).
        deadline_ns: Deadlines of the queue, a heap with `waiting`; empty if deadlines never decrease.
        waiting: The numbers of these queries.
        memory: State of the step function, float64.
    """

    at: Ints
    idle: Ints
    free: Ints
    free_ns: Ints
    busy: Ints
    loaded: Ints
    fails_ns: Ints
    last_ns: Ints
    deadline_ns: Ints
    waiting: Ints
    memory: Floats


class Log(NamedTuple):
    """One row per batch or run of dropped queries, in order of leaving the queue; arrays of shape (rows,), int64.

    Attributes:
        start_ns: Time of the dispatch or the drop.
        finish_ns: Time of the completion, or of the failure of the worker.
        free_ns: When its worker could take the next batch, or failed; may be the same array.
        worker: Worker that ran it.
        row: Row that ran it; -1 for dropped queries.
        size: Number of queries.
        lost: Whether its worker failed, bool.
    """

    start_ns: Ints
    finish_ns: Ints
    free_ns: Ints
    worker: Ints
    row: Ints
    size: Ints
    lost: Bools


_DRAWN = tuple_of(Drawn, READ_INTS, READ_GRID, READ_GRID, INT, INT)
_COSTS = (READ_GRID, READ_GRID, READ_INTS, INT, INT, INT)
_DECIDED = (_DRAWN, _DRAWN, FLOAT, READ_INTS, READ_INTS, READ_GRID, READ_GRID)
_SETTING = tuple_of(Setting, *_COSTS, READ_INTS, READ_INTS, READ_GRID, BOOL, *_DECIDED)
_STATE = tuple_of(State, INTS, INTS, INTS, INTS, INTS, INTS, INTS, INTS, INTS, INTS, FLOATS)
_LOG = tuple_of(Log, INTS, INTS, INTS, INTS, INTS, INTS, BOOLS)


@compiled(INT(INTS, INTS, INT, INT, INT, INT))
def _push(keys: Ints, items: Ints, start: int, size: int, key: int, item: int) -> int:
    """Push an item onto the heap of `size` places from `start`, ordered by key and then item; return the new size."""
    place = start + size
    while place > start:
        above = start + (place - start - 1) // 2
        if keys[above] < key or (keys[above] == key and items[above] < item):
            break
        keys[place], items[place] = keys[above], items[above]
        place = above
    keys[place], items[place] = key, item
    return size + 1


@compiled(INT(INTS, INTS, INT, INT))
def _pop(keys: Ints, items: Ints, start: int, size: int) -> int:
    """Pop the first item of the heap of `size` places from `start`, which is not empty; return the new size."""
    place, last = start, start + size - 1
    key, item = keys[last], items[last]
    while True:
        below = 2 * place + 1 - start
        if below >= last:
            break
        other = below + 1
        if other < last and (keys[other] < keys[below] or (keys[other] == keys[below] and items[other] < items[below])):
            below = other
        if key < keys[below] or (key == keys[below] and item < items[below]):
            break
        keys[place], items[place] = keys[below], items[below]
        place = below
    keys[place], items[place] = key, item
    return size - 1


@compiled(INT(INTS, INT, INT, INT))
def _without(heap: Ints, start: int, size: int, item: int) -> int:
    """Remove an item from a heap if it is there; return the new size. Slow, and as rare as failures."""
    kept = 0
    for place in range(start, start + size):
        if heap[place] != item:
            kept = _push(heap, heap, start, kept, heap[place], heap[place])
    return kept


@compiled(INT(READ_INTS, INT, INT, INT, INT, INT))
def _latency(nodes_ns: Ints, first: int, parts: int, is_linear: int, key: int, query: int) -> int:
    """Return `sim.tables.service_times.Distributions.latency` for the `luck` of a query."""
    mixed = np.uint64(key) + (np.uint64(query) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    place = int((mixed ^ mixed >> np.uint64(31)) >> np.uint64(32)) * parts
    node = first + (place >> 32)
    low = nodes_ns[node]
    if is_linear:
        low += (nodes_ns[node + 1] - low) * (place >> 16 & 0xFFFF) >> 16
    return int(low)


@compiled(INT(_SETTING, _STATE, STEPS, READ_INTS, READ_INTS, BOOL, BOOL, _LOG, INTS))
def advance(  # noqa: C901, PLR0912, PLR0915 - one loop that numba compiles as one
    setting: Setting,
    state: State,
    step: Any,
    arrival_ns: Ints,
    deadline_ns: Ints,
    in_order: bool,
    final: bool,
    log: Log,
    left: Ints,
) -> int:
    """Replay to the end of the arrivals and return the number of rows written to the log.

    If the step function returns an invalid decision, the run ends, and the result is -1 minus the row of the log with
    its time, subnet and batch size; slack and queue length stand in place of the completion and of the worker.

    Args:
        setting: The constants.
        state: In and out: the state. Its query numbers are indices of these arrays.
        step: The compiled step function; any if the setting has a table.
        arrival_ns: Arrivals, int64, shape (queries,), never decreasing.
        deadline_ns: Deadlines, int64, shape (queries,).
        in_order: Whether deadlines never decrease: the queue is then a slice of the arrivals, else a heap.
        final: Whether these are the last arrivals; else the run stops at the first instant that later ones may affect.
        log: Out: the rows, arrays of shape (queries,).
        left: Out: the queries in order of leaving the queue, int64, shape (queries,); not written if `in_order`.
    """
    latency_ns, dispatch_ns, changes = setting.latency_ns, setting.dispatch_ns, setting.changes
    from_ns, decided, sizes = setting.from_ns, setting.rows, setting.sizes
    kind_of, first_of, edges = setting.kind, setting.first, setting.edges
    idle_of, kinds = state.idle, first_of.size
    nodes_ns, nodes, parts, is_linear, luck = setting.drawn
    one = setting.dispatch
    is_drawn, dispatch_is_drawn = nodes_ns.size > 0, one.nodes_ns.size > 0
    free, free_ns, busy, loaded = state.free, state.free_ns, state.busy, state.loaded
    waiting_ns, waiting = state.deadline_ns, state.waiting
    head, arrived, change = state.at[HEAD], state.at[ARRIVED], state.at[_CHANGE]
    idle, running, length, held_ns = state.at[IDLE], state.at[_RUNNING], state.at[_LENGTH], state.at[_HELD_NS]
    queries, longest, place = arrival_ns.size, decided.shape[1], from_ns.size
    last_ns = FAR if final else arrival_ns[queries - 1] if queries > 0 else 0
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
                until_ns = min(now, last_ns, due_ns - limit_ns + 1)
                while arrived < queries and arrival_ns[arrived] < min(until_ns, held_ns):
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
        if now >= last_ns:
            break

        while running > 0 and free_ns[0] <= now:
            worker = busy[0]
            running = _pop(free_ns, busy, 0, running)
            kind = kind_of[worker]
            idle_of[kind] = _push(free, free, first_of[kind], idle_of[kind], worker, worker)
            idle += 1

        first = arrived
        while arrived < queries and arrival_ns[arrived] <= now:
            arrived += 1
        if in_order:
            length = arrived - head
        else:
            for query in range(first, arrived):
                length = _push(waiting_ns, waiting, 0, length, deadline_ns[query], query)

        while change < len(changes) and changes[change, 0] <= now:
            worker = changes[change, 1]
            kind = kind_of[worker]
            if changes[change, 2] == 1:
                idle -= idle_of[kind]
                idle_of[kind] = _without(free, first_of[kind], idle_of[kind], worker)
                idle += idle_of[kind]
                loaded[worker], state.last_ns[worker] = _NONE, 0
            else:
                state.fails_ns[worker] = changes[change, 3]
                idle_of[kind] = _push(free, free, first_of[kind], idle_of[kind], worker, worker)
                idle += 1
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
                row, worker, finish, frees, lost = DROPPED, _NONE, now, now, False
            else:
                size = min(size, length)
                worker = free[first_of[kind]]
                idle_of[kind] = _pop(free, free, first_of[kind], idle_of[kind])
                idle -= 1
                query = head + state.at[BEFORE] if in_order else waiting[0]
                latency, overhead = latency_ns[row, size], dispatch_ns
                if is_drawn:
                    latency = _latency(nodes_ns, nodes[row, size], parts[row, size], is_linear, luck, query)
                if dispatch_is_drawn:
                    overhead = _latency(one.nodes_ns, one.first[0, 1], one.parts[0, 1], 1, one.key, query)
                overhead += setting.per_query_ns * size
                if loaded[worker] != row:
                    if loaded[worker] != NOTHING_YET:
                        overhead += setting.actuation_ns[row]
                    loaded[worker] = row
                finish = frees = now + overhead + latency
                if setting.occupancy < 1:
                    frees = now + overhead + max(1, int(latency * setting.occupancy))
                    finish = state.last_ns[worker] = max(finish, state.last_ns[worker])
                fails = state.fails_ns[worker]
                lost, finish = fails < finish, min(finish, fails)
                if frees <= fails:
                    running = _push(free_ns, busy, 0, running, frees, worker)
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
                    length = _pop(waiting_ns, waiting, 0, length)
            gone += size

    state.at[HEAD], state.at[ARRIVED], state.at[_CHANGE] = head, arrived, change
    state.at[IDLE], state.at[_RUNNING], state.at[_LENGTH], state.at[_HELD_NS] = idle, running, length, held_ns
    return rows
