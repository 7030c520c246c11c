"""Costs of subnets, by arithmetic alone: multiply-accumulate operations and parameters."""

from __future__ import annotations

from contextlib import ExitStack
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from supernet.calls import call_of
from supernet.layers import composed_attention, evaluation, own_parameters, tensors
from supernet.operators import ChannelSlice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from supernet.assembly import Assembly
    from supernet.calls import Call
    from supernet.layers import Weighted
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
        inputs: The arguments of the call, as `insert` takes them; costs are for one example of the batch.
    """

    def __init__(self, supernet: Supernet, inputs: Any) -> None:
        self._supernet = supernet
        model, assembly = supernet.model, supernet.assembly
        self._parameters = _parameters(model, assembly)
        self._macs = _macs(model, assembly, call_of(inputs))

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
    computed = {path for path, part in assembly.slices.items() if part.is_computed(model.get_submodule(path))}
    for path in computed:  # as extracted, without the parametrization
        layer = _layer(model, path)
        products += [_weights(path, assembly.slices[path], layer.weight)]
        products += [] if layer.bias is None else [_Product(path, 1, (assembly.slices[path].outputs,))]
    for path, module in model.named_modules():
        if path.partition(".parametrizations")[0] in computed:
            continue
        for name, parameter in own_parameters(module).items():
            if names[id(parameter)] != f"{path}.{name}".lstrip("."):
                continue
            products.append(_parameter(path, name, parameter, assembly))
    return products


def _parameter(path: str, name: str, parameter: nn.Parameter, assembly: Assembly) -> _Product:
    """Return the cost of one parameter: proportional to the channels of each sliced dimension."""
    slices: dict[int, ChannelSlice] = {}
    around = path.rpartition(".")[0]
    if around in assembly.heads:  # its output layer is sliced with it
        slices = {1: assembly.heads[around].heads} if name == "weight" else {}
    elif path in assembly.slices and name == "weight":
        return _weights(path, assembly.slices[path], parameter)
    elif path in assembly.slices or path in assembly.norms:
        part = assembly.slices.get(path) or assembly.norms[path]
        slices = {0: part.outputs} if parameter.shape[:1] == (part.outputs.count,) else {}
    elif path in assembly.heads:
        slices = {0: assembly.heads[path].heads}
    for tensor in assembly.tensors.get(path, ()):
        if tensor.name == name:
            slices[tensor.dim] = tensor.part
    count = prod(part.count for part in slices.values())
    return _Product(path, parameter.numel() // count, tuple(slices.values()))


def _layer(model: nn.Module, path: str) -> Weighted:
    return cast("Weighted", model.get_submodule(path))


def _weights(path: str, part: WeightSlice, weight: torch.Tensor) -> _Product:
    """Return the weights of a layer; within a group of a convolution, all configurations have the same number."""
    kernel = weight[0, 0].numel()
    if part.groups > 1:
        return _Product(path, kernel * weight.shape[1], (part.outputs,))
    return _Product(path, kernel, (part.outputs, part.inputs))


def _macs(model: nn.Module, assembly: Assembly, call: Call) -> list[_Product]:
    """Run the network once; count how often each layer is applied, and the products outside of layers."""
    batch, outputs = next(tensors((call.args, call.kwargs))).shape[0], dict.fromkeys(assembly.slices, 0)

    def count(path: str) -> Any:
        def hook(_: nn.Module, __: Any, result: torch.Tensor) -> None:
            # A layer may be given a parameter, such as learned queries, which has no batch.
            outputs[path] += result.numel() // (batch if result.shape[0] % batch == 0 else 1)

        return hook

    flops = FlopCounterMode(display=False)
    with ExitStack() as stack:
        for path in assembly.slices:
            stack.callback(model.get_submodule(path).register_forward_hook(count(path)).remove)
        stack.enter_context(evaluation(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(composed_attention())
        for parameter in model.parameters():  # the counter fails where a parameter is an input
            stack.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad = False
        with flops:
            model(*call.args, **call.kwargs)
    products = [
        product._replace(factor=product.factor * outputs[path] // part.outputs.count)
        for path, part in assembly.slices.items()
        for product in [_weights(path, part, _layer(model, path).weight)]
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
        inside = [part for part in inside if part.units not in {1, part.count, *part.sections}]
        inside = [assembly.heads[path].heads] if path in assembly.heads else inside
        heads = {ChannelSlice(part.units, part.group, part.units) for part in inside}
        macs = count // (FLOPS_PER_MAC * batch)
        products.append(
            _Product(path, macs // heads.copy().pop().count, (*heads,)) if len(heads) == 1 else _Product(path, macs)
        )
    return products
