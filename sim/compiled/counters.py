"""The counters of streaming metrics, updated from the log of the compiled loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.compiled.compiling import BOOLS, FLOATS, GRID, INT, INTS, NOTHING, READ_FLOATS, READ_INTS, compiled, tuple_of

if TYPE_CHECKING:
    from sim.compiled.compiling import Bools, Floats, Ints

LATE, DROPS, UNFINISHED, LAST_NS = range(4)
"""Indices of `Counters.totals`."""

R_MET, R_BATCHES, R_BATCHED, R_BUSY_NS = range(4)
"""Columns of `Counters.rows`."""

W_ARRIVALS, W_MET, W_BATCHES, W_BATCHED, W_BUSY_NS = range(5)
"""Columns of `Counters.numbers`."""


class Counters(NamedTuple):
    """The counters of a run; see `sim.compiled.streaming.StreamingMetrics`.

    Attributes:
        totals: Late, dropped, unfinished queries; last answer. int64, shape (4,).
        rows: By row of the loop, a subnet of a kind of workers: queries that met their SLO, batches, queries in them,
            busy time. int64, shape (rows, 4).
        latencies: Answered queries by bucket of latency, int64, shape (`sim.engine.histogram.COUNT`,).
        numbers: By window: arrivals, met, batches, queries in them, busy time. int64, shape (windows, 5).
        accuracy: By window: the sum of the accuracies of met queries, float64, shape (windows,).
    """

    totals: Ints
    rows: Ints
    latencies: Ints
    numbers: Ints
    accuracy: Floats


_COUNTERS = tuple_of(Counters, INTS, GRID, INTS, GRID, FLOATS)


@compiled(
    NOTHING(
        READ_INTS,
        READ_INTS,
        READ_INTS,
        READ_INTS,
        READ_INTS,
        READ_INTS,
        READ_INTS,
        BOOLS,
        READ_FLOATS,
        INT,
        INT,
        INT,
        INT,
        INT,
        INT,
        INT,
        _COUNTERS,
    )
)
def count(  # noqa: C901, PLR0912, PLR0915 - one loop that numba compiles as one
    arrival_ns: Ints,
    deadline_ns: Ints,
    start_ns: Ints,
    finish_ns: Ints,
    free_ns: Ints,
    rows: Ints,
    sizes: Ints,
    lost: Bools,
    accuracy: Floats,
    width_ns: int,
    from_ns: int,
    end_ns: int,
    limit_ns: int,
    network_ns: int,
    shift: int,
    before_one: int,
    counts: Counters,
) -> None:
    """Add the rows of a log to the counters; queries left the queue in order of arrival.

    Args:
        arrival_ns: Their arrivals, from the first that the log is about, int64.
        deadline_ns: When their batches are due.
        start_ns: Start of each row of the log, as in `sim.compiled.loop_state.Log`; shape (rows,), as the next five.
        finish_ns: Completion of the batch, or failure of its worker.
        free_ns: When its worker could take the next batch, or failed.
        rows: Row of the loop that ran it; negative for dropped queries.
        sizes: Number of queries.
        lost: Whether its worker failed.
        accuracy: Accuracy of each row in percent, float64.
        width_ns: The width of a window; a query belongs to the window of its arrival, a batch to that of its start.
        from_ns: The start of the first window, and of what counts.
        end_ns: The end of the last window, which includes no batch that starts then.
        limit_ns: Neither arrivals nor starts count from this instant on, nor does time; later than any if the windows
            end with the trace.
        network_ns: Delay of each query that keeps no worker busy: a part of its latency.
        shift: Shift from the bits of a latency to its bucket; see `sim.engine.histogram.SHIFT`.
        before_one: Number of buckets below 1 ns.
        counts: In and out.
    """
    totals, latencies, numbers, of_rows = counts.totals, counts.latencies, counts.numbers, counts.rows
    if len(sizes) == 0:
        return
    last = len(numbers) - 1
    window = max(0, min((arrival_ns[0] - from_ns) // width_ns, last))  # of the next arrival
    started = max(0, min((start_ns[0] - from_ns) // width_ns, last))  # of the next batch
    query = np.uint64(0)
    for number in range(len(sizes)):
        start, finish, free, row = start_ns[number], finish_ns[number], free_ns[number], rows[number]
        answered = row >= 0 and not lost[number]
        met, following = 0, query + np.uint64(sizes[number])
        end = following  # of the queries that count
        while query < end and arrival_ns[query] < from_ns:
            query += np.uint64(1)
        while query < end and arrival_ns[end - np.uint64(1)] >= limit_ns:
            end -= np.uint64(1)
        counted = np.int64(end - query)
        while query < end:
            while window < last and arrival_ns[query] >= from_ns + (window + 1) * width_ns:
                window += 1
            until = end  # of those that arrived in this window
            while window < last and arrival_ns[until - np.uint64(1)] >= from_ns + (window + 1) * width_ns:
                until -= np.uint64(1)
            if answered:
                here, worth, total = 0, accuracy[row], counts.accuracy[window]
                for nth in range(query, until):
                    # The upper bits of the float: its exponent and the first bits behind it.
                    bits = np.float64(finish + network_ns - arrival_ns[nth]).view(np.int64)
                    latencies[np.uint64((bits >> shift) - before_one)] += 1
                    in_time = finish <= deadline_ns[nth]
                    here += in_time
                    total += worth if in_time else 0.0  # query by query, as all engines add them
                numbers[window, W_MET] += here
                counts.accuracy[window] = total
                met += here
            numbers[window, W_ARRIVALS] += np.int64(until - query)
            query = until
        query = following
        if row < 0:
            totals[DROPS] += counted
            continue
        of_rows[row, R_MET] += met
        totals[LATE if answered else DROPS] += counted - met
        totals[LAST_NS] = max(totals[LAST_NS], finish)
        begin = max(start, from_ns)
        if begin >= limit_ns:
            continue
        of_rows[row, R_BUSY_NS] += max(0, min(free, limit_ns) - begin)
        is_new = start >= from_ns
        if is_new:
            of_rows[row, R_BATCHES] += 1
            of_rows[row, R_BATCHED] += sizes[number]
        if begin >= end_ns:
            continue
        while started < last and begin >= from_ns + (started + 1) * width_ns:
            started += 1
        if is_new:
            numbers[started, W_BATCHES] += 1
            numbers[started, W_BATCHED] += sizes[number]
        reached = started
        while begin < free and reached <= last:
            until_ns = min(free, end_ns if reached == last else from_ns + (reached + 1) * width_ns)
            numbers[reached, W_BUSY_NS] += max(0, until_ns - begin)
            begin = until_ns
            reached += 1
