"""What a worker can serve, by its latency table."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from sim.engine.planning import KindView, PlannerView, QueueView
    from sim.tables.latency import LatencyTable


def largest_batch(table: LatencyTable, subnet: int, slo_ns: int, dispatch_ns: int) -> int:
    """Return the largest measured batch size that takes at most half of the SLO, or 0.

    So a query that just missed a batch can wait for it and is still answered in time by the next one: the rule of
    Nexus (Shen et al., SOSP 2019, section 4.1) and of Proteus.
    """
    fits = (size for size in table.batch_sizes if 2 * (table.latency(subnet, size) + dispatch_ns) <= slo_ns)
    return max(fits, default=0)


@lru_cache(maxsize=256)
def throughput_per_s(table: LatencyTable, subnet: int, slo_ns: int, dispatch_ns: int) -> float:
    """Return the queries/s of a worker that runs batches of the largest size of `largest_batch`; 0 without any."""
    size = largest_batch(table, subnet, slo_ns, dispatch_ns)
    return size * NS_PER_S / (table.latency(subnet, size) + dispatch_ns) if size else 0.0


def capacity_per_s(view: PlannerView, kind: KindView, accuracy: float | None) -> float:
    """Return the queries/s that a worker of a kind is counted on to serve, in the mix of the queues' last arrivals.

    That is the rate at which the times of queries of all queues fill a worker: the mean of what it can serve of each
    queue, harmonic and weighted by their arrivals; equally without any.

    Args:
        view: What the planner sees.
        kind: The kind of the worker.
        accuracy: That of the subnet in percent; the most accurate subnet of each queue if None.

    Raises:
        DataError: The table of a queue has no subnet of this accuracy, or several.
    """
    if len(view.queues) == 1:
        return _of_queue(view, view.queues[0], kind, accuracy)
    counts = [queue.arrivals if view.arrivals else 1 for queue in view.queues]
    pairs = zip(counts, view.queues, strict=True)
    return sum(counts) / sum(count / _of_queue(view, queue, kind, accuracy) for count, queue in pairs)


def _of_queue(view: PlannerView, queue: QueueView, kind: KindView, accuracy: float | None) -> float:
    """Return what a worker can serve of one queue: single queries where no batch takes at most half of the SLO."""
    table = queue.tables[kind.name]
    subnet = len(table.subnets) - 1 if accuracy is None else table.subnet_of_accuracy(accuracy)
    found = throughput_per_s(table, subnet, queue.slo_ns, view.dispatch_ns)
    return found or NS_PER_S / (table.latency(subnet, 1) + view.dispatch_ns)
