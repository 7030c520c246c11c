"""What the loops of `sim.kernel` take and change, as named tuples of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints: TypeAlias = npt.NDArray[np.int64]
    Floats: TypeAlias = npt.NDArray[np.float64]
    Bools: TypeAlias = npt.NDArray[np.bool_]


class Setting(NamedTuple):
    """What does not change in a run.

    Attributes:
        latency_ns: Latency by subnet and batch size, int64, shape (subnets, largest batch + 1).
        actuation_ns: Delay of a switch to each subnet, int64, shape (subnets,).
        dispatch_ns: Overhead of a batch.
        drop_rule: `NEVER`, `EXPIRED` or `HOPELESS` of `sim.kernel`.
        smallest_ns: The smallest latency.
        from_ns: Slacks at which a decision changes, increasing, int64, shape (slacks,).
        subnets: Subnet decided on, by how many of these slacks are reached, and by queue length; the last column stands
            for all longer queues. int64, shape (slacks + 1, lengths).
        sizes: Batch size decided on, likewise.
        changes: Failures and recoveries as they come, int64, shape (changes, 4): instant, worker, 1 for a failure, and
            for a recovery when the worker fails next.
    """

    latency_ns: Ints
    actuation_ns: Ints
    dispatch_ns: int
    drop_rule: int
    smallest_ns: int
    from_ns: Ints
    subnets: Ints
    sizes: Ints
    changes: Ints


class State(NamedTuple):
    """Where a run stands; `advance` changes all of it.

    Attributes:
        at: Numbers of the first query in the queue, of the next to arrive and of the next change; how many workers are
            idle and how many run; the length of the queue. int64, shape (6,).
        free: Idle workers, a heap, int64, shape (workers,).
        finish_ns: When those that run will finish, a heap with `busy`, int64, shape (workers,).
        busy: Which workers those are.
        runs: Whether a worker has a batch, bool, shape (workers,).
        loaded: The subnet on each worker, int64, shape (workers,).
        fails_ns: When each worker fails next, int64, shape (workers,).
        deadline_ns: Deadlines of the queue, a heap with `waiting`; empty where deadlines never decrease.
        waiting: Which queries those are.
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


class Counts(NamedTuple):
    """What is counted of a run; see `sim.tally.Tally`.

    Attributes:
        totals: Batches; queries in them; late, dropped, unfinished queries; busy time; last answer. int64, shape (7,).
        met: Queries that met their SLO by subnet, int64, shape (subnets,).
        latencies: Answered queries by bucket of latency, int64, shape (`sim.kernel.BUCKETS`,).
        numbers: By window: arrivals, met, batches, queries in them, busy time. int64, shape (windows, 5).
        accuracy: By window: the sum of the accuracies of met queries, float64, shape (windows,).
    """

    totals: Ints
    met: Ints
    latencies: Ints
    numbers: Ints
    accuracy: Floats
