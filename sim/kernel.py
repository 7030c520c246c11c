"""The loops of the compiled engine: the semantics of `sim.engine` over arrays, without an event queue.

With one queue and decisions that depend on nothing but slack and queue length, nothing can happen between the instants
at which a worker becomes free, a query meets a free worker, or a worker fails or recovers. The loop steps from one to
the next: one step a batch, and idle time costs nothing. It stops where its arrivals end and goes on with the next, so
that a trace need not be held whole.

All of it stays in this one file: numba's cache notices edits of the file that it compiled, not of others. The functions
run without numba's compiler, too, as `advance.py_func`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.kernel_types import Counts, Floats, Ints, Setting, State

NEVER, EXPIRED, HOPELESS = 0, 1, 2
"""Drop rules."""

START, FINISH, WORKER, SUBNET, SIZE, LOST = range(6)
"""Columns of the log: one row a batch or a stretch of dropped queries, in the order in which they leave the queue."""

DROPPED, WAITING = -1, -2
"""What the log has for the subnet of queries that were dropped, or that still wait at the end."""

BUCKET_BITS = 8
"""Buckets of latencies to each power of two, as a power of two: one is 2**-8 of its latency wide, 0.4 %."""

BUCKETS = 62 << BUCKET_BITS
"""Buckets for all latencies of a run, which are below 2**62 ns."""

BEFORE_ONE = 1023 << BUCKET_BITS
"""Buckets that a float has for what is below 1."""

HEAD, ARRIVED, _CHANGE, IDLE, _RUNNING, _LENGTH = range(6)
"""Places in `State.at`."""

NEVER_COMES = 2**62
"""The instant of what does not happen."""

_NONE = -1
NOTHING_YET = -2


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
def _without(heap: Ints, size: int, item: int) -> int:
    """Take one item out of a heap, wherever it is; return the new size. Slow, and as rare as failures."""
    kept = heap[:size][heap[:size] != item]
    size = 0
    for other in kept:
        size = _push(heap, heap, size, other, other)
    return size


@numba.njit(cache=True, nogil=True)
def advance(  # noqa: C901, PLR0912, PLR0915 - one loop that numba compiles as one
    setting: Setting,
    state: State,
    arrival_ns: Ints,
    deadline_ns: Ints,
    in_order: bool,
    final: bool,
    log: Ints,
    left: Ints,
) -> int:
    """Replay as far as the arrivals reach and return the number of rows that were written to the log.

    Args:
        setting: What does not change.
        state: Where the run stands; out: where it stands then. Its numbers of queries are indices of these arrays.
        arrival_ns: Arrivals, int64, shape (queries,), never decreasing.
        deadline_ns: Deadlines, int64, shape (queries,).
        in_order: Whether deadlines never decrease: the queue is then a stretch of the arrivals, else a heap.
        final: Whether these are all arrivals; else the run stops at the first instant that later ones may fall into.
        log: Out: what left the queue, int64, shape (queries, 6); see `START`.
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
                    log[rows, START], log[rows, FINISH], log[rows, WORKER] = now, now, _NONE
                    log[rows, SUBNET], log[rows, SIZE], log[rows, LOST] = DROPPED, gone - before, 0
                    rows += 1
            if length == 0:
                break
            slack = (deadline_ns[head] if in_order else waiting_ns[0]) - now - dispatch_ns
            row, column = np.searchsorted(from_ns, slack, side="right"), min(length, longest) - 1
            subnet, size = subnets[row, column], min(sizes[row, column], length)
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
            log[rows, START], log[rows, FINISH], log[rows, WORKER] = now, finish, worker
            log[rows, SUBNET], log[rows, SIZE], log[rows, LOST] = subnet, size, lost
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


