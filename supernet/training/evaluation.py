"""Accuracy of subnets, with and without running statistics of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from sim.base.errors import SpecError
from sim.tables.accuracies import Accuracy
from supernet.calls import logits_of
from supernet.costs import Costs
from supernet.statistics import calibrate, leading_statistics
from supernet.training.objective import percentage, r2
from supernet.training.scoring import flat

if TYPE_CHECKING:
    from supernet.data.source import ExampleSet
    from supernet.network import Supernet
    from supernet.space import SubnetConfig
    from supernet.training.objective import Metric

BATCH = 500
"""The labels of a batch of an evaluation; accuracies do not depend on it."""

_LARGEST = 700.0
"""A cross entropy above this has an exponential above the largest float."""


class Score(NamedTuple):
    """How well a subnet predicts labels.

    Attributes:
        accuracy: The share of labels that it predicts correctly, or another metric, in percent.
        perplexity: The exponential of the mean cross entropy, where labels are tokens of texts; else None.
    """

    accuracy: float
    perplexity: float | None


def score(supernet: Supernet, subnet: SubnetConfig | str, examples: ExampleSet, metric: Metric | None = None) -> Score:
    """Return how well a subnet predicts the labels of examples.

    Args:
        supernet: In any mode, and left in it.
        subnet: The subnet or its id.
        examples: Labelled ones.
        metric: In place of the accuracy; of labels that are numbers, R² if there is none.

    Raises:
        SpecError: There are no examples, or the subnet is unknown or has no running statistics.
        DataError: A label is not one of the network's classes.
    """
    if not len(examples):
        raise SpecError("accuracy", "there are no examples", "", "one or more")
    first = examples.first(1).read().labels
    tokens, is_text, mode = first.numel(), first.dim() > 1, supernet.training
    correct, count, entropy = 0, 0, 0.0
    metric = metric or (r2 if first.is_floating_point() else None)
    outputs: list[torch.Tensor] = []
    labels_of_outputs: list[torch.Tensor] = []
    supernet.eval()
    try:
        network = supernet.actuate(subnet)
        with torch.no_grad():
            for batch in examples.batches(max(1, BATCH // tokens)):
                result = logits_of(network(*batch.inputs))
                if metric is not None:
                    outputs.append(result.cpu())
                    labels_of_outputs.append(batch.labels.cpu())
                    continue
                logits, labels = flat(result, batch.labels)
                correct += int((logits.argmax(1) == labels).sum())
                count += len(labels)
                entropy += float(functional.cross_entropy(logits, labels, reduction="sum")) if is_text else 0.0
    finally:
        supernet.train(mode)
    if metric is not None:
        return Score(percentage(metric, torch.cat(outputs), torch.cat(labels_of_outputs)), None)
    if not count:
        raise SpecError("accuracy", "all labels are ignored", "", "one or more that count")
    return Score(100 * correct / count, math.exp(min(entropy / count, _LARGEST)) if is_text else None)


def accuracy(
    supernet: Supernet, subnet: SubnetConfig | str, examples: ExampleSet, metric: Metric | None = None
) -> float:
    """Return the share of labels that a subnet predicts correctly, or another metric, in percent; as `score` does."""
    return score(supernet, subnet, examples, metric).accuracy


@dataclass(frozen=True, slots=True, eq=False)
class SubnetEvaluator:
    """Calibrates subnets of a trained supernet and measures their accuracy.

    Attributes:
        supernet: Stores the running statistics.
        examples: The training examples that statistics are computed from.
        batch: Their batch size.
        metric: In place of the accuracy; of labels that are numbers, R² if there is none.
        costs: The costs of subnets.
    """

    supernet: Supernet
    examples: ExampleSet
    batch: int
    metric: Metric | None = None
    costs: Costs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "costs", Costs(self.supernet, self.examples.first(1).read().inputs))

    def calibrate(self, subnet: SubnetConfig | str) -> None:
        """Compute a subnet's running statistics, if the network has any.

        Raises:
            SpecError: The subnet is unknown, or there are fewer than two examples.
        """
        if self.supernet.assembly.norms:
            batches = (batch.inputs for batch in self.examples.batches(self.batch) if len(batch) > 1)
            calibrate(self.supernet, subnet, batches)

    def evaluate(self, subnet: SubnetConfig, test: ExampleSet, seed: int) -> Accuracy:
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
            without_norms = accuracy(self.supernet, subnet, test, self.metric)
        self.calibrate(subnet)
        percent, perplexity = score(self.supernet, subnet, test, self.metric)
        macs, params = self.costs.macs(subnet), self.costs.parameters(subnet)
        return Accuracy(subnet.id, subnet.control, seed, percent, without_norms, len(test), macs, params, perplexity)
