"""The loop of the compiled engine: the semantics of `sim.engine` over arrays, without an event queue.

With one queue and decisions that depend on nothing but slack and queue length, nothing can happen between the instants
at which a worker becomes free, a query meets a free worker, or a worker fails or recovers. The loop steps from one to
the next: one step a batch, and idle time costs nothing.

All of it stays in this one file: numba's cache notices edits of the file that it compiled, not of others. The functions
run without numba's compiler, too, as `replay.py_func`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

NEVER, EXPIRED, HOPELESS = 0, 1, 2
"""Drop rules."""

DROPPED = -1
"""What `batch_of` says of a query that was dropped; -2, put there by the caller, of one that still waits."""

_NEVER_COMES = 2**62
_NONE = -1
_NOTHING_YET = -2


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def replay(  # noqa: C901, PLR0912, PLR0915 - one loop that numba compiles as one
    arrival_ns: Ints,
    deadline_ns: Ints,
    in_order: bool,
    latency_ns: Ints,
    actuation_ns: Ints,
    dispatch_ns: int,
    drop_rule: int,
    smallest_ns: int,
    from_ns: Ints,
    subnets: Ints,
    sizes: Ints,
    changes: Ints,
    workers: int,
    batches: Ints,
    lost: Bools,
    batch_of: Ints,
) -> int:
    """Replay a trace and return the number of batches.

    Args:
        arrival_ns: Arrivals, int64, shape (queries,), never decreasing.
        deadline_ns: Deadlines, int64, shape (queries,).
        in_order: Whether deadlines never decrease: the queue is then a stretch of the arrivals, else a heap.
        latency_ns: Latency by subnet and batch size, int64, shape (subnets, largest batch + 1).
        actuation_ns: Delay of a switch to each subnet, int64, shape (subnets,).
        dispatch_ns: Overhead of a batch.
        drop_rule: `NEVER`, `EXPIRED` or `HOPELESS`.
        smallest_ns: The smallest latency.
        from_ns: Slacks at which a decision changes, increasing, int64, shape (slacks,).
        subnets: Subnet decided on, by how many of these slacks are reached, and by queue length; the last column stands
            for all longer queues. int64, shape (slacks + 1, lengths).
        sizes: Batch size decided on, likewise.
        changes: Failures and recoveries as they come, int64, shape (changes, 3): instant, worker, 1 for a failure.
        workers: Number of workers.
        batches: Out: start, finish, worker, subnet and size of each batch, int64, shape (queries, 5).
        lost: In: False. Out: whether the batch's worker failed, bool, shape (queries,).
        batch_of: In: -2. Out: each query's batch or `DROPPED`, int64, shape (queries,).
    """
    queries, longest = arrival_ns.size, subnets.shape[1]
    free_key, free = np.arange(workers), np.arange(workers)  # a heap already: the lowest number first
    idle = workers
    busy_key, busy = np.empty(workers + len(changes), np.int64), np.empty(workers + len(changes), np.int64)
    running = 0
    on = np.full(workers, _NONE)  # the batch on each worker
    loaded = np.full(workers, _NOTHING_YET)
    waiting_key, waiting = (
        np.empty(0 if in_order else queries, np.int64),
        np.empty(0 if in_order else queries, np.int64),
    )
    head = length = arrived = batch = change = 0

    while True:
        # The next instant at which something can happen. While a worker is idle, the queue is empty.
        if idle > 0:
            now = arrival_ns[arrived] if arrived < queries else _NEVER_COMES
        else:
            now = busy_key[0] if running > 0 else _NEVER_COMES
        if change < len(changes):
            now = min(now, changes[change, 0])
        if now == _NEVER_COMES:
            return batch

        while running > 0 and busy_key[0] <= now:
            done = busy[0]
            running = _pop(busy_key, busy, running)
            worker = batches[done, 2]
            if on[worker] == done:  # else the worker failed meanwhile
                on[worker] = _NONE
                idle = _push(free_key, free, idle, worker, worker)

        first = arrived
        while arrived < queries and arrival_ns[arrived] <= now:
            arrived += 1
        if in_order:
            length = arrived - head
        else:
            for query in range(first, arrived):
                length = _push(waiting_key, waiting, length, deadline_ns[query], query)

        while change < len(changes) and changes[change, 0] <= now:
            worker = changes[change, 1]
            if changes[change, 2] == 1:
                if on[worker] == _NONE:
                    idle = _without(free_key, free, idle, worker)
                else:
                    batches[on[worker], 1] = changes[change, 0]
                    lost[on[worker]] = True
                on[worker] = loaded[worker] = _NONE
            else:
                idle = _push(free_key, free, idle, worker, worker)
            change += 1

        while idle > 0:
            if drop_rule != NEVER:
                limit = now + (dispatch_ns + smallest_ns if drop_rule == HOPELESS else 0)
                while length > 0 and (deadline_ns[head] if in_order else waiting_key[0]) < limit:
                    batch_of[head if in_order else waiting[0]] = DROPPED
                    if in_order:
                        head += 1
                        length -= 1
                    else:
                        length = _pop(waiting_key, waiting, length)
            if length == 0:
                break
            slack = (deadline_ns[head] if in_order else waiting_key[0]) - now - dispatch_ns
            row, column = np.searchsorted(from_ns, slack, side="right"), min(length, longest) - 1
            subnet, size = subnets[row, column], min(sizes[row, column], length)
            worker = free[0]
            idle = _pop(free_key, free, idle)
            finish = now + latency_ns[subnet, size] + dispatch_ns
            if loaded[worker] != subnet:
                if loaded[worker] != _NOTHING_YET:
                    finish += actuation_ns[subnet]
                loaded[worker] = subnet
            batches[batch, 0], batches[batch, 1] = now, finish
            batches[batch, 2], batches[batch, 3], batches[batch, 4] = worker, subnet, size
            if in_order:
                batch_of[head : head + size] = batch
                head += size
                length -= size
            else:
                for _ in range(size):
                    batch_of[waiting[0]] = batch
                    length = _pop(waiting_key, waiting, length)
            on[worker] = batch
            running = _push(busy_key, busy, running, finish, batch)
            batch += 1


@numba.njit(cache=True, nogil=True)
def _without(keys: Ints, items: Ints, size: int, item: int) -> int:
    """Take one item out of a heap, wherever it is; return the new size. Slow, and as rare as failures."""
    kept = items[:size][items[:size] != item]
    size = 0
    for other in kept:
        size = _push(keys, items, size, other, other)
    return size


@numba.njit(cache=True, nogil=True)
def outcomes(deadline_ns: Ints, finish_ns: Ints, lost: Bools, batch_of: Ints, outcome: npt.NDArray[np.uint8]) -> None:
    """Write what became of each query, as `sim.result.Outcome`, and -1 for the batch of those that have none.

    Args:
        deadline_ns: Deadlines, int64, shape (queries,).
        finish_ns: When each batch was answered, int64, shape (batches,).
        lost: Whether its worker failed, bool, shape (batches,).
        batch_of: As `replay` leaves it; out: -1 where it was below, int64, shape (queries,).
        outcome: Out: uint8, shape (queries,).
    """
    for query in range(deadline_ns.size):
        batch = batch_of[query]
        if batch < 0:
            outcome[query] = 2 if batch == DROPPED else 3
            batch_of[query] = _NONE
        elif lost[batch]:
            outcome[query] = 2
        else:
            outcome[query] = 0 if finish_ns[batch] <= deadline_ns[query] else 1
