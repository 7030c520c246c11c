"""A live run and the simulator: how far arrivals, overhead, drift, spread and order in time explain the difference.

The queries of the run are simulated again and again, each time with more of what the run met. What the last step still
differs by is neither latency nor overhead.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from sim.base.streams import stream
from sim.engine.driver import simulate
from sim.engine.metrics import mean_batch_size, mean_serving_accuracy, slo_attainment
from sim.engine.result import NONE
from sim.engine.run_metrics import WHOLE_RUN
from sim.tables.service_times import service_times

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    import numpy.typing as npt

    from serving.log import BatchRecord
    from sim.engine.cluster import Cluster
    from sim.engine.driver import Latencies
    from sim.engine.policy import Policy
    from sim.engine.result import Result
    from sim.engine.run_metrics import Measure
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

    _Ints = npt.NDArray[np.int64]

STEPS = {
    "intended": "simulated: as the file says",
    "received": "+ arrivals as received",
    "overhead": "+ median overhead",
    "scaled": "+ drift: latencies scaled",
    "drawn": "+ spread: ratios drawn",
    "replayed": "+ order: ratios replayed",
}
"""The simulations, each with what it adds to the one before."""

PARTS = {
    "received": "arrivals",
    "overhead": "overhead",
    "scaled": "drift",
    "drawn": "spread",
    "replayed": "order in time",
}
"""The part of the difference that a simulation adds."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredBatches:
    """The batches of a live run that were answered; arrays are int64 of shape (batches,), in order of their start.

    Attributes:
        start_ns: When it was dispatched.
        queue: The queue of its queries; 0 without queues.
        pool: The pool of its worker, as `Cluster.pools_by_queue` numbers them.
        subnet: Its subnet, as `Cluster.subnets` numbers those of all kinds of workers and all queues.
        size: Its queries.
        expected_ns: How long the forward pass was expected to take.
        forward_ns: How long it took.
        overhead_ns: Time from the decision to the answer beside the forward pass.
        of_query: For each query that was admitted, the batch that answered it; negative if none did.
    """

    start_ns: _Ints
    queue: _Ints
    pool: _Ints
    subnet: _Ints
    size: _Ints
    expected_ns: _Ints
    forward_ns: _Ints
    overhead_ns: _Ints
    of_query: _Ints

    @classmethod
    def of(cls, batches: Sequence[BatchRecord], of_query: _Ints, pool_of: Sequence[int]) -> Self:
        """Return those of a log.

        Args:
            batches: All batches of the log.
            of_query: For each query that was admitted, the number of its batch there; negative if there is none.
            pool_of: The pool of each worker.
        """
        answered = [not one.lost and one.finish_ns != NONE for one in batches]
        done = list(compress(batches, answered))
        instants = [(one.start_ns, one.begun_ns, one.ended_ns, one.finish_ns, one.expected_ns) for one in done]
        start, begun, ended, finish, expected = np.array(instants, dtype=np.int64).reshape(-1, 5).T
        decisions = [(one.start.queue, pool_of[one.start.worker], one.subnet, one.start.size) for one in done]
        queue, pool, subnet, size = np.array(decisions, dtype=np.int64).reshape(-1, 4).T
        took = ended - begun
        rest = (expected, took, finish - start - took, renumbered(of_query, answered))
        return cls(start, queue, pool, subnet, size, *rest)

    def only(self, some: npt.NDArray[np.bool_]) -> Self:
        """Return some of the batches, by a mask; `of_query` then numbers those of the whole run."""
        columns = (one.name for one in fields(self) if one.name != "of_query")
        return replace(self, **{name: getattr(self, name)[some] for name in columns})

    @property
    def ratio(self) -> npt.NDArray[np.float64]:
        """Time taken over time expected."""
        return self.forward_ns / self.expected_ns


