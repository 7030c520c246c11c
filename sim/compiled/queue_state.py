"""The constants of a run with several queues, and its queries, as the compiled loop reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sim.compiled.compiling import (
    BOOLS,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    READ_CODES,
    READ_FLOATS,
    READ_GRID,
    READ_INTS,
    tuple_of,
)
from sim.compiled.loop_state import DRAWN_TYPE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sim.compiled.compiling import Bools, Floats, Ints
    from sim.compiled.loop_state import Drawn

TURN = 0
"""The place in `QueueState.at` of the queue whose turn it is under `FAIR`."""

EDF, SLACK, PRIORITY, FAIR = range(4)
"""Orders of offers."""


class QueueSetting(NamedTuple):
    """The constants of a run; all arrays are read-only.

    Kinds are in the order in which they are offered. A *row* is a subnet of the table of a queue on a kind; rows are
    ordered by queue, then by kind.

    Attributes:
        latency_ns: Latency by row and batch size if none is drawn, int64, shape (rows, largest batch + 1).
        planned_ns: The same as policies see it.
        actuation_ns: Delay of a switch to each row, int64, shape (rows,).
        subnet: The subnet of each row, as an index into those of the cluster.
        alone_ns: The latency of one query on the fastest subnet, by queue and kind, int64, shape (queues, kinds).
        dispatch_ns: Overhead of a batch.
        per_query_ns: Overhead of each query in a batch.
        limits_ns: Queries of each queue with less slack are dropped, from the start and from each change on, int64,
            shape (changes + 1, queues).
        kind: The kind of each worker, int64, shape (workers,).
        first: The place at which the idle workers of each kind begin, int64, shape (kinds,).
        changes: As in `sim.compiled.loop_state.Setting`.
        drawn: What latencies are drawn from.
        dispatch: What the overhead of a batch is drawn from.
        occupancy: The part of a latency after which a worker can take its next batch.
        order: `EDF`, `SLACK`, `PRIORITY` or `FAIR`.
        rank: The priority of each queue, int64, shape (queues,).
        quantum_ns: The quantum of each queue under `FAIR`, float64, shape (queues,).
        bounds: The most queries of each queue that may wait, int64, shape (queues,).
        edges: Where the slacks of each queue and kind begin in `from_ns`, and where the last ones end.
        from_ns: As in `sim.compiled.tabulate.DecisionTable`, queue by queue and kind by kind, as the next two.
        rows: Rows; `HOLD` or `DROP` for other decisions.
        sizes: Batch size; the slack until which to hold, or the number of queries to drop.
    """

    latency_ns: Ints
    planned_ns: Ints
    actuation_ns: Ints
    subnet: Ints
    alone_ns: Ints
    dispatch_ns: int
    per_query_ns: int
    limits_ns: Ints
    kind: Ints
    first: Ints
    changes: Ints
    drawn: Drawn
    dispatch: Drawn
    occupancy: float
    order: int
    rank: Ints
    quantum_ns: Floats
    bounds: Ints
    edges: Ints
    from_ns: Ints
    rows: Ints
    sizes: Ints


class ArrivalArrays(NamedTuple):
    """The queries of a run; arrays of shape (queries,).

    Attributes:
        arrival_ns: When they arrive, never decreasing.
        deadline_ns: When their batches are due.
        queue: The queue of each, uint16.
    """

    arrival_ns: Ints
    deadline_ns: Ints
    queue: npt.NDArray[np.uint16]


class QueueState(NamedTuple):
    """The state of a run, which the loop changes; the first eight as in `sim.compiled.loop_state.State`.

    Attributes:
        at: `TURN`, and from `CHANGE` on as in `sim.compiled.loop_state.State`, the length that of
            all queues.
        idle: Number of idle workers of each kind.
        free: Idle workers, a heap for each kind.
        free_ns: When running workers can take their next batches, a heap with `busy`.
        busy: The numbers of these workers.
        loaded: The subnet on each worker.
        fails_ns: Next failure of each worker.
        last_ns: When each worker finishes all batches that it has begun.
        waiting: Queries queue by queue, int64, shape (queries,): of each those that wait, then those that are to come.
        keys: The deadlines of those that wait, if they are a heap with `waiting`; else empty.
        head: Where those that wait in each queue begin, int64, shape (queues,), as the next five.
        length: How many these are.
        head_ns: The deadline of the most urgent one.
        upcoming: Where those that are to come begin.
        ends: Where they end.
        next_ns: When the first of them arrives, or `FAR`.
        deficit: What each queue may still use under `FAIR`, float64, shape (queues,).
        ahead: The same after the offers that were made last.
        offered: Whether each queue has been offered to a kind of workers, bool, shape (queues,).
    """

    at: Ints
    idle: Ints
    free: Ints
    free_ns: Ints
    busy: Ints
    loaded: Ints
    fails_ns: Ints
    last_ns: Ints
    waiting: Ints
    keys: Ints
    head: Ints
    length: Ints
    head_ns: Ints
    upcoming: Ints
    ends: Ints
    next_ns: Ints
    deficit: Floats
    ahead: Floats
    offered: Bools


_COSTS = (READ_GRID, READ_GRID, READ_INTS, READ_INTS, READ_GRID, INT, INT)
_WORKERS = (READ_GRID, READ_INTS, READ_INTS, READ_GRID, DRAWN_TYPE, DRAWN_TYPE, FLOAT)
_QUEUES = (INT, READ_INTS, READ_FLOATS, READ_INTS)
_DECIDED = (READ_INTS, READ_INTS, READ_GRID, READ_GRID)
QUEUE_SETTING_TYPE = tuple_of(QueueSetting, *_COSTS, *_WORKERS, *_QUEUES, *_DECIDED)
ARRIVALS_TYPE = tuple_of(ArrivalArrays, READ_INTS, READ_INTS, READ_CODES)
QUEUE_STATE_TYPE = tuple_of(QueueState, *(INTS,) * 16, FLOATS, FLOATS, BOOLS)
