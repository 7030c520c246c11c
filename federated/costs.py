"""The virtual cost of federated work, from counts of multiply-accumulate operations (MACs)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supernet.costs import Costs
from supernet.family import build

if TYPE_CHECKING:
    from federated.context import TrainingContext


@dataclass(frozen=True, slots=True, eq=False)
class CostModel:
    """Durations of local training and of averaging on a machine of speed 1.

    Attributes:
        context: The subnets and the shape of an example.
        gmacs_per_s: Throughput of a machine of speed 1, in 10^9 MACs per second.
    """

    context: TrainingContext
    gmacs_per_s: float = 1.0

    def training_s(self, subnet: str, examples: int) -> float:
        """Return the seconds to train a subnet on a number of examples: three forward passes for each."""
        macs: int = self.context.once(f"macs of {subnet}", lambda: self._costs.macs(subnet))
        return 3 * macs * examples / (self.gmacs_per_s * 1e9)

    def averaging_s(self, updates: int) -> float:
        """Return the seconds to average a number of updates: one operation for each parameter and update."""
        elements = sum(map(math.prod, self.context.subnet_shapes.full.values()))
        return elements * updates / (self.gmacs_per_s * 1e9)

    @property
    def _costs(self) -> Costs:
        context = self.context
        costs: Costs = context.once(
            "costs", lambda: Costs(build(context.family), context.splits.train.first(1).read().inputs)
        )
        return costs
