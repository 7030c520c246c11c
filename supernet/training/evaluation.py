"""Accuracy of subnets, with and without running statistics of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from sim.base.errors import SpecError
from sim.tables.accuracies import Accuracy
from supernet.costs import Costs
from supernet.statistics import calibrate, leading_statistics

if TYPE_CHECKING:
    from supernet.data.source import Examples
    from supernet.network import Supernet
    from supernet.space import SubnetConfig

BATCH = 500
"""The batch size of an evaluation; accuracies do not depend on it."""


def accuracy(supernet: Supernet, subnet: SubnetConfig | str, examples: Examples) -> float:
    """Return the share of examples that a subnet classifies correctly, in percent.

    Raises:
        SpecError: There are no examples, or the subnet is unknown or has no running statistics.
    """
    if not len(examples):
        raise SpecError("accuracy", "there are no examples", "", "one or more")
    correct, mode = 0, supernet.training
    supernet.eval()
    try:
        network = supernet.actuate(subnet)
        with torch.no_grad():
            for batch in examples.batches(BATCH):
                correct += int((network(*batch.inputs).argmax(1) == batch.labels).sum())
    finally:
        supernet.train(mode)
    return 100 * correct / len(examples)


@dataclass(frozen=True, slots=True, eq=False)
class SubnetEvaluator:
    """Calibrates subnets of a trained supernet and measures their accuracy.

    Attributes:
        supernet: Stores the running statistics.
        examples: The training examples that statistics are computed from.
        batch: Their batch size.
        costs: The costs of subnets.
    """

    supernet: Supernet
    examples: Examples
    batch: int
    costs: Costs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "costs", Costs(self.supernet, self.examples.first(1).inputs))

    def calibrate(self, subnet: SubnetConfig | str) -> None:
        """Compute a subnet's running statistics, if the network has any.

        Raises:
            SpecError: The subnet is unknown, or there are fewer than two examples.
        """
        if self.supernet.assembly.norms:
            batches = (batch.inputs for batch in self.examples.batches(self.batch) if len(batch) > 1)
            calibrate(self.supernet, subnet, batches)

    def evaluate(self, subnet: SubnetConfig, test: Examples, seed: int) -> Accuracy:
        """Return a subnet's accuracy and costs; calibrates it, and the largest subnet.

        Args:
            subnet: The subnet.
            test: The examples.
            seed: The seed of the training, which the result names.

        Raises:
            SpecError: The subnet is unknown, or there are no examples.
        """
        largest, without_norms = self.supernet.space.largest, None
        if self.supernet.assembly.norms:
            if largest.id not in self.supernet.calibrated:
                self.calibrate(largest)
            self.supernet.set_statistics(subnet, leading_statistics(self.supernet, subnet))
            without_norms = accuracy(self.supernet, subnet, test)
        self.calibrate(subnet)
        percent = accuracy(self.supernet, subnet, test)
        macs, params = self.costs.macs(subnet), self.costs.parameters(subnet)
        return Accuracy(subnet.id, subnet.control, seed, percent, without_norms, len(test), macs, params)
