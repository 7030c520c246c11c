"""What the compiled loop reads and changes: the constants of a run, its state, and the log of its batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.compiled.compiling import BOOL, BOOLS, FLOAT, FLOATS, INT, INTS, READ_GRID, READ_INTS, tuple_of

if TYPE_CHECKING:
    from sim.compiled.compiling import Bools, Floats, Ints

HEAD, ARRIVED, BEFORE, CHANGE, IDLE, RUNNING, LENGTH, HELD_NS = range(8)
"""Indices of `State.at`."""

FAR = 2**62
"""The time of events that never happen."""

DROPPED = -1
"""Placeholder in the log for the subnet of dropped queries."""

NOBODY = -1
"""Placeholder in the log for their worker."""

FAILED, NEW, GONE = -1, -2, -3
"""In place of the row on a worker: it has failed since its last batch, has run none, or takes no further one."""

COMES, FAILS, LEAVES = range(3)
"""What a worker does in `Setting.changes`: it comes, or comes back; fails; or takes no further batch."""


class Drawn(NamedTuple):
    """`sim.tables.service_times.Distributions` by row, and the key of quantiles; without nodes nothing is drawn."""

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
        limit_ns: Queries with less slack are dropped, until the first of these changes.
        kind: The kind of each worker, int64, shape (workers,).
        first: The place in `State.free` at which the heap of each kind begins, int64, shape (kinds,).
        changes: What workers do, in order, int64, shape (changes, 5): time, worker, `COMES`, `FAILS` or `LEAVES`, the
            time of the next failure of one that comes, and `limit_ns` from then on.
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
        free: Idle workers, a heap for each kind, int64, shape (workers,).
        free_ns: When running workers can take their next batches, a heap with `busy`, int64, shape (workers,).
        busy: The numbers of these workers.
        loaded: The row of the subnet on each worker; `FAILED`, `NEW` or `GONE`. int64, shape (workers,).
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

    @classmethod
    def empty(cls, rows: int, *, overlaps: bool) -> Log:
        """Return a log with room for so many rows.

        Args:
            rows: How many.
            overlaps: Whether a worker may take its next batch before the completion.
        """
        # One large allocation, of which only written pages become memory: several of middling size are slower.
        start_ns, finish_ns, worker, row, size = np.empty((5, rows), np.int64)
        free_ns = np.empty(rows, np.int64) if overlaps else finish_ns
        return cls(start_ns, finish_ns, free_ns, worker, row, size, np.empty(rows, np.bool_))

    def part(self, rows: slice) -> Log:
        """Return some of the rows."""
        times = self.start_ns[rows], self.finish_ns[rows], self.free_ns[rows]
        return Log(*times, self.worker[rows], self.row[rows], self.size[rows], self.lost[rows])


DRAWN_TYPE = tuple_of(Drawn, READ_INTS, READ_GRID, READ_GRID, INT, INT)
_COSTS = (READ_GRID, READ_GRID, READ_INTS, INT, INT, INT)
_DECIDED = (DRAWN_TYPE, DRAWN_TYPE, FLOAT, READ_INTS, READ_INTS, READ_GRID, READ_GRID)
SETTING_TYPE = tuple_of(Setting, *_COSTS, READ_INTS, READ_INTS, READ_GRID, BOOL, *_DECIDED)
STATE_TYPE = tuple_of(State, INTS, INTS, INTS, INTS, INTS, INTS, INTS, INTS, INTS, INTS, FLOATS)
LOG_TYPE = tuple_of(Log, INTS, INTS, INTS, INTS, INTS, INTS, BOOLS)
