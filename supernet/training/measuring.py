"""Gives subnets their running statistics after training, and says how accurate they are with and without."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sim.tables.accuracies import Accuracy
from supernet.costs import Costs
from supernet.statistics import calibrate, leading_statistics
from supernet.training.evaluation import accuracy

if TYPE_CHECKING:
    from supernet.data.source import Examples
    from supernet.network import Supernet
    from supernet.space import SubNet


@dataclass(frozen=True, slots=True, eq=False)
class Measuring:
    """A trained supernet whose subnets are calibrated and measured.

    Attributes:
        supernet: Keeps the running statistics that it is given.
        examples: What statistics are taken from: examples for training.
        batch: As many at a time.
        costs: What subnets cost.
    """

    supernet: Supernet
    examples: Examples
    batch: int
    costs: Costs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "costs", Costs(self.supernet, self.examples.first(1).inputs))

    def calibrate(self, subnet: SubNet | str) -> None:
        """Give a subnet running statistics of its own, if there are any in its network.

        Raises:
            SpecError: There is no such subnet, or less than two examples.
        """
        if self.supernet.assembly.norms:
            batches = (batch.inputs for batch in self.examples.batches(self.batch) if len(batch) > 1)
            calibrate(self.supernet, subnet, batches)

    def row(self, subnet: SubNet, test: Examples, seed: int) -> Accuracy:
        """Return how accurate a subnet is; it has statistics of its own afterwards, and so has the largest.

        Args:
            subnet: What is measured.
            test: On what.
            seed: That the supernet was trained with.

        Raises:
            SpecError: There is no such subnet, or there are no examples.
        """
        largest, without = self.supernet.space.largest, None
        if self.supernet.assembly.norms:
            if largest.id not in self.supernet.calibrated:
                self.calibrate(largest)
            self.supernet.set_statistics(subnet, leading_statistics(self.supernet, subnet))
            without = accuracy(self.supernet, subnet, test)
        self.calibrate(subnet)
        share = accuracy(self.supernet, subnet, test)
        macs, params = self.costs.macs(subnet), self.costs.parameters(subnet)
        return Accuracy(subnet.id, subnet.control, seed, share, without, len(test), macs, params)
