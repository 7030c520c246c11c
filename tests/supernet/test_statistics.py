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
    supernet = small()
    plain = extract(supernet, MIDDLE)
    torch.optim.swa_utils.update_bn(BATCHES, plain)
    calibrate(supernet, MIDDLE, BATCHES)
    norms = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]
    expected = torch.cat([norm.running_mean for norm in norms] + [norm.running_var for norm in norms])
    assert torch.allclose(supernet.statistics_of(MIDDLE), expected, rtol=1e-12)
    assert torch.allclose(supernet.eval()(pictures(), MIDDLE), plain.eval()(pictures()), rtol=1e-12)


def test_each_subnet_has_its_own() -> None:
    supernet = small()
    largest = supernet.statistics_of(supernet.space.largest)
    for subnet in (SMALLEST, MIDDLE):
        calibrate(supernet, subnet, BATCHES)
    first = supernet.statistics_of(SMALLEST)
    calibrate(supernet, MIDDLE, BATCHES[:1])
    assert torch.equal(supernet.statistics_of(SMALLEST), first)
    assert torch.equal(supernet.statistics_of(supernet.space.largest), largest)
    assert supernet.calibrated == (supernet.space.largest.id, SMALLEST, MIDDLE)


def test_the_largest_can_be_calibrated_like_any_other() -> None:
    supernet = small().eval()
    before = supernet(pictures(), supernet.space.largest)
    calibrate(supernet, supernet.space.largest, BATCHES)
    assert not torch.allclose(supernet(pictures(), supernet.space.largest), before)
    assert supernet.calibrated == (supernet.space.largest.id,)


def test_leading_statistics_are_those_of_the_largest_cut() -> None:
    supernet = small()
    norm = supernet.model.blocks[2].conv1.bn
    largest = supernet.statistics_of(supernet.space.largest)
    assert torch.equal(leading_statistics(supernet, supernet.space.largest), largest)
    supernet.set_statistics(SMALLEST, leading_statistics(supernet, SMALLEST))
    part = supernet.eval().actuate(SMALLEST).blocks[3].conv1.bn
    first = supernet.model.blocks[3].conv1.bn
    assert torch.equal(part.running_var, first.running_var[: part.num_features])
    assert len(norm.running_mean) > part.num_features


@pytest.mark.parametrize(
    ("batches", "kind", "says"),
    [
        ([], SpecError, rf"calibrating {SMALLEST}: no batch given"),
        ([pictures(1)], SpecError, "batch: has only one example"),
        (
            [torch.full((2, 1, 8, 8), float("inf"), dtype=torch.double)],
            DataError,
            rf"statistics of {SMALLEST}: not all finite",
        ),
    ],
)
def test_what_cannot_be_calibrated_with_is_told(batches: list[torch.Tensor], kind: type[Exception], says: str) -> None:
    supernet = small()
    with pytest.raises(kind, match=says):
        calibrate(supernet, SMALLEST, batches)
    assert SMALLEST not in supernet.calibrated
    assert supernet.training


def test_a_network_without_norms_has_nothing_to_calibrate() -> None:
    supernet = tiny_bert()
    calibrate(supernet, supernet.space.smallest, [(texts(), torch.ones(3, 6))])
    assert supernet.calibrated == ()
