"""What there is to decide, once the future is known: queries, workers, and what a worker can run."""

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
"""What a query is worth that is answered in time: 1, or the accuracy of its subnet as a share (80.16 % is 0.8016).

The sum over all queries, divided by their number, is the SLO attainment, or the attainment weighted by accuracy: SLO
attainment times mean serving accuracy, which is the objective of the paper's optimal policy (SuperServe, NSDI 2025,
section 4) for each query.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """The queries of a trace, the workers, and the ways in which a worker can run a batch.

    A way is a subnet with a batch size. Ways that another one beats in all respects (worth as much, not longer, and
    not smaller) are left out: whatever runs one can run the other at the same time.

    Attributes:
        arrival_ns: When queries arrive, int64, shape (queries,), never decreasing.
        deadline_ns: When they must be answered, int64, shape (queries,).
        cluster: The workers.
        value: What a query is worth that is answered in this way, float64, shape (ways,).
        duration_ns: How long a worker is busy with it, the overhead of a batch included, int64, shape (ways,).
        most: How many queries it takes at most, int64, shape (ways,).
        subnet: The subnet (index into the table), int64, shape (ways,).
    """

    arrival_ns: npt.NDArray[np.int64]
    deadline_ns: npt.NDArray[np.int64]
    cluster: Cluster
    value: npt.NDArray[np.float64]
    duration_ns: npt.NDArray[np.int64]
    most: npt.NDArray[np.int64]
    subnet: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.arrival_ns)

    @property
    def ways(self) -> int:
        """How many ways there are to run a batch."""
        return len(self.value)


def instance_of(trace: Trace, cluster: Cluster, table: LatencyTable, values: Values = "accuracy") -> Instance:
    """Return what there is to decide.

    Args:
        trace: The queries.
        cluster: The workers.
        table: What they can run.
        values: What a query is worth that is answered in time.

    Raises:
        SpecError: The values are not known.

    Example:
        >>> from sim import Cluster, LatencyTable, ProfiledSubnet, Trace
        >>> subnets = (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0))
        >>> table = LatencyTable("toy", subnets, (1, 2), np.array([[2, 3], [4, 9]]))
        >>> trace = Trace(np.array([0, 5]), slo_ns=10, duration_ns=20)
        >>> instance_of(trace, Cluster(1), table, "attainment").duration_ns.tolist()
        [2, 3]
    """
    if values not in {"attainment", "accuracy"}:
        raise SpecError("values", "are not known", repr(values), "attainment or accuracy")
    subnets, sizes = len(table.subnets), table.max_batch
    accuracy = np.array([subnet.accuracy for subnet in table.subnets]) / 100
    subnet = np.repeat(np.arange(subnets), sizes)
    value = np.ones(len(subnet)) if values == "attainment" else accuracy[subnet]
    duration = table.dense_ns[:, 1:].ravel() + cluster.dispatch_ns
    most = np.tile(np.arange(1, sizes + 1), subnets)
    kept = _unbeaten(value, duration, most)
    return Instance(trace.arrival_ns, trace.deadline_ns, cluster, value[kept], duration[kept], most[kept], subnet[kept])


def _unbeaten(
    value: npt.NDArray[np.float64], duration: npt.NDArray[np.int64], most: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the ways that no other one beats; of equal ones the first."""
    kept: list[int] = []
    # The best come first: who beats a way stands before it.
    for way in np.lexsort((duration, -most, -value)).tolist():
        if not any(
            value[other] >= value[way] and duration[other] <= duration[way] and most[other] >= most[way]
            for other in kept
        ):
            kept.append(way)
    return np.array(sorted(kept), dtype=np.int64)
