"""Triton Inference Server's dynamic batcher, for one model.

Read: its documentation of `dynamic_batching` (`preferred_batch_size`, `max_queue_delay_microseconds`). A batch of the
largest preferred size that the queue fills starts at once. Otherwise queries wait for one until the oldest of them has
waited for the delay; then all that wait run, up to the largest batch. Without preferred sizes the largest batch is the
preferred one. It does not look at deadlines: late queries are answered late.

Left open: queues are here in order of deadlines, and how long the oldest query has waited is told by its slack and the
SLO, so the delay is exact where all queries have one SLO. A query whose slack is used up is not held. Priorities,
timeouts and limits of the queue are left out; `drop: expired` is a timeout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.one_model import OneModel
from sim.base.errors import SpecError
from sim.base.parameters import NonNegative
from sim.base.units import ns_from_ms
from sim.engine.policy import Dispatch, Hold

if TYPE_CHECKING:
    from sim.engine.policy import Decision, Policy, View


@dataclass(frozen=True, slots=True)
class Triton(OneModel):
    """One fixed subnet; batches wait for a preferred size, but no longer than a delay.

    Attributes:
        max_queue_delay_ms: How long a query waits for others.
        preferred: Preferred batch sizes; the largest batch if there are none.
    """

    max_queue_delay_ms: NonNegative = 0.0
    preferred: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [size for size in self.preferred if type(size) is not int or size < 1]
        if wrong:
            raise SpecError("Triton.preferred", "is not a batch size", repr(wrong[0]), "whole numbers from 1")

    def decide(self, view: View) -> Decision:
        """Return the largest preferred batch, or wait for it.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
            SpecError: A preferred size is larger than the largest batch.
        """
        table, subnet = view.table, self.model(view.table)
        largest = table.max_batch
        preferred = sorted(self.preferred) or [largest]
        if preferred[-1] > largest:
            raise SpecError(
                "Triton.preferred", "is larger than the largest batch", str(preferred[-1]), f"1 to {largest}"
            )
        filled = [size for size in preferred if size <= view.queue_length]
        if filled:
            return Dispatch(subnet, filled[-1])
        system = view.system
        until_ns = max(0, system.slo_ns - system.dispatch_ns - ns_from_ms(self.max_queue_delay_ms))
        return Hold(until_ns) if view.slack_ns > until_ns else Dispatch(subnet, largest)


if TYPE_CHECKING:
    _conforms: type[Policy] = Triton
