"""The offline scheduling problem: queries, workers, and the batches that a worker can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sim.base.errors import SpecError
from sim.engine.service_queue import in_queues

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

Values = Literal["attainment", "accuracy"]
"""Value of a query answered in time: 1, or the accuracy of its subnet as a fraction (80.16 % is 0.8016).

The sum over all queries, divided by their number, is the SLO attainment, or the attainment weighted by accuracy: SLO
attainment times mean serving accuracy, which is the objective of the paper's optimal policy (SuperServe, NSDI 2025,
section 4) for each query.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """The queries of a trace, the workers, and the ways in which a worker can run a batch.

    A way is a subnet with a batch size for the queries of a queue, on workers of a *group*: of one kind, or of several
    with the same latency tables. Dominated ways are left out: those for which another of the same group and queue has
    at least the value, at most the duration and at least the size.

    Attributes:
        arrival_ns: Arrivals, int64, shape (queries,), never decreasing.
        deadline_ns: When batches are due: deadlines less the network's delay, and not before the arrival. int64, shape
            (queries,).
        queue_of: The queue of each query, as a place in the cluster, 0 without queues; int64, shape (queries,).
        cluster: The workers.
        group_of: The group of each worker, int64, shape (workers,).
        kinds: The kinds of each group, as places in the cluster; 0 without kinds.
        queue: The queue of each way, int64, shape (ways,).
        group: The group of each way, int64, shape (ways,).
        value: Value of a query that is answered in time in this way, float64, shape (ways,).
        duration_ns: The least time to the answer, with the overheads of dispatch, int64, shape (ways,).
        occupied_ns: The least time until the worker can take its next batch, likewise.
        max_queries: Maximum size of a batch, int64, shape (ways,).
        subnet: The subnet (index into `Cluster.subnets`), int64, shape (ways,).
    """

    arrival_ns: npt.NDArray[np.int64]
    deadline_ns: npt.NDArray[np.int64]
    queue_of: npt.NDArray[np.int64]
    cluster: Cluster
    group_of: npt.NDArray[np.int64]
    kinds: tuple[tuple[int, ...], ...]
    queue: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    duration_ns: npt.NDArray[np.int64]
    occupied_ns: npt.NDArray[np.int64]
    max_queries: npt.NDArray[np.int64]
    subnet: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.arrival_ns)

    @property
    def ways(self) -> int:
        """Number of ways to run a batch."""
        return len(self.value)

    @property
    def workers(self) -> npt.NDArray[np.int64]:
        """Number of workers of each group, int64, shape (groups,)."""
        return np.bincount(self.group_of, minlength=len(self.kinds))

    def check_workers_stay(self) -> None:
        """Check that the number of workers does not change.

        Raises:
            SpecError: It does.
        """
        if self.cluster.is_scaled:
            hint = "cost_frontier bounds what they reach by what they cost"
            raise SpecError("planner", "workers that come and go have no bound by their number", "", hint)


