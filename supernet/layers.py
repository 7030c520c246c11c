"""The layers that can be sliced, and the dimensions of their channels."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from supernet.structure import Side

Weighted = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
"""Layers whose weight has output channels, input channels and (of convolutions) the kernel as its dimensions."""

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
"""Layers with running statistics of each channel."""


def is_weighted(module: nn.Module) -> TypeGuard[Weighted]:
    """Return whether a module is a sliceable layer; one whose weight is computed (parametrized) is not."""
    return isinstance(module, Weighted) and "weight" in own_parameters(module)


def is_norm(module: nn.Module) -> TypeGuard[Norm]:
    """Return whether a module is a layer whose statistics are stored per subnet."""
    return isinstance(module, Norm)


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a module itself, without those of the modules in it."""
    return dict(module.named_parameters(recurse=False))


def channels(layer: Weighted | Norm, side: Side) -> int:
    """Return the number of input or output channels of a layer."""
    if isinstance(layer, Norm):
        return layer.num_features
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == "in" else layer.out_features
    return layer.in_channels if side == "in" else layer.out_channels


def groups(layer: Weighted) -> int:
    """Return the groups of a convolution; a linear layer has one."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def axis(layer: Weighted | Norm, data: torch.Tensor) -> int:
    """Return the channel dimension of an input or output of a layer."""
    if isinstance(layer, Norm):
        return 1
    return data.dim() - (1 if isinstance(layer, nn.Linear) else 1 + len(layer.kernel_size))


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in arguments or results: alone, or in tuples, lists and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def mapped(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with each floating-point tensor changed."""

    def changed(value: Any) -> Any:
        return change(value) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return tuple(map(changed, args)), {name: changed(value) for name, value in kwargs.items()}


def is_dense(tensor: torch.Tensor) -> bool:
    """Return whether a tensor's values are contiguous in memory, in any order of dimensions."""
    return tensor.numel() == 1 + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


@contextmanager
def evaluation(model: nn.Module) -> Generator[None]:
    """Put a network into evaluation mode; afterwards, restore the mode of each module."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def reset_tracking(norm: Norm, like: torch.Tensor) -> None:
    """Let a norm layer track running statistics from their initial values; device and dtype are those of `like`."""
    norm.track_running_stats = True
    norm.running_mean, norm.running_var = like.new_zeros(norm.num_features), like.new_ones(norm.num_features)
    norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=like.device)
