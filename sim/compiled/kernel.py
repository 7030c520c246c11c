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

NEVER, EXPIRED, HOPELESS = 0, 1, 2
"""Drop rules."""

HEAD, ARRIVED, BEFORE, _CHANGE, IDLE, _RUNNING, _LENGTH, _HELD_NS = range(8)
"""Indices of `State.at`."""

NEVER_COMES = 2**62
"""The time of events that never happen."""

DROPPED = -1
"""Placeholder in the log for the subnet of dropped queries."""

HOLD, DROP = -2, -3
"""Decisions in place of subnets: those of `sim.compiled.step_policy`, of which numba's cache would not see a change."""

_NONE, NOTHING_YET = -1, -2


class Drawn(NamedTuple):
    """What latencies are drawn from: as `sim.tables.service_times.Distributions`."""

    nodes_ns: Ints
    first: Ints
    parts: Ints
    is_linear: int


class Setting(NamedTuple):
    """The constants of a run; all arrays are read-only.

    Attributes:
        latency_ns: Latency by subnet and batch size if none is drawn, int64, shape (subnets, largest batch + 1).
        planned_ns: What step functions see, likewise.
        actuation_ns: Delay of a switch to each subnet, int64, shape (subnets,).
        dispatch_ns: Overhead of a batch.
        per_query_ns: Overhead of each query in a batch.
        drop_rule: `NEVER`, `EXPIRED` or `HOPELESS`.
        smallest_ns: The smallest latency.
        changes: Failures and recoveries in order, int64, shape (changes, 4): time, worker, 1 for a failure, and for a
            recovery the time of the worker's next failure.
        uses_step: Whether decisions come from a step function instead of the decision table.
        is_drawn: Whether latencies are drawn.
        drawn: What they are drawn from; anything if none is drawn.
        key: `sim.tables.service_times.latency_key` of the run.
        dispatch_is_drawn: Whether the overhead of a batch is drawn.
        dispatch: What it is drawn from, as that of batches of one query of subnet 0.
        dispatch_key: As `key`, of the overheads.
        occupancy: The part of a latency after which a worker can take its next batch.
        from_ns: As in `sim.compiled.tabulate.DecisionTable`, as the next two.
        subnets: Subnets, int64, shape (slacks + 1, lengths); `HOLD` or `DROP` for other decisions.
        sizes: Batch size, likewise; the slack until which to hold, or the number of queries to drop.
    """

    latency_ns: Ints
    planned_ns: Ints
    actuation_ns: Ints
    dispatch_ns: int
    per_query_ns: int
    drop_rule: int
    smallest_ns: int
    changes: Ints
    uses_step: bool
    is_drawn: bool
    drawn: Drawn
    key: int
    dispatch_is_drawn: bool
    dispatch: Drawn
    dispatch_key: int
    occupancy: float
    from_ns: Ints
    subnets: Ints
    sizes: Ints


