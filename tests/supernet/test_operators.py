from __future__ import annotations

import pytest
import torch
from torch import nn

from supernet.operators import ChannelSlice, LayerSelect, Moments, SubnetNorm, WeightSlice
from supernet.structure import ActiveConfig, Argument, BlockCall

HALF = ActiveConfig(active_blocks=(True, False, True), active_units=(2, 3))
FOUR, SIX = ChannelSlice(8, group=0, units=4), ChannelSlice(6, group=1, units=6)


def test_a_slice_is_a_view_of_the_leading_channels() -> None:
    layer = nn.Conv2d(6, 8, 3, stride=2, padding=1)
    part = WeightSlice(SIX, FOUR).view(layer, HALF)
    assert isinstance(part, nn.Conv2d)
    assert (part.in_channels, part.out_channels, part.stride) == (3, 4, (2, 2))
    assert part.weight.data_ptr() == layer.weight.data_ptr()
    assert part.bias is not None
    assert torch.equal(part.weight, layer.weight[:4, :3])
    assert torch.equal(part.bias, layer.bias[:4])  # type: ignore[index]
    assert (layer.in_channels, layer.weight.shape) == (6, (8, 6, 3, 3))
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = 7.0
    assert part.weight[0, 0, 0, 0] == 7.0


def test_gradients_reach_the_used_part_of_the_shared_weight_alone() -> None:
    layer = nn.Linear(6, 8)
    part = WeightSlice(SIX, FOUR).view(layer, HALF)
    part(torch.randn(5, 3)).square().sum().backward()
    assert layer.weight.grad is not None
    used = layer.weight.grad != 0
    assert used[:4, :3].all()
    assert used.sum() == 4 * 3
    assert list(part.parameters()) == []


def test_a_layer_of_which_all_is_used_is_itself() -> None:
    layer = nn.Linear(6, 8)
    assert WeightSlice(SIX, FOUR).view(layer, ActiveConfig((), active_units=(4, 6))) is layer


@pytest.mark.parametrize(("groups", "left"), [(8, 4), (4, 2)])
def test_grouped_convolutions_keep_the_size_of_a_group(groups: int, left: int) -> None:
    layer = nn.Conv1d(8, 8, 3, groups=groups)
    cut = ChannelSlice(8, group=0, units=4)
    part = WeightSlice(cut, cut, groups).view(layer, HALF)
    assert (part.in_channels, part.out_channels, part.groups) == (4, 4, left)
    x = torch.randn(2, 8, 9)
    assert torch.allclose(part(x[:, :4]), layer(x)[:, :4])


def test_a_norm_has_the_statistics_it_is_given_and_the_shared_scale() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    mean, variance = torch.randn(4), torch.rand(4) + 0.5
    part = SubnetNorm(FOUR).view(norm.eval(), HALF, Moments(mean, variance))
    x = torch.randn(2, 4, 3, 3)
    assert torch.allclose(part(x), (x - mean[:, None, None]) / (variance[:, None, None] + norm.eps).sqrt())
    assert part.weight.data_ptr() == norm.weight.data_ptr()
    assert norm.running_mean is not None
    assert not norm.running_mean.any()


def test_a_norm_without_statistics_takes_those_of_the_batch_and_keeps_none() -> None:
    norm = nn.BatchNorm2d(8).train()
    part = SubnetNorm(FOUR).view(norm, HALF, None)
    result = part(torch.randn(5, 4, 3, 3))
    assert torch.allclose(result.mean((0, 2, 3)), torch.zeros(4), atol=1e-6)
    assert part.running_mean is None
    assert norm.num_batches_tracked == 0


def test_an_identity_takes_the_place_of_a_block_that_is_left_out() -> None:
    block = nn.Linear(4, 4)
    block.kind = "sliding"  # type: ignore[assignment]
    assert LayerSelect(0).view(block, HALF) is block
    identity = LayerSelect(1).view(block, HALF)
    x = torch.randn(2, 4)
    assert isinstance(identity, nn.Identity)
    assert identity(x) is x
    assert (identity.kind, list(identity.parameters())) == ("sliding", [])


def test_a_block_that_is_left_out_returns_what_it_is_given() -> None:
    call = BlockCall((Argument("x"), None, Argument(0)), is_plain=False)
    x, bias = torch.randn(2, 4), torch.randn(3)
    assert LayerSelect(1, call).view(nn.Linear(4, 4), HALF)(bias, x=x) == (x, None, bias)
