"""What a subnet costs, by arithmetic alone: multiply-accumulate operations and parameters."""

from __future__ import annotations

from contextlib import ExitStack
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from supernet.layers import evaluation, own_parameters, tensors
from supernet.operators import Cut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from supernet.assembly import Assembly
    from supernet.network import Supernet
    from supernet.operators import WeightSlice
    from supernet.space import SubNet
    from supernet.structure import Choice


FLOPS_PER_MAC = 2
"""torch counts a multiplication and an addition as two."""


class _Product(NamedTuple):
    """Something to count: a number for each channel, or each pair of channels, that a choice uses.

    Attributes:
        path: The module that it is in; if this does not run, there is none.
        times: The number.
        cuts: The channels.
    """

    path: str
    times: int
    cuts: tuple[Cut, ...] = ()

    def of(self, choice: Choice) -> int:
        """Return the count for a choice."""
        return self.times * prod(cut.of(choice) for cut in self.cuts)


class Costs:
    """The costs of the subnets of a supernet, for inputs of one shape.

    Counted are the products of convolutions and linear layers, and those of activations with each other, as in
    attention, which go by its heads. Norms, activations and poolings are left out, as is usual.

    Args:
        supernet: Its largest subnet is run once.
        inputs: The arguments that it is called with; counts are for one example of the batch.
    """

    def __init__(self, supernet: Supernet, inputs: tuple[Any, ...]) -> None:
        self._supernet = supernet
        model, assembly = supernet.model, supernet.assembly
        self._parameters = _parameters(model, assembly)
        self._macs = _macs(model, assembly, inputs)

    def macs(self, subnet: SubNet | str) -> int:
        """Return the multiply-accumulate operations that a subnet takes for one example.

        Raises:
            SpecError: There is no such subnet.
        """
        return self._sum(self._macs, subnet)

    def parameters(self, subnet: SubNet | str) -> int:
        """Return how many parameters a subnet uses.

        Raises:
            SpecError: There is no such subnet.
        """
        return self._sum(self._parameters, subnet)

    def statistics(self, subnet: SubNet | str) -> int:
        """Return how many running statistics a subnet has of its own: a mean and a variance for each channel.

        Raises:
            SpecError: There is no such subnet.
        """
        return 2 * sum(self._supernet.assembly.norm_sizes(self._supernet.choice(subnet)).values())

    def _sum(self, products: list[_Product], subnet: SubNet | str) -> int:
        choice, runs = self._supernet.choice(subnet), self._supernet.assembly.runs
        return sum(product.of(choice) for product in products if runs(product.path, choice))


def _parameters(model: nn.Module, assembly: Assembly) -> list[_Product]:
    counted = {id(p): name for name, p in model.named_parameters()}  # one that has two names, once
    found: list[_Product] = []
    for path, module in model.named_modules():
        for name, parameter in own_parameters(module).items():
            if counted[id(parameter)] != f"{path}.{name}".lstrip("."):
                continue
            if path in assembly.slices and name == "weight":
                found.append(_weights(path, assembly.slices[path], parameter))
            elif path in assembly.slices or path in assembly.norms:
                part = assembly.slices.get(path) or assembly.norms[path]
                found.append(_Product(path, 1, (part.gives,)))
            else:
                found.append(_Product(path, parameter.numel()))
    return found


def _weights(path: str, part: WeightSlice, weight: torch.Tensor) -> _Product:
    """Return the weights of a layer: in each group of a convolution, there is one size of kernel for all choices."""
    kernel = weight[0, 0].numel()
    if part.groups > 1:
        return _Product(path, kernel * weight.shape[1], (part.gives,))
    return _Product(path, kernel, (part.gives, part.takes))


def _macs(model: nn.Module, assembly: Assembly, inputs: tuple[Any, ...]) -> list[_Product]:
    """Run the network once, and see how often each layer is applied, and what is multiplied outside of layers."""
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
    found = [
        product._replace(times=product.times * outputs[path] // part.gives.count)
        for path, part in assembly.slices.items()
        for product in [_weights(path, part, model.get_submodule(path).get_parameter("weight"))]
    ]
    names = {f"{type(model).__name__}.{path}".rstrip("."): path for path, _ in model.named_modules()}
    by_path = {names[name]: sum(counts.values()) for name, counts in flops.get_flop_counts().items() if name in names}
    return found + _attention(assembly, {path: count for path, count in by_path.items() if count}, batch)


def _attention(assembly: Assembly, flops: Mapping[str, int], batch: int) -> list[_Product]:
    """Return the products that modules compute outside of layers; those of attention go by its heads.

    Args:
        assembly: The operators.
        flops: Of each module, with all in it.
        batch: The examples in it.
    """
    own = dict(flops)
    for path, count in flops.items():
        around = [other for other in flops if path.startswith(f"{other}.".lstrip(".")) and other != path]
        if around:
            own[max(around, key=len)] -= count
    found: list[_Product] = []
    for path, count in own.items():
        if path in assembly.slices or not count:
            continue
        inside = [part.gives for layer, part in assembly.slices.items() if layer.startswith(f"{path}.")]
        heads = {Cut(gives.units, gives.group, gives.units) for gives in inside if gives.units not in {1, gives.count}}
        macs = count // (FLOPS_PER_MAC * batch)
        found.append(
            _Product(path, macs // heads.copy().pop().count, (*heads,)) if len(heads) == 1 else _Product(path, macs)
        )
    return found
