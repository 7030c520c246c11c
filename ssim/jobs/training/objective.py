"""The loss and the metric that a training file names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from sim.base.errors import DataError, SpecError, did_you_mean
from ssim.files.plugins import Issue, find_object
from ssim.jobs.training.parts import is_regression
from supernet.training.objective import CLASS_LOSSES, NUMBER_LOSSES, r2

if TYPE_CHECKING:
    from pathlib import Path

    from ssim.jobs.federated.spec import FederatedSpec
    from ssim.jobs.training.spec import TrainingSpec
    from supernet.data.source import Source, Splits
    from supernet.training.objective import Loss, Metric

_OTHERS = "labels that differ, or a metric of your own"
_METRICS = {"accuracy": None, "r2": r2}


def objective_of(
    spec: TrainingSpec | FederatedSpec, source: Source, folder: Path
) -> tuple[str | Loss, Metric | None, list[Issue]]:
    """Return the loss and the metric of a file, and what is wrong with them or does not fit the labels."""
    issues: list[Issue] = []
    loss, metric = spec.loss, spec.metric
    found = _found(loss, {name: name for name in (*CLASS_LOSSES, *NUMBER_LOSSES)}, "loss", folder, issues)
    scored = None if metric is None else _found(metric, _METRICS, "metric", folder, issues)
    numbers = is_regression(source)
    hint = "data: {regression: true, ...} reads labels as numbers"
    if loss in (CLASS_LOSSES if numbers else NUMBER_LOSSES):
        kind, right = ("classes", ", ".join(NUMBER_LOSSES)) if numbers else ("numbers", hint)
        issues.append(Issue(("loss",), f"is for labels that are {kind}", loss, right))
    if metric is not None and metric == ("accuracy" if numbers else "r2"):
        kind, right = ("classes", "r2") if numbers else ("numbers", "accuracy")
        issues.append(Issue(("metric",), f"is for labels that are {kind}", metric, right))
    smoothing = getattr(spec, "smoothing", 0.0)
    if smoothing and loss != "cross_entropy":
        issues.append(Issue(("smoothing",), "not used by this loss", f"{smoothing:g}", "cross_entropy, or 0"))
    return found, scored, issues


def check_spread(source: Source, metric: Metric | None, splits: Splits) -> None:
    """Check that the labels of a regression differ, if its subnets are scored by R².

    Raises:
        DataError: All labels of the training or the test examples are equal.
    """
    if not is_regression(source) or metric not in {None, r2}:
        return
    for name, labels in (("training", splits.train.known_labels), ("test", splits.test.labels)):
        if labels is not None and (labels == labels[:1]).all():
            value = f"{labels.flatten()[0]:g}"
            raise DataError("data", f"all labels of the {name} examples are equal: R² has no meaning", value, _OTHERS)


def _found(name: str, shipped: dict[str, Any], noun: str, folder: Path, issues: list[Issue]) -> Any:
    """Return what a name stands for; where nothing does, note it."""
    if name in shipped:
        return shipped[name]
    if ":" not in name:
        hint = f"{did_you_mean(name, shipped)} (or module:function of your own)"
        issues.append(Issue((noun,), f"unknown {noun}", repr(name), hint))
        return None
    try:
        return find_object(name, {}, noun, folder, "function", inspect.isroutine)
    except SpecError as error:
        issues.append(Issue.of(error, noun))
        return None
