"""Network rewiring changes which units come first, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional

import supernet.families.bert
from supernet.insertion import insert
from supernet.training.rewiring import importance, rewire
from tests.supernet.training.cases import Grouped, bert, digits, resnet, texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from supernet.data.source import Examples
    from supernet.network import Supernet


@pytest.fixture(autouse=True)
def _nothing_is_dropped_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which units are would go by their places."""
    monkeypatch.setattr(supernet.families.bert, "DROPOUT", 0.0)


def grouped() -> Supernet:
    torch.manual_seed(0)
    return insert(Grouped(), torch.zeros(1, 1, 8, 8), widths=(0.5, 1.0))


CASES = [(resnet, digits), (bert, texts), (grouped, digits)]


@pytest.mark.parametrize(("make", "data"), CASES)
def test_the_largest_computes_what_it_did(make: Callable[[], Supernet], data: Callable[[], Examples]) -> None:
    supernet, examples = make().double(), data().first(8)
    inputs = tuple(part.double() if part.is_floating_point() else part for part in examples.inputs)
    supernet.train()

    def outputs() -> torch.Tensor:
        return supernet(inputs[0], supernet.space.largest, *inputs[1:])

    before, small = outputs(), weights_of(supernet)
    found = [torch.rand(group.units) for group in supernet.structure.groups]
    rewire(supernet, found)
    assert not torch.equal(small, weights_of(supernet))
    torch.testing.assert_close(outputs(), before, rtol=1e-9, atol=1e-9)


def weights_of(supernet: Supernet) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in supernet.parameters()])


@pytest.mark.parametrize(("make", "data"), CASES)
def test_the_order_is_that_of_importance(make: Callable[[], Supernet], data: Callable[[], Examples]) -> None:
    supernet, batch = make(), data().first(16)
    supernet.train()
    rewire(supernet, importance(supernet, [batch]))
    for values in importance(supernet, [batch]):
        assert (values.diff() <= 1e-3 * values.max()).all()


def test_a_unit_that_nothing_takes_in_counts_nothing_and_goes_last() -> None:
    supernet = resnet()
    group = supernet.structure.groups[1]
    taker = next(member.path for member in group.members if member.side == "in")
    with torch.no_grad():
        supernet.model.get_submodule(taker).weight[:, 0] = 0.0
    supernet.train()
    found = importance(supernet, [digits().first(16)])
    assert float(found[1][0]) == 0.0
    assert (found[1][1:] > 0).all()
    rewire(supernet, found)
    assert not supernet.model.get_submodule(taker).weight[:, -1].any()


def test_importance_is_the_change_of_the_loss_to_first_order() -> None:
    supernet, batch = resnet().double(), digits().first(32)
    supernet.train()
    inputs = batch.inputs[0].double()
    group = supernet.structure.groups[1]
    layer = supernet.model.get_submodule(next(member.path for member in group.members if member.side == "in"))

    def loss() -> float:
        with torch.no_grad():
            return float(functional.cross_entropy(supernet(inputs, supernet.space.largest), batch.labels))

    examples = type(batch)((inputs,), batch.labels)
    found, before, step = importance(supernet, [examples])[1], loss(), 1e-6
    for unit in range(3):
        with torch.no_grad():
            kept = layer.weight[:, unit].clone()
            layer.weight[:, unit] *= 1 - step
            change = abs(loss() - before) / step
            layer.weight[:, unit] = kept
        assert change == pytest.approx(float(found[unit]), rel=1e-3, abs=1e-6)
