"""Clipper's adaptive batching: additive increase, multiplicative decrease (Crankshaw et al., NSDI 2017, section 4.3).

The largest batch grows by a constant after each full batch that meets a latency objective, and shrinks by a tenth after
one that does not. The code of ucbrise/clipper has had other rules since 2018; this is the paper's. Its queue is in
order of deadlines; queries that are late run as others do, unless the cluster's drop rule drops them.

Left open: a batch is judged when it starts, by the latency that the policy plans on, not when it ends. The optional
delay of small batches is left out (`triton` has it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.one_model import OneModel
from sim.base.parameters import Positive, Share
from sim.base.units import ns_from_ms
from sim.compiled.step_policy import StepPolicy

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True)
class Aimd(StepPolicy, OneModel):
    """One fixed subnet; the largest batch grows until it misses a latency objective, and then shrinks.

    Attributes:
        objective_ms: The latency objective of a batch.
        increase: What the largest batch grows by, in queries.
        decrease: What it is multiplied by after a miss.
    """

    objective_ms: Positive = 20.0
    increase: Positive = 1.0
    decrease: Share = 0.9

    def memory(self, table: LatencyTable, dispatch_ns: int) -> npt.NDArray[np.float64]:
        """Return the largest batch, at first 1, and the parameters.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        objective_ns = ns_from_ms(self.objective_ms)
        return np.array([1, self.model(table), objective_ns, self.increase, self.decrease], dtype=np.float64)

    @staticmethod
    def step(
        memory: npt.NDArray[np.float64],
        now_ns: int,  # noqa: ARG004 - the signature of a step function
        slack_ns: int,  # noqa: ARG004
        queue_length: int,
        arrived: int,  # noqa: ARG004
        latency_ns: npt.NDArray[np.int64],
    ) -> tuple[int, int]:
        """Return a batch of at most the largest size, which is adapted if the batch is full."""
        subnet, largest = int(memory[1]), int(memory[0])
        size = min(queue_length, largest)
        if latency_ns[subnet, size] > memory[2]:
            memory[0] = max(1.0, memory[0] * memory[4])
        elif size == largest:
            memory[0] = min(memory[0] + memory[3], latency_ns.shape[1] - 1.0)
        return subnet, size


if TYPE_CHECKING:
    _conforms: type[Policy] = Aimd
