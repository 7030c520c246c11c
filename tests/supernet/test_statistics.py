from __future__ import annotations

import pytest
import torch
from torch import nn

from sim.base.errors import DataError, SpecError
from supernet.extraction import extract
from supernet.statistics import calibrate, leading_statistics
from tests.supernet.built import pictures, small, texts, tiny_bert

SMALLEST, MIDDLE = "ofa_resnet_small:d0x3:e0.5x9:w0x3", "ofa_resnet_small:d1,0,2:e0.75x9:w1,2,3"
BATCHES = [pictures(8, seed) for seed in range(3)]


def test_statistics_are_those_of_the_extracted_subnet_over_the_same_batches() -> None:
    """torch.optim.swa_utils.update_bn is how they are recomputed for a plain network."""
    held = small()
    plain = extract(held, MIDDLE)
    torch.optim.swa_utils.update_bn(BATCHES, plain)
    calibrate(held, MIDDLE, BATCHES)
    norms = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]
    expected = torch.cat([norm.running_mean for norm in norms] + [norm.running_var for norm in norms])
    assert torch.allclose(held.statistics_of(MIDDLE), expected, rtol=1e-12)
    assert torch.allclose(held.eval()(pictures(), MIDDLE), plain.eval()(pictures()), rtol=1e-12)


def test_each_subnet_has_its_own() -> None:
    held = small()
    largest = held.statistics_of(held.space.largest)
    for subnet in (SMALLEST, MIDDLE):
        calibrate(held, subnet, BATCHES)
    first = held.statistics_of(SMALLEST)
    calibrate(held, MIDDLE, BATCHES[:1])
    assert torch.equal(held.statistics_of(SMALLEST), first)
    assert torch.equal(held.statistics_of(held.space.largest), largest)
    assert held.calibrated == (held.space.largest.id, SMALLEST, MIDDLE)


def test_the_largest_can_be_calibrated_like_any_other() -> None:
    held = small().eval()
    before = held(pictures(), held.space.largest)
    calibrate(held, held.space.largest, BATCHES)
    assert not torch.allclose(held(pictures(), held.space.largest), before)
    assert held.calibrated == (held.space.largest.id,)


def test_leading_statistics_are_those_of_the_largest_cut() -> None:
    held = small()
    norm = held.model.blocks[2].conv1.bn
    largest = held.statistics_of(held.space.largest)
    assert torch.equal(leading_statistics(held, held.space.largest), largest)
    held.set_statistics(SMALLEST, leading_statistics(held, SMALLEST))
    part = held.eval().actuate(SMALLEST).blocks[1].conv1.bn
    first = held.model.blocks[3].conv1.bn
    assert torch.equal(part.running_var, first.running_var[: part.num_features])
    assert len(norm.running_mean) > part.num_features


@pytest.mark.parametrize(
    ("batches", "kind", "says"),
    [
        ([], SpecError, rf"calibrating {SMALLEST}: was given no batch"),
        ([pictures(1)], SpecError, "batch: has one example only"),
        (
            [torch.full((2, 1, 8, 8), float("inf"), dtype=torch.double)],
            DataError,
            rf"statistics of {SMALLEST}: are not all finite",
        ),
    ],
)
def test_what_cannot_be_calibrated_with_is_told(batches: list[torch.Tensor], kind: type[Exception], says: str) -> None:
    held = small()
    with pytest.raises(kind, match=says):
        calibrate(held, SMALLEST, batches)
    assert SMALLEST not in held.calibrated
    assert held.training


def test_a_network_without_norms_has_nothing_to_calibrate() -> None:
    held = tiny_bert()
    calibrate(held, held.space.smallest, [(texts(), torch.ones(3, 6))])
    assert held.calibrated == ()
