"""The metrics of a run by queue, weighted, and how evenly the queues are served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.engine.classes import by_class
from sim.engine.metrics import mean_serving_accuracy, slo_attainment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.engine.result import Result
    from sim.engine.service_queue import ServiceQueue


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """What became of the queries of a queue in the measured part of a run.

    Laws: queries of all queues add up to those of the run, and so do batches and busy time.

    Attributes:
        queue: The queue.
        queries: The run with its measured queries only, while metrics of batches are those of all; None without any.
        batches: Its batches.
        batched: Queries in them.
        busy_ns: The time that workers were busy with them, summed over workers.
    """

    queue: ServiceQueue
    queries: Result | None
    batches: int
    batched: int
    busy_ns: int

    @property
    def mean_batch_size(self) -> float:
        """The mean number of queries in a batch; NaN without any batch."""
        return self.batched / self.batches if self.batches else float("nan")


def by_queue(result: Result) -> list[QueueMetrics]:
    """Return the metrics of each queue, in the order of the cluster; nothing without queues."""
    if not result.cluster.queues:
        return []
    batches, codes = result.batches, result.trace.class_codes
    of_batch = np.zeros(len(batches), np.int64)
    served = result.batch >= 0
    if codes is not None:
        of_batch[result.batch[served]] = codes[served]
    until_ns = np.minimum(batches.free_ns, result.until_ns)
    busy_ns = np.maximum(until_ns - np.maximum(batches.start_ns, result.from_ns), 0)
    started, found, queries = result.started, [], dict(by_class(result))
    for place, queue in enumerate(result.cluster.queues):
        mine = of_batch == place
        size = batches.size[started][mine[started]]
        own = queries.get(queue.name)
        found.append(QueueMetrics(queue, own, len(size), int(size.sum()), int(busy_ns[mine].sum())))
    return found


def weighted_attainment(queues: Sequence[QueueMetrics]) -> float:
    """Return the mean of the queues' SLO attainments by their weights, over those with queries; NaN without any."""
    return _weighted(queues, slo_attainment)


def weighted_accuracy(queues: Sequence[QueueMetrics]) -> float:
    """Return the mean of the queues' serving accuracies by their weights, over those with a query that met its SLO."""
    return _weighted(queues, mean_serving_accuracy)


def _weighted(queues: Sequence[QueueMetrics], metric: Callable[[Result], float]) -> float:
    values = [(one.queue.weight, metric(one.queries)) for one in queues if one.queries is not None]
    known = [(weight, value) for weight, value in values if not np.isnan(value)]
    total = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / total if known else float("nan")


def jain_index(values: Sequence[float]) -> float:
    """Return how even shares are: 1 if all are equal, 1/n if one of n has everything; NaN if all are 0.

    (Jain, Chiu and Hawe, DEC Research Report TR-301, 1984.)

    Example:
        >>> jain_index([0.9, 0.9, 0.9]), jain_index([1.0, 0.0])
        (1.0, 0.5)
    """
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else float("nan")
