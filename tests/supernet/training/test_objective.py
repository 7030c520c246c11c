"""Losses and metrics: those of torch by name, and functions of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sim.base.errors import DataError, SpecError
from supernet import NetworkFamily, build
from supernet.data.source import Examples
from supernet.training.evaluation import score
from supernet.training.loop import Training
from supernet.training.objective import CLASS_LOSSES, NUMBER_LOSSES, Objective, r2
from supernet.training.recipe import Phase, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUTS, CLASSES = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
NUMBERS = torch.randn(6)


def mlp(outputs: int) -> Any:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(self.up(x).relu())

    return torch.nn.Sequential(torch.nn.Linear(3, 8), Block(), Block(), torch.nn.Linear(8, outputs))


def trained(examples: Examples, outputs: int, loss: Any, metric: Any = None) -> Any:
    """Return a supernet after some steps, and the loss of each."""
    supernet = build(NetworkFamily(mlp, {"outputs": outputs}, (3,)), seed=1)
    recipe = Recipe(batch=16, phases=(Phase(epochs=12, rate=0.01, rewire=True),))
    return supernet, Training(supernet, examples, recipe, 1, loss=loss, metric=metric).run(lambda _: None)


def examples_of(target: Callable[[torch.Tensor], torch.Tensor]) -> Examples:
    inputs = torch.randn(128, 3, generator=torch.Generator().manual_seed(0))
    return Examples((inputs,), target(inputs))


@pytest.mark.parametrize("name", [*CLASS_LOSSES, *NUMBER_LOSSES])
def test_a_name_is_the_function_of_torch(name: str) -> None:
    of_numbers = name in NUMBER_LOSSES
    outputs, labels = (OUTPUTS[:, :1], NUMBERS) if of_numbers else (OUTPUTS, CLASSES)
    function = getattr(functional, name)
    expected = function(outputs[:, 0] if of_numbers else outputs, labels)
    torch.testing.assert_close(Objective(name).of_labels(outputs, labels), expected)

    def own(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        each: torch.Tensor = function(outputs, labels, reduction="none")
        return each

    torch.testing.assert_close(Objective(own).of_labels(outputs, labels), expected)
    with pytest.raises(SpecError, match="loss: is for labels that are"):
        Objective(name).check_labels(CLASSES if of_numbers else NUMBERS)


def test_a_teacher_of_numbers_is_a_label_and_of_classes_a_distribution() -> None:
    teacher = torch.randn(6, 1)
    as_label = Objective("mse_loss").of_teacher(OUTPUTS[:, :1], teacher, NUMBERS)
    torch.testing.assert_close(as_label, functional.mse_loss(OUTPUTS[:, :1], teacher))
    certain = functional.one_hot(CLASSES) * 1e4
    sure = Objective().of_teacher(OUTPUTS, certain.float(), CLASSES)
    torch.testing.assert_close(sure, functional.cross_entropy(OUTPUTS, CLASSES))
    maps, own = torch.randn(2, 4, 3, 3), Objective(lambda outputs, labels: outputs.mean((1, 2, 3)) + labels.sum((1, 2)))
    expected = functional.cross_entropy(maps, maps.softmax(1))
    torch.testing.assert_close(own.of_teacher(maps, maps, torch.zeros(2, 3, 3, dtype=torch.long)), expected)


def test_numbers_are_never_broadcast() -> None:
    for outputs in (torch.randn(6, 2), torch.randn(1), torch.randn(6, 1, 1)):
        for objective in (Objective("mse_loss"), Objective(lambda outputs, labels: (outputs - labels) ** 2)):
            with pytest.raises(DataError, match="labels do not fit the network's result"):
                objective.of_labels(outputs, NUMBERS)


@given(st.integers(0, 2**32 - 1))
def test_r2_of_least_squares_is_the_squared_correlation(seed: int) -> None:
    x, noise = torch.randn(2, 30, generator=torch.Generator().manual_seed(seed)).double().numpy()
    y = x + noise
    line = np.polyfit(x, y, 1)
    found = r2(torch.tensor(np.polyval(line, x)), torch.tensor(y))
    assert found == pytest.approx(100 * np.corrcoef(x, y)[0, 1] ** 2)


def test_r2_is_summed_in_double() -> None:
    labels = torch.arange(1000.0) + 2**23
    assert r2(labels + 1, labels) == pytest.approx(100 * (1 - 1 / np.var(np.arange(1000.0))))


def test_cross_entropy_of_ones_own_trains_the_same_weights() -> None:
    examples = examples_of(lambda x: (x.sum(1) > 0).long())
    usual, usual_losses = trained(examples, 2, "cross_entropy")
    own, own_losses = trained(examples, 2, lambda o, labels: functional.cross_entropy(o, labels, reduction="none"))
    assert own_losses == pytest.approx(usual_losses)
    for one, other in zip(usual.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    by_metric = score(own, own.space.largest, examples, lambda o, y: 100 * (o.argmax(1) == y).double().mean())
    assert by_metric.accuracy == pytest.approx(score(own, own.space.largest, examples).accuracy)


def test_a_regression_explains_its_labels() -> None:
    examples = examples_of(lambda x: x @ torch.tensor([1.0, -2.0, 0.5]))
    supernet, losses = trained(examples, 1, "mse_loss", r2)
    assert losses[-1] < losses[0] / 3
    smallest, largest = supernet.space.smallest, supernet.space.largest
    found = {subnet.id: score(supernet, subnet, examples).accuracy for subnet in (smallest, largest)}
    with torch.no_grad():
        explained = r2(supernet(examples.inputs[0], largest), examples.labels)
    assert found[largest.id] == pytest.approx(explained, abs=1e-3)
    assert min(found.values()) > 80  # the smallest has learned from the largest alone


@pytest.mark.parametrize(
    ("loss", "metric", "told"),
    [
        (lambda outputs, _: outputs.mean(), None, r"loss: must return the loss of each example \(shape \(\)\)"),
        (lambda outputs, _: outputs @ outputs, None, r"loss: raised RuntimeError.*test_objective.py:\d+"),
        ("mse_loss", lambda outputs, _: outputs, r"metric: does not return a number \(Tensor\)"),
        ("mse_loss", lambda *_: None, r"metric: does not return a number \(NoneType\)"),
    ],
)
def test_what_can_not_be_computed_is_told_before_the_first_step(loss: Any, metric: Any, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        trained(examples_of(lambda x: x), 3, loss, metric)


@pytest.mark.parametrize("value", [float("nan"), 100.5])
def test_a_metric_is_a_percentage(value: float) -> None:
    supernet = build(NetworkFamily(mlp, {"outputs": 1}, (3,)), seed=1)
    with pytest.raises(SpecError, match="metric: not a percentage"):
        score(supernet, supernet.space.largest, examples_of(lambda x: x[:, 0]), lambda *_: value)
