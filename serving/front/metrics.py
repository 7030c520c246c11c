"""The metrics of a server in the text format of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from serving.front.handler import RequestHandler
    from serving.service import Service
    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable


class ServiceMetrics(Collector):
    """Reads the counts of a service whenever it is asked."""

    def __init__(self, service: Service, handler: RequestHandler, cluster: Cluster, table: LatencyTable) -> None:
        """Read a service.

        Args:
            service: The service.
            handler: The requests to it.
            cluster: Names the queues.
            table: Names the subnets.
        """
        self._service, self._handler = service, handler
        self._subnets, self._queues, self.connections = cluster.subnets(table), cluster.queues, 0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self, connections: int) -> bytes:
        """Return all metrics; so many connections are open."""
        self.connections = connections
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        router, handler, workers = self._service.router, self._handler, self._service.workers
        counts = router.counts
        yield _total("queries_received", "Queries that the router received.", len(router.log.arrival_ns))
        yield _total("queries_answered", "Queries that were served, in time or late.", sum(counts.served))
        yield self._by_subnet("queries_in_time", "Queries that met their SLO.", counts.met)
        not_served = CounterMetricFamily("ssim_queries_not_served", "Queries not served, by reason.", labels=["reason"])
        for reason, count in counts.not_served.items():
            not_served.add_metric([reason.name.lower()], count)
        yield not_served
        yield _total("queries_refused", "Queries that came when none were taken.", handler.refused)
        yield _total("queries_abandoned", "Queries in a batch whose client was gone.", handler.abandoned)
        yield self._by_subnet("batches", "Batches that were answered.", counts.batches)
        yield _total("worker_faults", "What happened to workers.", len(router.log.faults))
        yield _gauge("queue_length", "Queries that wait.", router.queues.waiting)
        yield _gauge("queries_open", "Queries that wait or are in a batch.", router.open_queries)
        if self._queues:
            waiting = map(router.queues.waiting_in, range(len(self._queues)))
            yield self._by_queue(CounterMetricFamily, "queue_received", "Queries received, by queue.", counts.received)
            yield self._by_queue(CounterMetricFamily, "queue_in_time", "Queries in time, by queue.", counts.in_time)
            yield self._by_queue(GaugeMetricFamily, "queue_waiting", "Queries that wait, by queue.", waiting)
        yield _gauge("workers", "Workers.", len(workers))
        yield _gauge("workers_alive", "Workers that are ready or run a batch.", sum(one.is_up for one in workers))
        yield _gauge("connections", "Connections that are open.", self.connections)
        yield _gauge("ready", "Whether requests are taken.", handler.is_ready)
        accuracy = GaugeMetricFamily("ssim_subnet_accuracy", "Accuracy of a subnet in percent.", labels=["subnet"])
        for subnet in self._subnets:
            accuracy.add_metric([subnet.id], subnet.accuracy)
        yield accuracy

    def _by_subnet(self, name: str, meaning: str, values: list[int]) -> Metric:
        found = CounterMetricFamily(f"ssim_{name}", meaning, labels=["subnet"])
        for subnet, value in zip(self._subnets, values, strict=True):
            found.add_metric([subnet.id], value)
        return found

    def _by_queue(
        self,
        family: type[CounterMetricFamily | GaugeMetricFamily],
        name: str,
        meaning: str,
        values: Iterable[int],
    ) -> Metric:
        found = family(f"ssim_{name}", meaning, labels=["queue"])
        for queue, value in zip(self._queues, values, strict=True):
            found.add_metric([queue.name], value)
        return found


def _total(name: str, meaning: str, value: int) -> Metric:
    return CounterMetricFamily(f"ssim_{name}", meaning, value=value)


def _gauge(name: str, meaning: str, value: int) -> Metric:
    return GaugeMetricFamily(f"ssim_{name}", meaning, value=value)
