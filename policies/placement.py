"""AlpaServe's greedy placement, guided by simulation (Li et al., OSDI 2023, section 4.2); a model is that of a queue.

`greedy`, its Algorithm 1, begins with no model anywhere. In each step it simulates the workload once for each queue and
worker whose memory has room for the model of the queue, and keeps the placement of the highest SLO attainment. It ends
when no memory has room, and returns the best placement that it has passed through. That is a beam of one. `fast_greedy`
is the paper's faster heuristic, as in alpa-projects/mms, commit dba47b1,
`alpa_serve/placement_policy/base_policy.py`: one simulation a step, after which the queue with the most queries that
missed their SLO gets the least busy worker that has room for its model.

Added here: of equal attainments, the higher serving accuracy counts, since queues may run a supernet; then the queue
with fewer workers. Of equal placements in a row, the last one is returned: its models are on more workers. Workers of a
kind that hold the same models and never fail are interchangeable, so one of them is tried. Left out: groups of devices
and model parallelism, and beams of more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from sim.base.errors import SpecError
from sim.engine.kinds import pool_of_workers
from sim.engine.metrics import mean_serving_accuracy, slo_attainment
from sim.engine.queue_metrics import by_queue
from sim.engine.residence import BYTES_PER_GB, units_of
from sim.engine.run_metrics import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.engine.residence import Units
    from sim.engine.result import Result
    from sim.tables.latency import LatencyTable

SearchRule = Literal["greedy", "fast_greedy"]
"""How a placement is searched."""

Workers: TypeAlias = Mapping[str, tuple[int, ...]]
"""A placement: the workers of each queue by its name, in order."""


class Candidate(NamedTuple):
    """A placement that was simulated.

    Attributes:
        placement: The placement.
        result: The run of the workload.
    """

    placement: Workers
    result: Result

    @property
    def score(self) -> tuple[float, float]:
        """Its SLO attainment, and its mean serving accuracy, 0 where no query met its SLO."""
        accuracy = mean_serving_accuracy(self.result)
        return slo_attainment(self.result), 0.0 if np.isnan(accuracy) else accuracy


@dataclass(frozen=True, slots=True)
class PlacementSearch:
    """A search for the placement of queues on the workers of a cluster.

    Attributes:
        cluster: The workers, some with limited memory, and the queues.
        table: The table of the run as policies see it.
        simulated: Returns the run of the workload with a placement.
    """

    cluster: Cluster
    table: LatencyTable
    simulated: Callable[[Workers], Result]

    def search(self, rule: SearchRule) -> tuple[Candidate, list[Candidate]]:
        """Return the best placement of those that a search passes through, and all of these in order.

        Raises:
            SpecError: No memory has a limit, or a queue's model fits into none.
        """
        units = units_of_workers(self.cluster, self.table)
        passed: list[Candidate] = []
        here = Candidate(empty := {queue.name: () for queue in self.cluster.queues}, self.simulated(empty))
        while options := list(self._options(here.placement, units)):
            here = self._best(here, options) if rule == "greedy" else self._neediest(here, options)
            passed.append(here)
        return max(reversed(passed), key=lambda one: one.score), passed

    def _options(self, placement: Workers, units: Sequence[Units]) -> Iterator[tuple[str, int]]:
        """Yield the queues and workers that have room for them."""
        names = list(placement)
        held = [tuple(place for place, name in enumerate(names) if one in placement[name]) for one in range(len(units))]
        for place, name in enumerate(names):
            for worker, mine in enumerate(units):
                if place not in held[worker] and _has_room(mine, (*held[worker], place)):
                    yield name, worker

    def _best(self, here: Candidate, options: Sequence[tuple[str, int]]) -> Candidate:
        """Return the best placement with one model more."""
        failing = {fault.worker for fault in self.cluster.faults}
        kinds, placement = self.cluster.kind_of_worker, here.placement
        tried: dict[tuple[object, ...], tuple[str, int]] = {}
        for name, worker in options:
            alike = (int(kinds[worker]), *(worker in one for one in placement.values()))
            tried.setdefault((name, worker if worker in failing else -1, *alike), (name, worker))
        found = [(self._with(placement, *option), len(placement[option[0]])) for option in tried.values()]
        return max(found, key=lambda one: (*one[0].score, -one[1]))[0]

    def _neediest(self, here: Candidate, options: Sequence[tuple[str, int]]) -> Candidate:
        """Return the placement with one model more for the queue with the most misses, on the least busy worker."""
        missed = {one.queue.name: _missed(one.queries) for one in by_queue(here.result)}
        batches = here.result.batches
        busy_ns = np.bincount(batches.worker, batches.free_ns - batches.start_ns, self.cluster.workers)
        option = min(options, key=lambda one: (-missed[one[0]], len(here.placement[one[0]]), busy_ns[one[1]], one[1]))
        return self._with(here.placement, *option)

    def _with(self, placement: Workers, name: str, worker: int) -> Candidate:
        grown = {**placement, name: tuple(sorted((*placement[name], worker)))}
        return Candidate(grown, self.simulated(grown))


def units_of_workers(cluster: Cluster, table: LatencyTable) -> list[Units]:
    """Return the units of weights on each worker, each queue's of which fit into the memory of some worker.

    Args:
        cluster: The workers and the queues, some with limited memory.
        table: The table of the run.

    Raises:
        SpecError: No memory has a limit, or a queue's model fits into none.
    """
    if not cluster.has_limited_memory:
        problem, hint = "has nothing to search for where memory holds all weights", "give memory_gb, or leave it out"
        raise SpecError("cluster.placement", problem, "", hint)
    pools, by_pool = _units_of_pools(cluster, table)
    found = [by_pool[number] for number in pool_of_workers(pools)]
    for place, queue in enumerate(cluster.queues):
        if not any(_has_room(units, (place,)) for units in by_pool):
            size = max(units.size_bytes for units in by_pool) / BYTES_PER_GB
            needed = min(units.bytes_for((place,)) for units in by_pool) / BYTES_PER_GB
            problem, hint = "its model fits into no worker's memory", f"memory_gb: {needed:g} or more"
            raise queue.wrong(problem, f"{needed:g} GB, memory {size:g} GB", hint)
    return found


def kinds_with_room(cluster: Cluster, table: LatencyTable) -> list[set[str]]:
    """Return the kinds of workers whose memory has room for the model of each queue.

    Args:
        cluster: The workers and the queues.
        table: The table of the run.
    """
    pools, by_pool = _units_of_pools(cluster, table)
    return [
        {pool.kind for pool, units in zip(pools, by_pool, strict=True) if _has_room(units, (place,))}
        for place in range(len(cluster.queues))
    ]


def _units_of_pools(cluster: Cluster, table: LatencyTable) -> tuple[Sequence[WorkerPool], list[Units]]:
    """Return the workers of each kind, and the units of weights that one of them may hold."""
    nowhere = replace(cluster, placement={queue.name: () for queue in cluster.queues})
    pools = nowhere.pools_by_queue(nowhere.served(table), served=True)
    return pools[0], [units_of(nowhere, [of_queue[number] for of_queue in pools]) for number in range(len(pools[0]))]


def _has_room(units: Units, queues: Sequence[int]) -> bool:
    return units.bytes_for(queues) <= units.size_bytes


def _missed(queries: Result | None) -> int:
    return 0 if queries is None else queries.queries - queries.count(Outcome.MET)
