"""The loop of the compiled engine: the semantics of `sim.engine.driver` over arrays, without an event queue.

With one queue and decisions that depend on little more than slack and queue length, nothing can happen between the
instants at which a worker becomes free, a query meets a free worker, or a worker fails or recovers. The loop steps from
one to the next: one step a batch, and idle time costs nothing. It stops where its arrivals end and goes on with the
next, so that a trace need not be held whole.

The functions run without numba's compiler, too, as `advance.py_func`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sim.compiled.compiling import (
    BOOL,
    BOOLS,
    BYTES,
    FLOATS,
    INT,
    INTS,
    NOTHING,
    READ_GRID,
    READ_INTS,
    STEP,
    STEPS,
    compiled,
    tuple_of,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.compiled.compiling import Bools, Floats, Ints

NEVER, EXPIRED, HOPELESS = 0, 1, 2
"""Drop rules."""

HEAD, ARRIVED, BEFORE, _CHANGE, IDLE, _RUNNING, _LENGTH = range(7)
"""Places in `State.at`."""

NEVER_COMES = 2**62
"""The instant of what does not happen."""

DROPPED = -1
"""What the log has for the subnet of queries that were dropped."""

_NONE = -1
NOTHING_YET = -2


class Setting(NamedTuple):
    """What does not change in a run; all arrays are read-only.

    Attributes:
        latency_ns: Latency by subnet and batch size, int64, shape (subnets, largest batch + 1).
        actuation_ns: Delay of a switch to each subnet, int64, shape (subnets,).
        dispatch_ns: Overhead of a batch.
        drop_rule: `NEVER`, `EXPIRED` or `HOPELESS`.
        smallest_ns: The smallest latency.
        changes: Failures and recoveries as they come, int64, shape (changes, 4): instant, worker, 1 for a failure, and
            for a recovery when the worker fails next.
        stepped: Whether decisions come from a step function, not from the table.
        from_ns: Slacks at which a decision of the table changes, increasing, int64, shape (slacks,).
        subnets: Subnet decided on, by how many of these slacks are reached, and by queue length; the last column stands
            for all longer queues. int64, shape (slacks + 1, lengths).
        sizes: Batch size decided on, likewise.
    """

    latency_ns: Ints
    actuation_ns: Ints
    dispatch_ns: int
    drop_rule: int
    smallest_ns: int
    changes: Ints
    stepped: bool
    from_ns: Ints
    subnets: Ints
    sizes: Ints


class State(NamedTuple):
    """Where a run stands; `advance` changes all of it.

    Attributes:
        at: Numbers of the first query in the queue and of the next to arrive; how many arrived before those at hand;
            the number of the next change; how many workers are idle and how many run; the length of the queue. int64,
            shape (7,).
        free: Idle workers, a heap, int64, shape (workers,).
        finish_ns: When those that run will finish, a heap with `busy`, int64, shape (workers,).
        busy: Which workers those are.
        runs: Whether a worker has a batch, bool, shape (workers,).
        loaded: The subnet on each worker, int64, shape (workers,).
        fails_ns: When each worker fails next, int64, shape (workers,).
        deadline_ns: Deadlines of the queue, a heap with `waiting`; empty where deadlines never decrease.
        waiting: Which queries those are.
        memory: That of the step function, float64.
    """

    at: Ints
    free: Ints
    finish_ns: Ints
    busy: Ints
    runs: Bools
    loaded: Ints
    fails_ns: Ints
    deadline_ns: Ints
    waiting: Ints
    memory: Floats


class Log(NamedTuple):
    """One row a batch or a stretch of dropped queries, as they leave the queue; arrays of shape (rows,), int64.

    Attributes:
        start_ns: When the batch was dispatched, or the queries dropped.
        finish_ns: When it was answered, or its worker failed.
        worker: Which worker ran it.
        subnet: Which subnet ran it; -1 for queries that were dropped.
        size: How many queries.
        lost: Whether its worker failed, bool.
    """

    start_ns: Ints
    finish_ns: Ints
    worker: Ints
    subnet: Ints
    size: Ints
    lost: Bools


_SETTING = tuple_of(Setting, READ_GRID, READ_INTS, INT, INT, INT, READ_GRID, BOOL, READ_INTS, READ_GRID, READ_GRID)
_STATE = tuple_of(State, INTS, INTS, INTS, INTS, BOOLS, INTS, INTS, INTS, INTS, FLOATS)
_LOG = tuple_of(Log, INTS, INTS, INTS, INTS, INTS, BOOLS)


@compiled(INT(INTS, INTS, INT, INT, INT))
def _push(keys: Ints, items: Ints, size: int, key: int, item: int) -> int:
    """Put an item into the heap of the first `size` places, by key and then item; return the new size."""
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
    """Take the first item out of the heap of the first `size` places, which is not empty; return the new size."""
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
    """Take one item out of a heap, wherever it is; return the new size. Slow, and as rare as failures."""
    kept = heap[:size][heap[:size] != item]
    size = 0
    for other in kept:
        size = _push(heap, heap, size, other, other)
    return size


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
    """Replay as far as the arrivals reach and return the number of rows that were written to the log.

    If the step function decides what can't be done, the run ends there, and the result is -1 less the row of the log
    that says so: when, on which subnet, and with which batch size.

    Args:
        setting: What does not change.
        state: Where the run stands; out: where it stands then. Its numbers of queries are indices of these arrays.
        step: The compiled step function; any where the setting has a table.
        arrival_ns: Arrivals, int64, shape (queries,), never decreasing.
        deadline_ns: Deadlines, int64, shape (queries,).
        in_order: Whether deadlines never decrease: the queue is then a stretch of the arrivals, else a heap.
        final: Whether these are all arrivals; else the run stops at the first instant that later ones may fall into.
        log: Out: what left the queue, arrays of shape (queries,).
        left: Out: the queries in the order in which they left the queue, int64, shape (queries,); not written where
            `in_order`, since it is the order of arrival.
    """
    latency_ns, dispatch_ns, drop_rule, changes = (
        setting.latency_ns,
        setting.dispatch_ns,
        setting.drop_rule,
        setting.changes,
    )
    from_ns, subnets, sizes = setting.from_ns, setting.subnets, setting.sizes
    limit_ns = dispatch_ns + setting.smallest_ns if drop_rule == HOPELESS else 0
    free, finish_ns, busy, loaded = state.free, state.finish_ns, state.busy, state.loaded
    waiting_ns, waiting = state.deadline_ns, state.waiting
    head, arrived, change = state.at[HEAD], state.at[ARRIVED], state.at[_CHANGE]
    idle, running, length = state.at[IDLE], state.at[_RUNNING], state.at[_LENGTH]
    queries, longest = arrival_ns.size, subnets.shape[1]
    rows = gone = 0

    while True:
        # The next instant at which something can happen. While a worker is idle, the queue is empty.
        if idle > 0:
            now = arrival_ns[arrived] if arrived < queries else NEVER_COMES
        else:
            now = finish_ns[0] if running > 0 else NEVER_COMES
        if change < len(changes):
            now = min(now, changes[change, 0])
        if now == NEVER_COMES or not (final or (arrived < queries and arrival_ns[queries - 1] > now)):
            break

        while running > 0 and finish_ns[0] <= now:
            worker = busy[0]
            running = _pop(finish_ns, busy, running)
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
                loaded[worker] = _NONE
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
                    log.start_ns[rows], log.finish_ns[rows], log.worker[rows] = now, now, _NONE
                    log.subnet[rows], log.size[rows], log.lost[rows] = DROPPED, gone - before, False
                    rows += 1
            if length == 0:
                break
            slack = (deadline_ns[head] if in_order else waiting_ns[0]) - now - dispatch_ns
            if setting.stepped:
                subnet, size = step(state.memory, now, slack, length, arrived + state.at[BEFORE], latency_ns)
                if not (0 <= subnet < len(latency_ns) and 0 < size < latency_ns.shape[1]):
                    log.start_ns[rows], log.subnet[rows], log.size[rows] = now, subnet, size
                    return -1 - rows
            else:
                row, column = np.searchsorted(from_ns, slack, side="right"), min(length, longest) - 1
                subnet, size = subnets[row, column], sizes[row, column]
            size = min(size, length)
            worker = free[0]
            idle = _pop(free, free, idle)
            finish = now + latency_ns[subnet, size] + dispatch_ns
            if loaded[worker] != subnet:
                if loaded[worker] != NOTHING_YET:
                    finish += setting.actuation_ns[subnet]
                loaded[worker] = subnet
            lost = state.fails_ns[worker] < finish
            if lost:
                finish = state.fails_ns[worker]
            else:
                running = _push(finish_ns, busy, running, finish, worker)
            state.runs[worker] = True
            log.start_ns[rows], log.finish_ns[rows], log.worker[rows] = now, finish, worker
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
    state.at[IDLE], state.at[_RUNNING], state.at[_LENGTH] = idle, running, length
    return rows


@compiled(NOTHING(READ_INTS, _LOG, INT, INTS, BOOL, INTS, BYTES))
def outcomes(
    deadline_ns: Ints, log: Log, rows: int, left: Ints, in_order: bool, batch_of: Ints, outcome: npt.NDArray[np.uint8]
) -> None:
    """Write each query's batch, and what became of it as `sim.engine.result.Outcome`.

    Args:
        deadline_ns: Deadlines, int64, shape (queries,).
        log: The log of a whole run.
        rows: How many rows it has.
        left: As `advance` leaves it, or anything where `in_order`.
        in_order: As in `advance`.
        batch_of: In: -1. Out: the number of the batch, where there is one, int64, shape (queries,).
        outcome: In: 3 (unfinished). Out: uint8, shape (queries,).
    """
    start, batch = np.uint64(0), 0
    for row in range(rows):
        # Unsigned: no index can be negative, and the compiler need not ask.
        end, finish = start + np.uint64(log.size[row]), log.finish_ns[row]
        batched = log.subnet[row] != DROPPED
        answered = batched and not log.lost[row]
        if in_order and answered:
            for query in range(start, end):
                batch_of[query] = batch
                outcome[query] = finish > deadline_ns[query]
        else:
            for place in range(start, end):
                number = np.uint64(place if in_order else left[place])
                if batched:
                    batch_of[number] = batch
                outcome[number] = finish > deadline_ns[number] if answered else 2
        start = end
        batch += batched


@compiled(STEP)
def no_step(
    memory: Floats,  # noqa: ARG001 - it has the signature of a step function
    now_ns: int,  # noqa: ARG001
    slack_ns: int,  # noqa: ARG001
    queue_length: int,  # noqa: ARG001
    arrived: int,  # noqa: ARG001
    latency_ns: Ints,  # noqa: ARG001
) -> tuple[int, int]:
    """Stand where a step function is asked for and never called."""
    return _NONE, _NONE
