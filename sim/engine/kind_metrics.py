"""The metrics of a run by kind of workers, and what the run cost in money and energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from sim.engine.kinds import WorkerKind
    from sim.engine.run_metrics import RunMetrics

NS_PER_H = 3600 * NS_PER_S
_WH_PER_KWH = 1000
_J_PER_KWH = 3_600_000


@dataclass(frozen=True, slots=True)
class KindMetrics:
    """What the workers of a kind did in the measured part of a run.

    Laws: queries and batches of all kinds add up to those of the run, and so do busy, available and start-up time.

    Attributes:
        kind: The kind.
        offered: Its place in the order in which free workers are offered, from 1.
        batches: Batches that started.
        batched: Queries in them.
        met: Measured queries that they answered by their deadlines.
        accuracy: The sum of the accuracies of these in percent.
        busy_ns: The time that they were busy, summed over workers.
        available_ns: The time that they could serve, neither starting nor failed, summed over workers.
        startup_ns: The time of their start-ups, summed over workers.
        batch_j: The energy of their batches in joules, where their tables have it; None else.
    """

    kind: WorkerKind
    offered: int
    batches: int
    batched: int
    met: int
    accuracy: float
    busy_ns: int
    available_ns: int
    startup_ns: int = 0
    batch_j: float | None = None

    @property
    def utilisation(self) -> float:
        """The share of the available time that they were busy; NaN without any."""
        return self.busy_ns / self.available_ns if self.available_ns else float("nan")

    @property
    def mean_serving_accuracy(self) -> float:
        """The mean accuracy in percent over the queries that met their SLO on them; NaN if none did."""
        return self.accuracy / self.met if self.met else float("nan")

    @property
    def mean_batch_size(self) -> float:
        """The mean number of queries in a batch; NaN without any batch."""
        return self.batched / self.batches if self.batches else float("nan")

    @property
    def worker_h(self) -> float:
        """The time in hours that is paid: start-ups, idle and busy time."""
        return (self.available_ns + self.startup_ns) / NS_PER_H

    @property
    def startup_h(self) -> float:
        """The time of start-ups in hours."""
        return self.startup_ns / NS_PER_H

    @property
    def cost(self) -> float | None:
        """The price of the time that is paid; None without a price."""
        return None if self.kind.price_per_h is None else self.kind.price_per_h * self.worker_h

    @property
    def energy_kwh(self) -> float | None:
        """The energy of that time in kilowatt-hours, start-ups at the power of an idle worker; None without powers.

        Where the energy of batches is measured, it takes the place of the power of a busy worker.
        """
        idle_w, busy_w = self.kind.idle_w, self.kind.busy_w
        if idle_w is None or busy_w is None:
            return None
        idle_ns = self.startup_ns + self.available_ns - self.busy_ns
        if self.batch_j is not None:
            return (idle_w * idle_ns / NS_PER_S + self.batch_j) / _J_PER_KWH
        return (idle_w * idle_ns + busy_w * self.busy_ns) / NS_PER_H / _WH_PER_KWH


def by_kind(run: RunMetrics) -> list[KindMetrics]:
    """Return the metrics of each kind of workers, in the order of the cluster; nothing without kinds."""
    cluster, counts = run.cluster, run.kind_counts
    pools = {pool.kind: (number, pool) for number, pool in enumerate(cluster.pools_by_queue(run.table)[0], 1)}
    accuracy = counts.met @ np.array([subnet.accuracy for subnet in run.subnets], dtype=np.float64)
    found: list[KindMetrics] = []
    fleet = run.fleet
    for place, kind in enumerate(cluster.kinds):
        offered, pool = pools[kind.name]
        startup_ns = 0
        if fleet is None:
            down_ns = cluster.down_ns(run.until_ns, pool.workers) - cluster.down_ns(run.from_ns, pool.workers)
            available_ns = kind.workers * (run.until_ns - run.from_ns) - down_ns
        else:
            available_ns = fleet.available_ns(run.until_ns, place) - fleet.available_ns(run.from_ns, place)
            startup_ns = fleet.started_up_ns(run.until_ns, place) - fleet.started_up_ns(run.from_ns, place)
        metrics = KindMetrics(
            kind,
            offered,
            batches=int(counts.batches[place]),
            batched=int(counts.batched[place]),
            met=int(counts.met[place].sum()),
            accuracy=float(accuracy[place]),
            busy_ns=int(counts.busy_ns[place]),
            available_ns=available_ns,
            startup_ns=startup_ns,
            batch_j=None if counts.batch_j is None or np.isnan(counts.batch_j[place]) else float(counts.batch_j[place]),
        )
        found.append(metrics)
    return found


def total(values: list[float | None]) -> float | None:
    """Return the sum of what each kind cost; None where it is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None
