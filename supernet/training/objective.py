"""The loss of a training and the metric of its subnets: cross entropy and accuracy, unless other ones are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from sim.base.errors import DataError, SpecError
from supernet.training.scoring import flat

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Returns the loss of each example, shape (batch,), given the outputs of a batch and its labels."""

Metric = Callable[[torch.Tensor, torch.Tensor], Any]
"""Returns a percentage, the larger the better, given all outputs of a split and all labels."""

CLASS_LOSSES = ("cross_entropy", "multi_margin_loss", "nll_loss")
"""Functions of torch.nn.functional for labels that are classes."""

NUMBER_LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
"""Functions of torch.nn.functional for labels that are numbers."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What a training minimizes.

    Attributes:
        loss: A function of `torch.nn.functional` by its name, or one of your own.
        smoothing: Label smoothing, of cross entropy.
    """

    loss: str | Loss = "cross_entropy"
    smoothing: float = 0.0

    def of_labels(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of outputs.

        Raises:
            DataError: Outputs and labels do not fit each other.
            SpecError: The function of your own does not return the loss of each example.
        """
        if self.loss == "cross_entropy":
            return functional.cross_entropy(*flat(outputs, labels), label_smoothing=self.smoothing)
        if isinstance(self.loss, str):
            fitted = flat(outputs, labels) if self.loss in CLASS_LOSSES else (as_labels(outputs, labels), labels)
            mean: torch.Tensor = getattr(functional, self.loss)(*fitted)
            return mean
        return self._own(outputs, labels).mean()

    def of_each(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of each example, or of each token of texts that counts.

        Raises:
            DataError: Outputs and labels do not fit each other.
            SpecError: The function of your own does not return the loss of each example.
        """
        if not isinstance(self.loss, str):
            return self._own(outputs, labels)
        smoothing = {"label_smoothing": self.smoothing} if self.loss == "cross_entropy" else {}
        fitted = flat(outputs, labels) if self.loss in CLASS_LOSSES else (as_labels(outputs, labels), labels)
        losses: torch.Tensor = getattr(functional, self.loss)(*fitted, reduction="none", **smoothing)
        return losses.flatten(1).mean(1) if losses.dim() > 1 else losses

    def _own(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return what a function of the user's own says of each example."""
        loss: Any = self.loss
        losses: Any = loss(as_labels(outputs, labels) if labels.is_floating_point() else outputs, labels)
        if not isinstance(losses, torch.Tensor) or losses.shape != labels.shape[:1]:
            value = f"shape {tuple(losses.shape)}" if isinstance(losses, torch.Tensor) else type(losses).__name__
            raise SpecError("loss", "must return the loss of each example", value, f"shape ({len(labels)},)")
        return losses

    def of_teacher(self, outputs: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of outputs against those of a teacher.

        Where labels are numbers, this is the loss itself, the teacher's numbers in place of the labels; where they are
        classes, the cross entropy with the teacher's probabilities.

        Args:
            outputs: Of a subnet.
            teacher: Of the teacher, without gradients.
            labels: Of the batch.
        """
        if labels.is_floating_point():
            return self.of_labels(outputs, as_labels(teacher, labels))
        if isinstance(self.loss, str) or outputs.shape[:-1] == labels.shape:
            outputs, teacher = flat(outputs, labels)[0], flat(teacher, labels)[0]
        return functional.cross_entropy(outputs, teacher.softmax(1))

    def check_labels(self, labels: torch.Tensor) -> None:
        """Check that a loss of torch is one for these labels.

        Raises:
            SpecError: It is not.
        """
        if isinstance(self.loss, str) and labels.is_floating_point() != (self.loss in NUMBER_LOSSES):
            numbers = labels.is_floating_point()
            hint = ", ".join(NUMBER_LOSSES) if numbers else "data: {regression: true, ...} reads labels as numbers"
            kind = "classes, and these are numbers" if numbers else "numbers, and these are classes"
            raise SpecError("loss", f"is for labels that are {kind}", self.loss, hint)


CROSS_ENTROPY = Objective()


def as_labels(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return outputs in the shape of labels that are numbers: a last dimension of one number is left out.

    Raises:
        DataError: The shapes do not fit each other.
    """
    outputs = outputs.squeeze(-1) if outputs.shape == (*labels.shape, 1) else outputs
    if outputs.shape != labels.shape:
        value = f"labels of shape {tuple(labels.shape)}, outputs of shape {tuple(outputs.shape)}"
        raise DataError("data", "labels do not fit the network's result", value, "a number for each label")
    return outputs


def r2(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the coefficient of determination in percent: the share of the labels' variance that is explained.

    Examples:
        >>> labels = torch.tensor([1.0, 2.0, 3.0])
        >>> r2(labels, labels), r2(torch.full((3,), 2.0), labels)
        (100.0, 0.0)
    """
    labels = labels.double()
    wrong = (as_labels(outputs, labels) - labels).square().sum()
    return float(100 * (1 - wrong / (labels - labels.mean(0)).square().sum()))


def metric_value(metric: Metric, outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Return what a metric says of outputs.

    Raises:
        SpecError: It is not a number.
    """
    outputs = as_labels(outputs, labels) if labels.is_floating_point() else outputs
    found: Any = metric(outputs, labels)
    try:
        return float(found)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError("metric", "does not return a number", type(found).__name__, "a percentage") from error


def percentage(metric: Metric, outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Return what a metric says of all outputs.

    Raises:
        SpecError: It is not a percentage.
    """
    percent = metric_value(metric, outputs, labels)
    if not math.isfinite(percent) or percent > 100:  # noqa: PLR2004 - percent
        raise SpecError("metric", "not a percentage", f"{percent:g}", "at most 100, the larger the better")
    return percent