def instance_of(
    trace: Trace, cluster: Cluster, table: LatencyTable, values: Values = "accuracy", *, weighted: bool = False
) -> Instance:
    """Return the scheduling problem of a trace, a cluster and a table.

    Args:
        trace: The queries.
        cluster: The workers and queues.
        table: Latencies and accuracies of the subnets, where neither kinds nor queues have tables of their own.
        values: Value of a query that is answered in time.
        weighted: Whether queries count by the weight of their queue: the mean value of a query is then the mean over
            the queues that have any, by weight.

    Raises:
        SpecError: The kind of values is unknown, or the subnets of a kind differ from the table's.
        DataError: The trace does not name the queues of the cluster.

    Examples:
        >>> from sim import Cluster, LatencyTable, ProfiledSubnet, Trace
        >>> subnets = (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0))
        >>> table = LatencyTable("toy", subnets, (1, 2), np.array([[2, 3], [4, 9]]))
        >>> trace = Trace(np.array([0, 5]), slo_ns=10, duration_ns=20)
        >>> instance_of(trace, Cluster(1), table, "attainment").duration_ns.tolist()
        [2, 3]
    """
    if values not in {"attainment", "accuracy"}:
        raise SpecError("values", "unknown kind", repr(values), "attainment or accuracy")
    trace = in_queues(trace, cluster.queues)
    codes = trace.class_codes if cluster.queues else None
    queue_of = np.zeros(len(trace), np.int64) if codes is None else codes.astype(np.int64)
    counts = np.bincount(queue_of, minlength=max(1, len(cluster.queues)))
    weights = np.array([queue.weight for queue in cluster.queues] or [1.0])
    factors = weights / (weights @ (counts > 0)) * len(trace) / np.maximum(counts, 1) if weighted else None
    by_kind = [*zip(*cluster.pools_by_queue(table), strict=True)]  # for each kind its pools by queue
    groups: dict[tuple[LatencyTable, ...], list[tuple[WorkerPool, ...]]] = {}
    for pools in by_kind:
        groups.setdefault(tuple(pool.table for pool in pools), []).append(pools)
    names = [kind.name for kind in cluster.kinds] or [""]
    group_of = np.empty(cluster.workers, np.int64)
    parts: list[_Part] = []
    for group, (tables, members) in enumerate(groups.items()):
        for pools in members:
            group_of[pools[0].workers] = group
        for queue, (own, pool) in enumerate(zip(tables, members[0], strict=True)):
            found = _ways(cluster, own, pool.rows, values)
            worth = found.value if factors is None else found.value * factors[queue]
            parts.append(
                found._replace(value=worth, queue=np.full(len(worth), queue), group=np.full(len(worth), group))
            )
    joined = _Part(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return Instance(
        trace.arrival_ns,
        np.maximum(cluster.due_ns(trace), trace.arrival_ns),
        queue_of,
        cluster,
        group_of,
        tuple(tuple(names.index(pools[0].kind) for pools in members) for members in groups.values()),
        joined.queue,
        joined.group,
        joined.value,
        joined.duration_ns,
        joined.occupied_ns,
        joined.max_queries,
        joined.subnet,
    )


class _Part(NamedTuple):
    """Some ways, by the columns of an `Instance`."""

    value: npt.NDArray[np.float64]
    duration_ns: npt.NDArray[np.int64]
    occupied_ns: npt.NDArray[np.int64]
    max_queries: npt.NDArray[np.int64]
    subnet: npt.NDArray[np.int64]
    queue: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]


def _ways(cluster: Cluster, table: LatencyTable, rows: tuple[int, ...], values: Values) -> _Part:
    """Return the undominated ways of a table, as of the first group and queue."""
    subnets, sizes = len(table.subnets), table.max_batch
    accuracy = np.array([subnet.accuracy for subnet in table.subnets]) / 100
    subnet = np.repeat(np.arange(subnets), sizes)
    value = np.ones(len(subnet)) if values == "attainment" else accuracy[subnet]
    duration, occupied = cluster.least_ns(table).ravel(), cluster.least_ns(table, occupied=True).ravel()
    max_queries = np.tile(np.arange(1, sizes + 1), subnets)
    kept = _undominated(value, duration, occupied, max_queries)
    first = np.zeros(len(kept), np.int64)
    subnets_kept = np.array(rows)[subnet[kept]]
    return _Part(value[kept], duration[kept], occupied[kept], max_queries[kept], subnets_kept, first, first)


def _undominated(
    value: npt.NDArray[np.float64],
    duration: npt.NDArray[np.int64],
    occupied: npt.NDArray[np.int64],
    max_queries: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return the ways that no other dominates; of equal ways the first."""
    undominated: list[int] = []
    # Sorted so that a way comes after all that dominate it.
    for way in np.lexsort((occupied, duration, -max_queries, -value)).tolist():
        if not any(
            value[rival] >= value[way]
            and duration[rival] <= duration[way]
            and occupied[rival] <= occupied[way]
            and max_queries[rival] >= max_queries[way]
            for rival in undominated
        ):
            undominated.append(way)
    return np.array(sorted(undominated), dtype=np.int64)
