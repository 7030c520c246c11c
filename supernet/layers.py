"""The layers that can be sliced, and the dimensions of their channels."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrize import is_parametrized

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


Weighted = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
"""Layers whose weight has output channels, input channels and (of convolutions) the kernel as its dimensions.

A linear layer with a transposed weight (GPT-2's `Conv1D`) is treated as one of them.
"""

PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)
"""Classes known to compute nothing but a convolution or a product; subclasses may."""

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
"""Layers with running statistics of each channel."""


def is_weighted(module: nn.Module) -> TypeGuard[Weighted]:
    """Return whether a module is a layer that can be sliced, parametrized layers included."""
    has_weight = "weight" in own_parameters(module) or is_parametrized(module, "weight")
    return has_weight and (isinstance(module, Weighted) or is_transposed(module))


def is_transposed(module: nn.Module) -> bool:
    """Return whether a module is a linear layer whose weight has the inputs first: `Conv1D` of transformers."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nx") and hasattr(module, "nf")


def is_norm(module: nn.Module) -> TypeGuard[Norm]:
    """Return whether a module is a layer whose statistics are stored per subnet."""
    return isinstance(module, Norm)


def is_channel_norm(module: nn.Module) -> TypeGuard[nn.GroupNorm | nn.InstanceNorm1d]:
    """Return whether a module normalises each channel, or each of several groups of them, of an example by itself."""
    return isinstance(module, (nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d))


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a module itself, without those of the modules in it."""
    return dict(module.named_parameters(recurse=False))


def own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the floating-point parameters and buffers of a module itself."""
    tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return {name: tensor for name, tensor in tensors if tensor.is_floating_point()}


def channels(layer: Weighted | Norm, side: str) -> int:
    """Return the number of input or output channels of a layer."""
    if isinstance(layer, Norm):
        return layer.num_features
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == "in" else layer.out_features
    if is_transposed(layer):
        return int(vars(layer)["nx" if side == "in" else "nf"])
    return layer.in_channels if side == "in" else layer.out_channels


def groups(layer: Weighted) -> int:
    """Return the groups of a convolution; a linear layer has one."""
    return 1 if isinstance(layer, nn.Linear) or is_transposed(layer) else layer.groups


def axis(layer: Weighted | Norm, data: torch.Tensor) -> int:
    """Return the channel dimension of an input or output of a layer."""
    if isinstance(layer, Norm):
        return 1
    if isinstance(layer, nn.Linear) or is_transposed(layer):
        return data.dim() - 1
    return data.dim() - 1 - len(layer.kernel_size)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in arguments or results: alone, or in tuples, lists and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return arguments or results with each floating-point tensor in them changed."""
    if isinstance(value, torch.Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(part, change) for part in value))
    if type(value) in {tuple, list}:
        return type(value)(mapped(part, change) for part in value)
    if type(value) is dict:
        return {name: mapped(part, change) for name, part in value.items()}
    return value


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


@contextmanager
def composed_attention() -> Generator[None]:
    """Compute attention by single operations: fused kernels lose NaN and are not counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def random_values(model: nn.Module) -> Generator[None]:
    """Give random values to parameters and statistics of equal values, as before training; afterwards, restore them.

    Zeros and ones hide what depends on them: a scale of 0 hides a block, and a mean of 0 a missing one.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    owned: dict[int, torch.Tensor] = {id(parameter): parameter for parameter in model.parameters()}
    owned |= {id(t): t for module in model.modules() if is_norm(module) for t in own_tensors(module).values()}
    constant = [t for t in owned.values() if t.numel() and not t.is_meta and bool((t == t.flatten()[0]).all())]
    before = [tensor.detach().clone() for tensor in constant]
    with torch.no_grad():
        for tensor in constant:
            tensor.copy_(torch.empty(tensor.shape, device=generator.device).uniform_(0.5, 1.5, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(constant, before, strict=True):
                tensor.copy_(value)


def reset_tracking(norm: Norm, like: torch.Tensor) -> None:
    """Let a norm layer track running statistics from their initial values; device and dtype are those of `like`."""
    norm.track_running_stats = True
    norm.running_mean, norm.running_var = like.new_zeros(norm.num_features), like.new_ones(norm.num_features)
    norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=like.device)
