"""Costs of subnets, by arithmetic alone: multiply-accumulate operations and parameters."""

from __future__ import annotations

from contextlib import ExitStack
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from supernet.layers import evaluation, own_parameters, tensors
from supernet.operators import ChannelSlice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from supernet.assembly import Assembly
    from supernet.network import Supernet
    from supernet.operators import WeightSlice
    from supernet.space import SubnetConfig
    from supernet.structure import ActiveConfig


FLOPS_PER_MAC = 2
"""torch counts a multiplication and an addition as two."""


class _Product(NamedTuple):
    """A cost that is a factor times the channels in use, or times pairs of channels in use.

    Attributes:
        path: The module that it belongs to; there is no cost if this is not active.
        factor: The cost per channel, or per pair of channels.
        slices: The channels.
    """

    path: str
    factor: int
    slices: tuple[ChannelSlice, ...] = ()

    def count(self, config: ActiveConfig) -> int:
        """Return the cost for a configuration."""
        return self.factor * prod(part.size(config) for part in self.slices)


class Costs:
    """The costs of the subnets of a supernet, for inputs of one shape.

    MACs are those of convolutions and linear layers, and of products of activations, as in attention, which scale with
    the heads. Norms, activations and poolings are not counted, as is usual.

    Args:
        supernet: Its whole network runs once.
        inputs: The arguments of the call; costs are for one example of the batch.
    """

    def __init__(self, supernet: Supernet, inputs: tuple[Any, ...]) -> None:
        self._supernet = supernet
        model, assembly = supernet.model, supernet.assembly
        self._parameters = _parameters(model, assembly)
        self._macs = _macs(model, assembly, inputs)

    def macs(self, subnet: SubnetConfig | str) -> int:
        """Return the multiply-accumulate operations of a subnet for one example.

        Raises:
            SpecError: The subnet is unknown.
        """
        return self._sum(self._macs, subnet)

    def parameters(self, subnet: SubnetConfig | str) -> int:
        """Return the number of parameters of a subnet.

        Raises:
            SpecError: The subnet is unknown.
        """
        return self._sum(self._parameters, subnet)

    def statistics(self, subnet: SubnetConfig | str) -> int:
        """Return the number of running statistics of a subnet: a mean and a variance per channel of each norm.

        Raises:
            SpecError: The subnet is unknown.
        """
        return 2 * sum(self._supernet.assembly.norm_sizes(self._supernet.active_config(subnet)).values())

    def _sum(self, products: list[_Product], subnet: SubnetConfig | str) -> int:
        config, is_active = self._supernet.active_config(subnet), self._supernet.assembly.is_active
        return sum(product.count(config) for product in products if is_active(product.path, config))


def _parameters(model: nn.Module, assembly: Assembly) -> list[_Product]:
    names = {id(p): name for name, p in model.named_parameters()}  # a tied parameter counts once
    products: list[_Product] = []
    for path, module in model.named_modules():
        for name, parameter in own_parameters(module).items():
            if names[id(parameter)] != f"{path}.{name}".lstrip("."):
                continue
            if path in assembly.slices and name == "weight":
                products.append(_weights(path, assembly.slices[path], parameter))
            elif path in assembly.slices or path in assembly.norms:
                part = assembly.slices.get(path) or assembly.norms[path]
                products.append(_Product(path, 1, (part.outputs,)))
            else:
                products.append(_Product(path, parameter.numel()))
    return products


def _weights(path: str, part: WeightSlice, weight: torch.Tensor) -> _Product:
    """Return the weights of a layer; within a group of a convolution, all configurations have the same number."""
    kernel = weight[0, 0].numel()
    if part.groups > 1:
        return _Product(path, kernel * weight.shape[1], (part.outputs,))
    return _Product(path, kernel, (part.outputs, part.inputs))


def _macs(model: nn.Module, assembly: Assembly, inputs: tuple[Any, ...]) -> list[_Product]:
    """Run the network once; count how often each layer is applied, and the products outside of layers."""
    batch, outputs = next(tensors(inputs)).shape[0], dict.fromkeys(assembly.slices, 0)

    def count(path: str) -> Any:
        def hook(_: nn.Module, __: Any, result: torch.Tensor) -> None:
            outputs[path] += result.numel() // batch

        return hook

    flops = FlopCounterMode(display=False)
    with ExitStack() as stack:
        for path in assembly.slices:
            stack.callback(model.get_submodule(path).register_forward_hook(count(path)).remove)
        stack.enter_context(evaluation(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the fused kernel for CPU is not counted
        with flops:
            model(*inputs)
    products = [
        product._replace(factor=product.factor * outputs[path] // part.outputs.count)
        for path, part in assembly.slices.items()
        for product in [_weights(path, part, model.get_submodule(path).get_parameter("weight"))]
    ]
    names = {f"{type(model).__name__}.{path}".rstrip("."): path for path, _ in model.named_modules()}
    by_path = {names[name]: sum(counts.values()) for name, counts in flops.get_flop_counts().items() if name in names}
    return products + _attention(assembly, {path: count for path, count in by_path.items() if count}, batch)


def _attention(assembly: Assembly, flops: Mapping[str, int], batch: int) -> list[_Product]:
    """Return the products that modules compute outside of layers; those of attention scale with its heads.

    Args:
        assembly: The operators.
        flops: Of each module, including the modules inside it.
        batch: The examples of the batch.
    """
    exclusive = dict(flops)
    for path, count in flops.items():
        around = [outer for outer in flops if path.startswith(f"{outer}.".lstrip(".")) and outer != path]
        if around:
            exclusive[max(around, key=len)] -= count
    products: list[_Product] = []
    for path, count in exclusive.items():
        if path in assembly.slices or not count:
            continue
        inside = [part.outputs for layer, part in assembly.slices.items() if layer.startswith(f"{path}.")]
        heads = {
            ChannelSlice(part.units, part.group, part.units) for part in inside if part.units not in {1, part.count}
        }
        macs = count // (FLOPS_PER_MAC * batch)
        products.append(
            _Product(path, macs // heads.copy().pop().count, (*heads,)) if len(heads) == 1 else _Product(path, macs)
        )
    return products
