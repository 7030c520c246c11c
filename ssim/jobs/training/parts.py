"""What the runs of a point of a training share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from supernet.data.source import Source
    from supernet.family import Family
    from supernet.training.objective import Loss, Metric
    from supernet.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainingParts:
    """What the runs of a point share.

    Attributes:
        source: The data.
        family: The family of supernets.
        recipe: How it is trained.
        start: The file of the weights to begin with, if there are any.
        loss: The name of a loss, or a function of your own.
        metric: In place of the accuracy; None for that, or for R² in a regression.
    """

    source: Source
    family: Family
    recipe: Recipe
    start: Path | None
    loss: str | Loss = "cross_entropy"
    metric: Metric | None = None

    @property
    def metric_name(self) -> str:
        """What tables call the score of subnets."""
        return name_of_metric(self.metric, self.source)

    @property
    def code(self) -> list[Any]:
        """All whose code decides the weights and their scores."""
        rules = [phase.subnets for phase in self.recipe.phases]
        own = [one for one in (self.loss, self.metric) if callable(one)]
        return [self.source, self.family, self.recipe.optimizer, *rules, *own]


def name_of_metric(metric: Metric | None, source: Source) -> str:
    """Return what tables call the score of subnets."""
    if metric is None:
        return "r2" if is_regression(source) else "accuracy"
    return str(getattr(metric, "__name__", type(metric).__name__))


def is_regression(source: Source) -> bool:
    """Return whether the labels of a source are numbers."""
    return bool(getattr(source, "regression", False))