def renumbered(of_query: _Ints, answered: Sequence[bool]) -> _Ints:
    """Return the numbers of batches if only those that were answered are counted; negative for any other."""
    numbers = np.append(np.where(answered, np.cumsum(answered) - 1, NONE), NONE)  # the last one is for no batch
    found: _Ints = numbers[np.maximum(of_query, NONE)]
    return found


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The figures of a simulation, or of the live run itself."""

    name: str
    slo_attainment: float
    mean_serving_accuracy: float
    mean_batch_size: float

    @classmethod
    def of(cls, name: str, result: Result) -> RunFigures:
        """Return the figures of a result."""
        return cls(name, slo_attainment(result), mean_serving_accuracy(result), mean_batch_size(result))


def simulations(
    intended: Trace,
    received: Trace,
    batches: MeasuredBatches,
    cluster: Cluster,
    table: LatencyTable,
    policy: Callable[[], Policy | dict[str, Policy]],
    seed: int,
    measure: Measure = WHOLE_RUN,
) -> list[RunFigures]:
    """Return the figures of all simulations, in the order of `STEPS`.

    Args:
        intended: The queries that were admitted, when they were to be sent.
        received: The same queries, when they were received.
        batches: What was measured, one batch or more.
        cluster: The workers and queues, as the live run had them.
        table: The table that the policy sees.
        policy: Returns a new policy object, or those of the queues by name.
        seed: The seed of the run.
        measure: The part of the run that the figures are about, by arrivals as received or intended.
    """
    latencies = _latencies(len(received), batches, cluster, table, seed)
    traces = {"intended": intended}
    found = (
        (
            name,
            simulate(traces.get(name, received), cluster, table, policy(), seed=seed, latency_of=latencies.get(name)),
        )
        for name in STEPS
    )
    return [RunFigures.of(name, result.measured(measure)) for name, result in found]


def _latencies(
    queries: int, batches: MeasuredBatches, cluster: Cluster, table: LatencyTable, seed: int
) -> dict[str, Callable[[int, int], Latencies]]:
    """Return for each simulation that does not take latencies from the table those of a queue on a pool of workers.

    The engine adds the overhead of the file, in place of which the measured one has to come.
    """
    pools, planned_ns = cluster.pools_by_queue(table), cluster.overheads(seed)
    ratio, overhead = batches.ratio, batches.overhead_ns.tolist()
    usual, drift = int(np.median(batches.overhead_ns)), float(np.median(ratio))
    cells = np.stack([batches.pool, batches.subnet], axis=1)
    drifts = {
        tuple(cell): float(np.median(ratio[(cells == cell).all(axis=1)])) for cell in np.unique(cells, axis=0).tolist()
    }
    of_query, is_replayed = batches.of_query.tolist(), [False] * len(ratio)

    def of(name: str, queue: int, pool: int) -> Latencies:
        part = pools[queue][pool]
        latency_of = service_times(part.table, cluster.latency).of_run(seed)
        same = np.flatnonzero(batches.pool == pool) if (batches.pool == pool).any() else np.arange(len(ratio))
        drawn = same[stream(seed, "comparison").integers(len(same), size=queries)].tolist()

        def taken(subnet: int, size: int, head: int, factor: float, more_ns: int) -> int:
            return max(1, round(latency_of(subnet, size, head) * factor) + more_ns - planned_ns(size, head))

        def like(subnet: int, size: int, head: int, number: int) -> int:
            return taken(subnet, size, head, float(ratio[number]), overhead[number])

        def scaled(subnet: int, size: int, head: int) -> int:
            return taken(subnet, size, head, drifts.get((pool, part.rows[subnet]), drift), usual)

        def replayed(subnet: int, size: int, head: int) -> int:
            number = of_query[head]
            if number < 0 or is_replayed[number]:  # what delayed a batch happened once
                return scaled(subnet, size, head)
            is_replayed[number] = True
            return like(subnet, size, head, number)

        laws: dict[str, Latencies] = {
            "overhead": lambda subnet, size, head: taken(subnet, size, head, 1.0, usual),
            "scaled": scaled,
            "drawn": lambda subnet, size, head: like(subnet, size, head, drawn[head]),
            "replayed": replayed,
        }
        return laws[name]

    return {name: partial(of, name) for name in ("overhead", "scaled", "drawn", "replayed")}
