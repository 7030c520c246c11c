"""The family of a network of your own: a class or function that returns the network, and an example of its input."""

from __future__ import annotations

import inspect
import io
import os
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from sim.base.errors import SpecError, raised, user_function
from supernet.calls import logits_of
from supernet.factories import check_factory, frozen_options
from supernet.insertion import insert
from supernet.layers import evaluation, tensors
from supernet.verification import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supernet.space import SubnetSpace
    from supernet.structure import Decoder, Structure

RESERVED = ("example", "insert")
"""What a file says beside the arguments of a factory, which therefore can't have these names."""

_BATCHES = (2, 3)
_IMAGES = 4
"""The dimensions of a batch of images."""


@dataclass(frozen=True, slots=True)
class InsertionOptions:
    """How operators are inserted: the options of `supernet.insert`.

    Attributes:
        depths: For each stage, the allowed numbers of active blocks; None for any number.
        expands: The allowed ratios of active channels inside a block.
        widths: The allowed ratios of channels that are in no single block.
        uniform: Whether one ratio holds for all blocks.
        keep: Paths of modules that are not sliced, or patterns.
    """

    depths: tuple[tuple[int, ...], ...] | None = None
    expands: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    widths: tuple[float, ...] = (1.0,)
    uniform: bool = False
    keep: str | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.keep, str):
            object.__setattr__(self, "keep", (self.keep,))
        for name, value in frozen_options(asdict(self)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class NetworkFamily:
    """A family made of a factory: operators are inserted into the network that it returns.

    Trainings, checkpoints, searches and profiles take it as they take a shipped family. The factory is found again by
    its module and name, so it must be defined at the top level of a module.

    Attributes:
        factory: A class derived from `nn.Module`, or a function that returns a network.
        options: Its arguments by name, plain values; a mapping, or pairs.
        example_shape: The shape of an input tensor without the batch. None for the attribute `example` of the factory:
            a tensor or a tuple of tensors with the batch first, or a function of `batch` and `size` that returns these.
        insertion: How operators are inserted.

    Raises:
        SpecError: The factory can't be found by its name, or does not take the options; or there is no example.

    Examples:
        >>> family = NetworkFamily(nn.Linear, {"in_features": 4, "out_features": 2}, (4,))
        >>> family.name, [tuple(part.shape) for part in family.example(batch=8)]
        ('torch.nn.modules.linear:Linear', [(8, 4)])
    """

    factory: Callable[..., nn.Module]
    options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    example_shape: tuple[int, ...] | None = None
    insertion: InsertionOptions = field(default_factory=InsertionOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", frozen_options(self.options))
        check_factory(self.factory, dict(self.options), RESERVED)
        if self.example_shape is None and not hasattr(self.factory, "example"):
            hint = f"{self.factory.__name__}.example = torch.zeros(1, 3, 32, 32), or the option example=[3,32,32]"
            raise SpecError(self.place, "has no example of its input", "", hint)

    @property
    def name(self) -> str:
        """The module and the name of the factory."""
        return f"{self.factory.__module__}:{self.factory.__qualname__}"

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters as a file has them."""
        shape = {} if self.example_shape is None else {"example": self.example_shape}
        return {**dict(self.options), **shape, "insert": asdict(self.insertion)}

    @property
    def default_size(self) -> int:
        """The side of the example's images, the length of its texts, or its number of features."""
        return self.example()[0].shape[-1]

    @property
    def space(self) -> SubnetSpace:
        """The subnets; operators are inserted when it is first asked for."""
        return _inserted(self).space

    @property
    def structure(self) -> Structure:
        """The structure of the network."""
        return _inserted(self).structure

    def network(self, width_divisor: int = 1) -> nn.Module:
        """Return the network with the weights of the factory, on the CPU; `width_divisor` has no effect.

        Raises:
            SpecError: The factory fails, or returns no network or another one than before.
        """
        del width_divisor
        network = _made(self)
        _check_layout(network, _inserted(self).layout, self.place)
        return network

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return arguments for the network.

        Raises:
            SpecError: The example is not a tensor or a tuple of tensors, or has no such size.
        """
        given: Any = getattr(self.factory, "example", None)
        if self.example_shape is not None:
            given = torch.zeros(1, *self.example_shape)
        elif callable(given):
            try:
                takes = inspect.signature(given).parameters
                asked = {"batch": batch, "size": size}
                given = given(**{key: value for key, value in asked.items() if key in takes and value is not None})
                size = None if "size" in takes else size
            except (Exception, SystemExit) as error:
                problem, place = raised(error)
                raise SpecError(f"{self.place}, example", problem, place) from error
        parts = (given,) if isinstance(given, torch.Tensor) else given
        if not isinstance(parts, tuple) or not parts or not all(isinstance(p, torch.Tensor) and p.dim() for p in parts):
            hint = "a tensor or a tuple of tensors, the batch first"
            raise SpecError(f"{self.place}, example", "not an input of the network", type(given).__name__, hint)
        if len({part.shape[0] for part in parts}) > 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise SpecError(f"{self.place}, example", "the first dimensions differ", shapes, "the batch first")
        return tuple(self._resized(part, batch, size) for part in parts)

    def _resized(self, part: torch.Tensor, batch: int, size: int | None) -> torch.Tensor:
        if size is not None and size != part.shape[-1]:
            if part.dim() == _IMAGES:
                part = part.new_zeros(1, part.shape[1], size, size)
            elif part.dim() == len(("batch", "tokens")) and not part.is_floating_point():
                part = part[:, :1].expand(-1, size)
            else:
                hint = "an example that is a function of batch and size"
                raise SpecError(f"{self.place}, example", "can't be resized", f"size {size}", hint)
        return part[:1].expand(batch, *part.shape[1:]).contiguous()

    def decoder(self, structure: Structure) -> Decoder:
        """Return the decoder of the space's control tuples."""
        del structure
        return _inserted(self).decoder

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return no names: weight files of other tools have the network's own."""
        del name
        return ()

    @property
    def place(self) -> str:
        """The line of the factory, for messages; its name if that is not known."""
        return user_function(self.factory if inspect.isfunction(self.factory) else self.factory.__init__) or self.name


class _Inserted(NamedTuple):
    """What insertion finds, and what the network looks like that it found it in."""

    structure: Structure
    space: SubnetSpace
    decoder: Decoder
    layout: dict[str, str]


@cache
def _inserted(family: NetworkFamily) -> _Inserted:
    """Insert operators into a family's network, after checking all that training, storing and serving rely on."""
    place = family.place
    with torch.random.fork_rng(devices=[]):
        _check_memory(family, place)
        torch.manual_seed(0)
        layout = _layout(_made(family))
        torch.manual_seed(1)
        network = _made(family)
        _check_layout(network, layout, place)
        _check_storable(network, place)
        for batch in _BATCHES:
            _check_result(network, family.example(batch), place)
        example = family.example(_BATCHES[0])
        supernet = insert(network, example, name=family.factory.__name__, **asdict(family.insertion))
    return _Inserted(supernet.structure, supernet.space, supernet.decoder, layout)


def _made(family: NetworkFamily) -> nn.Module:
    """Return what a factory returns.

    Raises:
        SpecError: It fails, or does not return a network that is ready for use.
    """
    place = family.place
    try:
        with torch.device("cpu"):
            network: Any = family.factory(**dict(family.options))
    except (Exception, SystemExit) as error:
        problem, where = raised(error)
        raise SpecError(family.name, problem, where) from error
    if not isinstance(network, nn.Module):
        raise SpecError(place, "does not return a module", type(network).__name__, "a torch.nn.Module")
    for path, parameter in network.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            hint = "sizes in place of lazy layers, or a call with an example in the factory"
            raise SpecError(f"{place}, {path}", "has no shape yet", "", hint)
    return network


def _check_memory(family: NetworkFamily, place: str) -> None:
    """Check that weights fit into memory, where the factory can build a network without values.

    Raises:
        SpecError: They do not.
    """
    try:
        with torch.device("meta"):
            network = family.factory(**dict(family.options))
        needed = sum(part.nbytes for part in {*network.parameters(), *network.buffers()})
    except (Exception, SystemExit):  # noqa: BLE001 - the factory needs values, or fails anyway
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > memory:
        value = f"{needed / 1e9:.1f} GB of weights, {memory / 1e9:.1f} GB of memory"
        raise SpecError(place, "the network is larger than memory", value, "a smaller network, or a larger machine")


def _check_storable(network: nn.Module, place: str) -> None:
    """Check that a network's state can be stored and read again: before training, not after.

    Raises:
        SpecError: A part of it is neither a tensor nor plain values.
    """
    for name, part in network.state_dict().items():
        if isinstance(part, torch.Tensor):
            continue
        stored = io.BytesIO()
        try:
            torch.save(part, stored)
            torch.load(io.BytesIO(stored.getvalue()), weights_only=True)
        except (Exception, SystemExit) as error:
            hint = "tensors and plain values in get_extra_state"
            raise SpecError(f"{place}, {name}", "can't be stored", type(part).__name__, hint) from error


def _check_result(network: nn.Module, inputs: tuple[torch.Tensor, ...], place: str) -> None:
    """Check that a network gives logits for each example, of equal shape for all values, and each time the same.

    Raises:
        SpecError: It does not.
    """
    generator = torch.Generator().manual_seed(0)
    others = tuple(
        torch.randn(part.shape, generator=generator).to(part.dtype) if part.is_floating_point() else part
        for part in inputs
    )
    with evaluation(network), torch.no_grad():
        try:
            first, second = logits_of(network(*inputs)), logits_of(network(*others))
            again = logits_of(network(*others))
        except SpecError as error:
            raise SpecError(place, error.problem, error.value, error.hint) from error
        except (Exception, SystemExit) as error:
            problem, where = raised(error)
            shapes = ", ".join(str(tuple(part.shape)) for part in inputs)
            raise SpecError(place, f"the network {problem}", where, f"its example has shape {shapes}") from error
    if first.shape != second.shape:
        value = f"{tuple(first.shape)}, then {tuple(second.shape)}"
        raise SpecError(place, "the shape of its result depends on values of its input", value, "one shape")
    batch = next(tensors(inputs)).shape[0]
    if first.dim() < len(("batch", "classes")) or first.shape[0] != batch:
        value = f"{tuple(first.shape)} for a batch of {batch}"
        raise SpecError(place, "the result has no logits for each example", value, "shape (batch, classes)")
    for logits in (first, second):
        if logits.isnan().any():
            value = f"{int(logits.isnan().sum())} of {logits.numel()} numbers"
            hint = "no overflow, such as of 16 bits, on its example or random values"
            raise SpecError(place, "its result has NaN in it", value, hint)
    if not torch.allclose(second, again, rtol=TOLERANCE, equal_nan=True):
        hint = "without random numbers in evaluation mode"
        raise SpecError(place, "gives other results each time in evaluation mode", "", hint)


def _layout(network: nn.Module) -> dict[str, str]:
    """Return the class of each module, and the shape and type of each tensor of a network's state."""
    modules = {path: f"a {type(module).__name__}" for path, module in network.named_modules()}
    state = {name: part for name, part in network.state_dict().items() if isinstance(part, torch.Tensor)}
    return modules | {name: f"{tuple(part.shape)}, {part.dtype}" for name, part in state.items()}


def _check_layout(network: nn.Module, expected: dict[str, str], place: str) -> None:
    """Check that a factory returns the same layers as before.

    Raises:
        SpecError: It does not; names the first one.
    """
    found = _layout(network)
    if found != expected:
        name = next(name for name in {**expected, **found} if expected.get(name) != found.get(name))
        value = f"{name}: {expected.get(name, 'missing')}, then {found.get(name, 'missing')}"
        raise SpecError(place, "returns another network each time", value, "the same layers each time")