@numba.njit(cache=True, nogil=True)
def outcomes(
    deadline_ns: Ints, log: Ints, left: Ints, in_order: bool, batch_of: Ints, outcome: npt.NDArray[np.uint8]
) -> None:
    """Write each query's batch, and what became of it as `sim.result.Outcome`.

    Args:
        deadline_ns: Deadlines, int64, shape (queries,).
        log: The whole log of a run, int64, shape (rows, 6).
        left: As `advance` leaves it, or anything where `in_order`.
        in_order: As in `advance`.
        batch_of: In: -1. Out: the number of the batch, where there is one, int64, shape (queries,).
        outcome: In: 3 (unfinished). Out: uint8, shape (queries,).
    """
    start, batch = np.uint64(0), 0
    for row in range(len(log)):
        # Unsigned: no index can be negative, and the compiler need not ask.
        end, finish = start + np.uint64(log[row, SIZE]), log[row, FINISH]
        batched = log[row, SUBNET] != DROPPED
        answered = batched and log[row, LOST] == 0
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


BATCHES, BATCHED, LATE, DROPS, UNFINISHED, BUSY_NS, LAST_NS = range(7)
"""Places in `Counts.totals`."""

W_ARRIVALS, W_MET, W_BATCHES, W_BATCHED, W_BUSY_NS = range(5)
"""Columns of `Counts.numbers`."""


@numba.njit(cache=True, nogil=True)
def count(  # noqa: C901 - one loop that numba compiles as one
    arrival_ns: Ints,
    deadline_ns: Ints,
    log: Ints,
    accuracy: Floats,
    width_ns: int,
    end_ns: int,
    counts: Counts,
) -> None:
    """Count what the log says of queries that left the queue in order of arrival.

    Args:
        arrival_ns: Their arrivals, from the first that the log is about, int64.
        deadline_ns: Their deadlines.
        log: What became of them, int64, shape (rows, 6).
        accuracy: Accuracy of each subnet in percent, float64, shape (subnets,).
        width_ns: The width of a window; a query belongs to the window of its arrival, a batch to that of its start.
        end_ns: The end of the last window; it has what arrives at that very instant, and no batch that starts then.
        counts: In and out.
    """
    totals, latencies, numbers = counts.totals, counts.latencies, counts.numbers
    if len(log) == 0:
        return
    last = len(numbers) - 1
    window = min(arrival_ns[0] // width_ns, last)  # of the next arrival
    started = min(log[0, START] // width_ns, last)  # of the next batch
    query = np.uint64(0)
    for row in range(len(log)):
        start, finish, subnet, size = log[row, START], log[row, FINISH], log[row, SUBNET], log[row, SIZE]
        answered = subnet >= 0 and log[row, LOST] == 0
        met, end = 0, query + np.uint64(size)
        while query < end:
            while window < last and arrival_ns[query] >= (window + 1) * width_ns:
                window += 1
            until = end  # of those that arrived in this window
            while window < last and arrival_ns[until - np.uint64(1)] >= (window + 1) * width_ns:
                until -= np.uint64(1)
            here = 0
            if answered:
                for nth in range(query, until):
                    # The upper bits of the float: its exponent and the first bits behind it.
                    bits = np.float64(finish - arrival_ns[nth]).view(np.int64)
                    latencies[np.uint64((bits >> (52 - BUCKET_BITS)) - BEFORE_ONE)] += 1
                    here += finish <= deadline_ns[nth]
                numbers[window, W_MET] += here
                counts.accuracy[window] += here * accuracy[subnet]
                met += here
            numbers[window, W_ARRIVALS] += np.int64(until - query)
            query = until
        if subnet < 0:
            totals[DROPS if subnet == DROPPED else UNFINISHED] += size
            continue
        counts.met[subnet] += met
        totals[LATE if answered else DROPS] += size - met
        totals[BATCHES] += 1
        totals[BATCHED] += size
        totals[BUSY_NS] += finish - start
        totals[LAST_NS] = max(totals[LAST_NS], finish)
        if start >= end_ns:
            continue
        while started < last and start >= (started + 1) * width_ns:
            started += 1
        numbers[started, W_BATCHES] += 1
        numbers[started, W_BATCHED] += size
        reached = started
        while start < finish and reached <= last:
            until_ns = min(finish, end_ns if reached == last else (reached + 1) * width_ns)
            numbers[reached, W_BUSY_NS] += max(0, until_ns - start)
            start = until_ns
            reached += 1
