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

    A way is a subnet with a batch size. Dominated ways are left out: those for which another has at least the value, at
    most the duration and at least the size.

    Attributes:
        arrival_ns: Arrivals, int64, shape (queries,), never decreasing.
        deadline_ns: When batches are due: deadlines less the network's delay, and not before the arrival. int64, shape
            (queries,).
        cluster: The workers.
        value: Value of a query that is answered in time in this way, float64, shape (ways,).
        duration_ns: The least time to the answer, with the overheads of dispatch, int64, shape (ways,).
        occupied_ns: The least time until the worker can take its next batch, likewise.
        max_queries: Maximum size of a batch, int64, shape (ways,).
        subnet: The subnet (index into the table), int64, shape (ways,).
    """

    arrival_ns: npt.NDArray[np.int64]
    deadline_ns: npt.NDArray[np.int64]
    cluster: Cluster
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


def instance_of(trace: Trace, cluster: Cluster, table: LatencyTable, values: Values = "accuracy") -> Instance:
    """Return the scheduling problem of a trace, a cluster and a table.

    Args:
        trace: The queries.
        cluster: The workers.
        table: Latencies and accuracies of the subnets.
        values: Value of a query that is answered in time.

    Raises:
        SpecError: The kind of values is unknown, or the cluster has queues or kinds with tables of their own.

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
    subnets, sizes = len(table.subnets), table.max_batch
    if cluster.queues:
        hint = "the bound is for one queue, in which any queries share a batch"
        raise SpecError("queues", "a cluster with queues has no bound on any policy", "", hint)
    if cluster.is_scaled:
        hint = "leave out the planner"
        raise SpecError("planner", "workers that come and go have no bound on any policy", "", hint)
    if any(kind.table is not None for kind in cluster.kinds):
        hint = "the bound is for workers with one latency table"
        raise SpecError("cluster.kinds", "kinds of workers have no bound on any policy", "", hint)
    accuracy = np.array([subnet.accuracy for subnet in table.subnets]) / 100
    subnet = np.repeat(np.arange(subnets), sizes)
    value = np.ones(len(subnet)) if values == "attainment" else accuracy[subnet]
    duration, occupied = cluster.least_ns(table).ravel(), cluster.least_ns(table, occupied=True).ravel()
    max_queries = np.tile(np.arange(1, sizes + 1), subnets)
    undominated = _undominated(value, duration, occupied, max_queries)
    return Instance(
        trace.arrival_ns,
        np.maximum(cluster.due_ns(trace), trace.arrival_ns),
        cluster,
        value[undominated],
        duration[undominated],
        occupied[undominated],
        max_queries[undominated],
        subnet[undominated],
    )


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
