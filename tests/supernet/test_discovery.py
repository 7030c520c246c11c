from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional

from supernet.discovery import find_structure
from supernet.structure import Channels, Structure
from tests.supernet.networks import (
    BasicBlock,
    Chain,
    ConvNormActivation,
    Decoder,
    MobileNet,
    ResNet,
    SqueezeExcitation,
    images,
    tokens,
)


def group_of(structure: Structure, path: str, side: str) -> set[str]:
    (group,) = (group for group in structure.groups if Channels(path, side) in group.members)  # type: ignore[arg-type]
    return {f"{member.path}.{member.side}" for member in group.members}


def test_a_resnet_has_stages_streams_and_channels_inside_of_blocks() -> None:
    found = find_structure(ResNet(), (images(),))
    assert found.blocks == ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer2.2")
    assert found.stages == ((0, 1), (3, 4))
    assert not found.unsliceable
    assert [(group.units, group.block) for group in found.groups if group.block is not None] == [
        (8, 0), (8, 1), (12, 2), (12, 3), (12, 4),
    ]  # fmt: skip
    assert group_of(found, "layer2.1.conv1", "out") == {
        "layer2.1.conv1.out", "layer2.1.bn1.out", "layer2.1.conv2.in",
    }  # fmt: skip
    stream = group_of(found, "layer2.0.conv2", "out")
    assert {"layer2.0.downsample.0.out", "layer2.0.downsample.1.out", "layer2.2.bn2.out", "fc.in"} <= stream
    assert not any(
        member.startswith(("fc.out", "conv1.in")) for group in found.groups for member in map(str, group.members)
    )


def test_a_depthwise_convolution_and_a_gate_are_cut_with_what_enters_them() -> None:
    found = find_structure(MobileNet(), (images(),))
    assert found.blocks == ("features.1", "features.2", "features.3", "features.4")
    assert found.stages == ((0,), (2, 3))
    members = group_of(found, "features.3.conv.0.0", "out")
    assert {"features.3.conv.1.0.in", "features.3.conv.1.0.out"} <= members
    assert {"features.3.conv.2.fc1.in", "features.3.conv.2.fc2.out", "features.3.conv.3.in"} <= members
    assert group_of(found, "features.3.conv.2.fc1", "out") == {
        "features.3.conv.2.fc1.out", "features.3.conv.2.fc2.in",
    }  # fmt: skip


def test_a_grouped_convolution_is_cut_by_its_groups() -> None:
    found = find_structure(MobileNet(groups=4), (images(),))
    units = {group.units for group in found.groups for m in group.members if m.path == "features.3.conv.1.0"}
    assert units == {4}


def test_flattened_features_are_cut_by_channels() -> None:
    found = find_structure(Chain(), (images(size=8),))
    assert group_of(found, "features.3", "out") == {"features.3.out", "classifier.0.in"}
    assert [group.units for group in found.groups] == [8, 6, 10]
    assert all(group.block is None for group in found.groups)


def test_heads_that_share_keys_are_cut_together() -> None:
    found = find_structure(Decoder(), (tokens(),))
    assert found.stages == ((0, 1, 2, 3),)
    assert group_of(found, "layers.1.q_proj", "out") == {
        "layers.1.q_proj.out", "layers.1.k_proj.out", "layers.1.v_proj.out", "layers.1.o_proj.in",
    }  # fmt: skip
    assert [(group.units, group.block) for group in found.groups[:2]] == [(2, 0), (16, 0)]
    assert not any(group.block is None for group in found.groups), "the residual stream is normalised"


def test_the_network_comes_back_as_it_was() -> None:
    model = ResNet()
    model.layer1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    find_structure(model, (images(),))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_network_comes_back_as_it_was_even_if_it_fails() -> None:
    model = Decoder()
    before = model.embed.weight.clone()
    with pytest.raises(IndexError):
        find_structure(model, (torch.full((1, 3), 99),))
    assert torch.equal(model.embed.weight, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("fails", [False, True])
def test_tracing_takes_one_thread_and_gives_the_others_back(fails: bool) -> None:
    class Counting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            if fails:
                raise RuntimeError
            return x

    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(RuntimeError) if fails else nullcontext():
            find_structure(nn.Sequential(nn.Conv2d(3, 8, 1), Counting()), (images(),))
        assert (set(seen), torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(before)


def test_a_block_whose_last_norm_begins_at_zero_is_found() -> None:
    """Many begin to train with it (He et al., 2019), and then a new block adds nothing at all."""
    model = ResNet()
    for module in model.modules():
        if isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
    assert find_structure(model, (images(),)).stages == ((0, 1), (3, 4))


def test_a_gate_is_no_block() -> None:
    model = nn.Sequential(ConvNormActivation(3, 8, 3), SqueezeExcitation(8), SqueezeExcitation(8), nn.Conv2d(8, 4, 1))
    assert find_structure(model, (images(),)).stages == ()


class Rotated(nn.Module):
    """Channels move by one place, so that no leading part of them stays together."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x).roll(1, 1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.lstm(x)[0]


class StandardizedConv2d(nn.Conv2d):
    """Its weight is standardized over all of its outputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.weight / self.weight.std(), self.bias)


class Standardized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = StandardizedConv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x))


@pytest.mark.parametrize(
    ("inside", "path", "reason"),
    [
        (Rotated(), "0.first", "is mixed or reordered before 0.second (Conv2d)"),
        (BasicBlock(8, 8, norm=lambda planes: nn.GroupNorm(1, planes)), "0.conv1", "goes through 0.bn1 (GroupNorm)"),
        (Recurrent(), "0.lstm", "is of type LSTM"),
        (Standardized(), "0.first", "depends on all of its output channels together"),
    ],
)
def test_what_cannot_be_cut_is_named(inside: nn.Module, path: str, reason: str) -> None:
    x = images(channels=8) if path != "0.lstm" else torch.randn(2, 3, 16)
    model = nn.Sequential(inside, nn.Identity())
    (unsliceable,) = (one for one in find_structure(model, (x,)).unsliceable if not one.is_accepted)
    assert (unsliceable.path, unsliceable.reason) == (path, reason)
    assert all(one.is_accepted for one in find_structure(model, (x,), keep=[path]).unsliceable)


def test_what_is_to_be_kept_is_in_no_group() -> None:
    found = find_structure(ResNet(), (images(),), keep=["layer2.1"])
    assert not any("layer2.1." in member.path for group in found.groups for member in group.members)
    assert any("layer2.2." in member.path for group in found.groups for member in group.members)
