"""The subnets that a planner gave to workers, with Proteus' batching (Ahmad et al., ASPLOS 2024, section 5).

Proteus routes queries to the queues of devices in proportion to the planner's shares. Here the workers of a queue share
it: among those that are free, the worker with the most accurate subnet that can still answer in time runs the next
batch. A worker without a subnet runs the fastest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from policies.proteus import proteus_batch
from sim.engine.policy import Dispatch, Drop, Hold

if TYPE_CHECKING:
    from sim.engine.policy import Decision, Policy, View
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class Allocated:
    """Each worker runs one subnet, which the planner `proteus` changes; batches wait until the last moment.

    Attributes:
        allocation: The number of a worker and the id of its subnet, for each worker that has one; None in its place if
            the worker serves another queue.
    """

    allocation: tuple[tuple[int, str | None], ...] = ()

    def decide(self, view: View) -> Decision:
        """Return a batch for the free worker with the most accurate subnet that can answer the most urgent query.

        Raises:
            DataError: The table has no subnet of an id.
        """
        subnets = _by_worker(self.allocation, view.table)
        fastest = _fastest(view.table)
        given = [(subnets.get(worker, fastest), worker) for worker in view.system.free_workers()]
        free = [(subnet, -worker) for subnet, worker in given if subnet is not None]
        in_time = [pair for pair in free if view.table.latency(pair[0], 1) <= view.slack_ns]
        if not in_time:
            may_wait = len(free) < len(given) and view.slack_ns > view.table.smallest_ns  # one of its own may come
            return Hold(view.table.smallest_ns) if may_wait else Drop(1)
        subnet, worker = max(in_time)
        decision = proteus_batch(view, subnet)
        return Dispatch(subnet, decision.batch_size, -worker) if isinstance(decision, Dispatch) else decision


@lru_cache(maxsize=64)
def _by_worker(allocation: tuple[tuple[int, str | None], ...], table: LatencyTable) -> dict[int, int | None]:
    return {worker: None if subnet is None else table.subnet_of_id(subnet) for worker, subnet in allocation}


@lru_cache(maxsize=32)
def _fastest(table: LatencyTable) -> int:
    return min(range(len(table.subnets)), key=lambda subnet: (table.latency(subnet, 1), -subnet))


if TYPE_CHECKING:
    _conforms: type[Policy] = Allocated