class State(NamedTuple):
    """The state of a run; `advance` changes all of it.

    Attributes:
        at: Indices of the first query in the queue and of the next arrival, arrivals before these arrays, index of the
            next change, idle and running workers, queue length, and the end of a hold. int64, shape (8,).
        free: Idle workers, a heap, int64, shape (workers,).
        free_ns: When running workers can take their next batches, a heap with `busy`, int64, shape (workers,).
        busy: The numbers of these workers.
        runs: Whether a worker has a batch, bool, shape (workers,).
        loaded: The subnet on each worker, int64, shape (workers,).
        fails_ns: Next failure of each worker, int64, shape (workers,).
        last_ns: When each worker finishes all batches that it has begun, int64, shape (workers,).
        deadline_ns: Deadlines of the queue, a heap with `waiting`; empty if deadlines never decrease.
        waiting: The numbers of these queries.
        memory: State of the step function, float64.
    """

    at: Ints
    free: Ints
    free_ns: Ints
    busy: Ints
    runs: Bools
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
        subnet: Subnet that ran it; -1 for dropped queries.
        size: Number of queries.
        lost: Whether its worker failed, bool.
    """

    start_ns: Ints
    finish_ns: Ints
    free_ns: Ints
    worker: Ints
    subnet: Ints
    size: Ints
    lost: Bools


_DRAWN = tuple_of(Drawn, READ_INTS, READ_GRID, READ_GRID, INT)
_LUCK = (BOOL, _DRAWN, INT)
_COSTS = (READ_GRID, READ_GRID, READ_INTS, INT, INT, INT, INT, READ_GRID, BOOL)
_SETTING = tuple_of(Setting, *_COSTS, *_LUCK, *_LUCK, FLOAT, READ_INTS, READ_GRID, READ_GRID)
_STATE = tuple_of(State, INTS, INTS, INTS, INTS, BOOLS, INTS, INTS, INTS, INTS, INTS, FLOATS)
_LOG = tuple_of(Log, INTS, INTS, INTS, INTS, INTS, INTS, BOOLS)


@compiled(INT(INTS, INTS, INT, INT, INT))
def _push(keys: Ints, items: Ints, size: int, key: int, item: int) -> int:
    """Push an item onto the heap of the first `size` places, ordered by key and then item; return the new size."""
    place = size
    while place > 0:
        above = (place - 1) // 2
        if keys[above] < key or (keys[above] == key and items[above] < item):
            break
        keys[place], items[place] = keys[above], items[above]
        place = above
    keys[place], items[place] = key, item
    return size + 1


@compiled(INT(INTS, INTS, INT))
def _pop(keys: Ints, items: Ints, size: int) -> int:
    """Pop the first item of the heap of the first `size` places, which is not empty; return the new size."""
    size -= 1
    key, item = keys[size], items[size]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        other = below + 1
        if other < size and (keys[other] < keys[below] or (keys[other] == keys[below] and items[other] < items[below])):
            below = other
        if key < keys[below] or (key == keys[below] and item < items[below]):
            break
        keys[place], items[place] = keys[below], items[below]
        place = below
    keys[place], items[place] = key, item
    return size


@compiled(INT(INTS, INT, INT))
def _without(heap: Ints, size: int, item: int) -> int:
    """Remove one item from a heap; return the new size. Slow, and as rare as failures."""
    kept = heap[:size][heap[:size] != item]
    size = 0
    for other in kept:
        size = _push(heap, heap, size, other, other)
    return size


@compiled(INT(_DRAWN, INT, INT, INT, INT))
def _latency(drawn: Drawn, key: int, subnet: int, size: int, query: int) -> int:
    """Return `sim.tables.service_times.Distributions.latency` for the `luck` of a query."""
    mixed = np.uint64(key) + (np.uint64(query) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    place = int((mixed ^ mixed >> np.uint64(31)) >> np.uint64(32)) * drawn.parts[subnet, size]
    node = drawn.first[subnet, size] + (place >> 32)
    low = drawn.nodes_ns[node]
    if drawn.is_linear:
        low += (drawn.nodes_ns[node + 1] - low) * (place >> 16 & 0xFFFF) >> 16
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
    latency_ns, dispatch_ns = setting.latency_ns, setting.dispatch_ns
    drop_rule, changes = setting.drop_rule, setting.changes
    from_ns, subnets, sizes = setting.from_ns, setting.subnets, setting.sizes
    limit_ns = dispatch_ns + setting.smallest_ns if drop_rule == HOPELESS else 0
    free, free_ns, busy, loaded = state.free, state.free_ns, state.busy, state.loaded
    waiting_ns, waiting = state.deadline_ns, state.waiting
    head, arrived, change = state.at[HEAD], state.at[ARRIVED], state.at[_CHANGE]
    idle, running, length, held_ns = state.at[IDLE], state.at[_RUNNING], state.at[_LENGTH], state.at[_HELD_NS]
    queries, longest, row = arrival_ns.size, subnets.shape[1], from_ns.size
    last_ns = NEVER_COMES if final else arrival_ns[queries - 1] if queries > 0 else 0
    rows = gone = 0

    while True:
        # The next instant at which something can happen. While a worker is idle, the queue is empty or held.
        now = NEVER_COMES
        if (idle == 0 or length > 0) and running > 0:
            now = free_ns[0]
        if change < len(changes):
            now = min(now, changes[change, 0])
        if idle > 0 and length > 0:
            if in_order and not setting.uses_step:
                # Most arrivals prolong the hold: those until a decision differs or something else can happen.
                due_ns = deadline_ns[head] - dispatch_ns
                until_ns = min(now, last_ns, NEVER_COMES if drop_rule == NEVER else deadline_ns[head] - limit_ns + 1)
                while arrived < queries and arrival_ns[arrived] < min(until_ns, held_ns):
                    while row > 0 and from_ns[row - 1] > due_ns - arrival_ns[arrived]:
                        row -= 1
                    column = min(arrived - head, longest - 1)
                    if subnets[row, column] != HOLD:
                        break
                    held_ns = due_ns - sizes[row, column]
                    arrived += 1
            now = min(now, held_ns)
        if idle > 0 and arrived < queries:
            now = min(now, arrival_ns[arrived])
        if now >= last_ns:
            break

        while running > 0 and free_ns[0] <= now:
            worker = busy[0]
            running = _pop(free_ns, busy, running)
            state.runs[worker] = False
            idle = _push(free, free, idle, worker, worker)

        first = arrived
        while arrived < queries and arrival_ns[arrived] <= now:
            arrived += 1
        if in_order:
            length = arrived - head
        else:
            for query in range(first, arrived):
                length = _push(waiting_ns, waiting, length, deadline_ns[query], query)

        while change < len(changes) and changes[change, 0] <= now:
            worker = changes[change, 1]
            if changes[change, 2] == 1:
                if not state.runs[worker]:
                    idle = _without(free, idle, worker)
                state.runs[worker] = False
                loaded[worker], state.last_ns[worker] = _NONE, 0
            else:
                state.fails_ns[worker] = changes[change, 3]
                idle = _push(free, free, idle, worker, worker)
            change += 1

        while idle > 0:
            if drop_rule != NEVER:
                before = gone
                while length > 0 and (deadline_ns[head] if in_order else waiting_ns[0]) < now + limit_ns:
                    if in_order:
                        head += 1
                        length -= 1
                    else:
                        left[gone] = waiting[0]
                        length = _pop(waiting_ns, waiting, length)
                    gone += 1
                if gone > before:
                    log.start_ns[rows], log.finish_ns[rows], log.free_ns[rows], log.worker[rows] = now, now, now, _NONE
                    log.subnet[rows], log.size[rows], log.lost[rows] = DROPPED, gone - before, False
                    rows += 1
            if length == 0:
                break
            slack = (deadline_ns[head] if in_order else waiting_ns[0]) - now - dispatch_ns
            if setting.uses_step:
                subnet, size = step(state.memory, now, slack, length, arrived + state.at[BEFORE], setting.planned_ns)
                runs = 0 <= subnet < len(latency_ns) and 0 < size < latency_ns.shape[1]
                holds, drops = subnet == HOLD and 0 <= size < slack, subnet == DROP and 0 < size <= length
                if not (runs or holds or drops):
                    log.start_ns[rows], log.finish_ns[rows], log.worker[rows] = now, slack, length
                    log.subnet[rows], log.size[rows] = subnet, size
                    return -1 - rows
            else:
                row, above, column = 0, from_ns.size, min(length, longest) - 1
                while row < above:  # faster than `np.searchsorted`
                    middle = (row + above) >> 1
                    if from_ns[middle] <= slack:
                        row = middle + 1
                    else:
                        above = middle
                subnet, size = subnets[row, column], sizes[row, column]
            if subnet == HOLD:
                held_ns = now + slack - size
                break
            if subnet == DROP:
                subnet, worker, finish, frees, lost = DROPPED, _NONE, now, now, False
            else:
                size = min(size, length)
                worker = free[0]
                idle = _pop(free, free, idle)
                query = head + state.at[BEFORE] if in_order else waiting[0]
                latency, overhead = latency_ns[subnet, size], dispatch_ns
                if setting.is_drawn:
                    latency = _latency(setting.drawn, setting.key, subnet, size, query)
                if setting.dispatch_is_drawn:
                    overhead = _latency(setting.dispatch, setting.dispatch_key, 0, 1, query)
                overhead += setting.per_query_ns * size
                if loaded[worker] != subnet:
                    if loaded[worker] != NOTHING_YET:
                        overhead += setting.actuation_ns[subnet]
                    loaded[worker] = subnet
                finish = frees = now + overhead + latency
                if setting.occupancy < 1:
                    frees = now + overhead + max(1, int(latency * setting.occupancy))
                    finish = state.last_ns[worker] = max(finish, state.last_ns[worker])
                fails = state.fails_ns[worker]
                lost, finish = fails < finish, min(finish, fails)
                if frees <= fails:
                    running = _push(free_ns, busy, running, frees, worker)
                frees = min(frees, fails)
                state.runs[worker] = True
            log.start_ns[rows], log.finish_ns[rows], log.free_ns[rows], log.worker[rows] = now, finish, frees, worker
            log.subnet[rows], log.size[rows], log.lost[rows] = subnet, size, lost
            rows += 1
            if in_order:
                head += size
                length -= size
            else:
                for place in range(gone, gone + size):
                    left[place] = waiting[0]
                    length = _pop(waiting_ns, waiting, length)
            gone += size

    state.at[HEAD], state.at[ARRIVED], state.at[_CHANGE] = head, arrived, change
    state.at[IDLE], state.at[_RUNNING], state.at[_LENGTH], state.at[_HELD_NS] = idle, running, length, held_ns
    return rows
