"""The offline scheduling problem: queries, workers, and the batches that a worker can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sim.base.errors import SpecError

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.cluster import Cluster
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

    A way is a subnet with a batch size on workers with a latency table: a *group* of workers, of one kind or of several
    that share it. Dominated ways are left out: those for which another of the group has at least the value, at most the
    duration and at least the size.

    Attributes:
        arrival_ns: Arrivals, int64, shape (queries,), never decreasing.
        deadline_ns: When batches are due: deadlines less the network's delay, and not before the arrival. int64, shape
            (queries,).
        cluster: The workers.
        group_of: The group of each worker, int64, shape (workers,).
        group: The group of each way, int64, shape (ways,).
        value: Value of a query that is answered in time in this way, float64, shape (ways,).
        duration_ns: The least time to the answer, with the overheads of dispatch, int64, shape (ways,).
        occupied_ns: The least time until the worker can take its next batch, likewise.
        max_queries: Maximum size of a batch, int64, shape (ways,).
        subnet: The subnet (index into the table of the run), int64, shape (ways,).
    """

    arrival_ns: npt.NDArray[np.int64]
    deadline_ns: npt.NDArray[np.int64]
    cluster: Cluster
    group_of: npt.NDArray[np.int64]
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
        return np.bincount(self.group_of)


def instance_of(trace: Trace, cluster: Cluster, table: LatencyTable, values: Values = "accuracy") -> Instance:
    """Return the scheduling problem of a trace, a cluster and a table.

    Args:
        trace: The queries.
        cluster: The workers.
        table: Latencies and accuracies of the subnets.
        values: Value of a query that is answered in time.

    Raises:
        SpecError: The kind of values is unknown, the cluster has queues, workers come and go, or the subnets of a kind
            differ from the table's.

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
    if cluster.queues:
        hint = "the bound is for one queue, in which any queries share a batch"
        raise SpecError("queues", "a cluster with queues has no bound on any policy", "", hint)
    if cluster.is_scaled:
        hint = "leave out the planner"
        raise SpecError("planner", "workers that come and go have no bound on any policy", "", hint)
    pools = cluster.pools(table)
    tables = {pool.table: pool.rows for pool in pools}  # kinds that share a table are one group
    groups = {own: group for group, own in enumerate(tables)}
    group_of = np.empty(cluster.workers, np.int64)
    for pool in pools:
        group_of[pool.workers] = groups[pool.table]
    ways = [_ways(cluster, own, rows, values) for own, rows in tables.items()]
    group = np.repeat(np.arange(len(ways)), [len(way[0]) for way in ways])
    value = np.concatenate([way[0] for way in ways])
    duration, occupied, max_queries, subnet = (np.concatenate([way[1][i] for way in ways]) for i in range(4))
    return Instance(
        trace.arrival_ns,
        np.maximum(cluster.due_ns(trace), trace.arrival_ns),
        cluster,
        group_of,
        group,
        value,
        duration,
        occupied,
        max_queries,
        subnet,
    )


def _ways(
    cluster: Cluster, table: LatencyTable, rows: tuple[int, ...], values: Values
) -> tuple[npt.NDArray[np.float64], list[npt.NDArray[np.int64]]]:
    """Return the values of the undominated ways of a table, and their durations, occupied times, sizes and subnets."""
    subnets, sizes = len(table.subnets), table.max_batch
    accuracy = np.array([subnet.accuracy for subnet in table.subnets]) / 100
    subnet = np.repeat(np.arange(subnets), sizes)
    value = np.ones(len(subnet)) if values == "attainment" else accuracy[subnet]
    duration, occupied = cluster.least_ns(table).ravel(), cluster.least_ns(table, occupied=True).ravel()
    max_queries = np.tile(np.arange(1, sizes + 1), subnets)
    kept = _undominated(value, duration, occupied, max_queries)
    return value[kept], [duration[kept], occupied[kept], max_queries[kept], np.array(rows)[subnet[kept]]]


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
