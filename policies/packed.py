"""The batches of a packing of queues on workers: what a node of Nexus runs (Shen et al., SOSP 2019, section 6.1).

A worker serves the queues that were packed on it, each with a batch of its own; `Nexus` says which queries are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from policies.nexus import Nexus
from sim.engine.policy import Dispatch, Drop, Hold

if TYPE_CHECKING:
    from sim.engine.policy import Decision, Policy, View


@dataclass(frozen=True, slots=True)
class Packed(Nexus):
    """One fixed subnet, on the workers and in the batches that the planner `nexus` gives; early drop, as `nexus`.

    Attributes:
        batches: The number of a worker and its largest batch, for each worker that queues were packed on; None in its
            place if those are other queues. A worker that is not named takes the batches of `nexus`.
    """

    batches: tuple[tuple[int, int | None], ...] = ()

    def decide(self, view: View) -> Decision:
        """Return the expected batch of the free worker with the largest one; drop who would be late with it.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        subnet, planned, most = self.model(view.table), _by_worker(self.batches), self.expected(view)
        given = [(planned.get(worker, most), -worker) for worker in view.system.free_workers()]
        free = [(batch, worker) for batch, worker in given if batch is not None]
        if not free:
            may_wait = view.slack_ns > view.table.smallest_ns  # a worker of its own may come
            return Hold(view.table.smallest_ns) if may_wait else Drop(1)
        batch, worker = max(free)
        size = min(batch, view.queue_length)
        return Drop(1) if view.slack_ns < view.table.latency(subnet, size) else Dispatch(subnet, size, -worker)


@lru_cache(maxsize=64)
def _by_worker(batches: tuple[tuple[int, int | None], ...]) -> dict[int, int | None]:
    return dict(batches)


if TYPE_CHECKING:
    _conforms: type[Policy] = Packed
