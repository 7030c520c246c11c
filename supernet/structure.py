"""The sliceable parts of a network: blocks that can be left out, and groups of channels that are sliced together.

`supernet.discovery` finds the structure of a network, a decoder turns a control tuple into an `ActiveConfig` of it, and
the operators carry that out. Layers are named by their paths (`layer1.0.conv1`), as in `nn.Module.named_modules`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sim.tables.latency import ControlTuple

Order = Literal["first", "every_other"]
"""Which blocks of a stage run: the first D, or those that remain when evenly spaced ones are dropped."""


class Channels(NamedTuple):
    """One dimension of a module's tensors.

    Attributes:
        path: The module.
        side: "in" or "out", the input or output channels of a layer (of a batch norm: "out"); "heads" of an
            `nn.MultiheadAttention`; "channels" of an `nn.GroupNorm`; else the name of a parameter or buffer.
        sections: The sizes of neighbouring parts that are sliced alike, such as queries, keys and values in one layer;
            empty for a single part.
        dim: The dimension of a parameter or buffer.
    """

    path: str
    side: str
    sections: tuple[int, ...] = ()
    dim: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that can only be sliced together, since the outputs of some are the inputs of others.

    Attributes:
        members: The output and input channels, at least one of each; or the heads of an `nn.MultiheadAttention`.
        units: The number of equal parts into which each member can be sliced: channels, neurons, or attention heads.
        block: The block (index) that contains all members; None for channels of several blocks (a residual stream).
    """

    members: tuple[Channels, ...]
    units: int
    block: int | None


@dataclass(frozen=True, slots=True)
class Unsliceable:
    """Channels that could be sliced by their shape, but are left whole.

    Attributes:
        path: The layer that outputs them.
        reason: Completes "it ..." in a message.
        is_accepted: Whether nobody expects them to be sliced: they are in `keep`, or in no single block.
    """

    path: str
    reason: str
    is_accepted: bool = False


class Argument(NamedTuple):
    """An argument of a call: its position or its name."""

    key: int | str


@dataclass(frozen=True, slots=True)
class BlockCall:
    """How a block is called, and what it returns if it is left out.

    Attributes:
        result: Its result, in which each tensor is replaced by the `Argument` that is passed on in its place.
        is_plain: Whether it maps a single positional argument to a tensor.
        is_chained: Whether it is given the result of the block before it in its list, if any, and nothing is computed
            between them.
    """

    result: Any = Argument(0)  # noqa: RUF009 - immutable
    is_plain: bool = True
    is_chained: bool = True

    def passed_on(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return what a call with these arguments returns if the block is left out."""
        given: dict[int | str, Any] = dict(enumerate(args))
        given.update(kwargs)
        return _filled(self.result, given)


def _filled(result: Any, given: Mapping[int | str, Any]) -> Any:
    """Return a result with the arguments in it."""
    if isinstance(result, Argument):
        return given[result.key]
    if isinstance(result, (tuple, list)):
        return type(result)(_filled(part, given) for part in result)
    return result


@dataclass(frozen=True, slots=True)
class Structure:
    """The blocks and channels of a network that subnets differ in.

    Attributes:
        blocks: The paths of the residual blocks, in order.
        stages: Runs of neighbouring blocks (indices) that can be left out.
        groups: The channels that can be sliced.
        unsliceable: All other channels of layers, with the reason.
        calls: For the path of each block that can be left out, how it is called.
    """

    blocks: tuple[str, ...]
    stages: tuple[tuple[int, ...], ...]
    groups: tuple[Group, ...]
    unsliceable: tuple[Unsliceable, ...] = ()
    calls: Mapping[str, BlockCall] = field(default_factory=dict[str, BlockCall])

    def config(self, active_blocks: list[bool], active_units: list[int]) -> ActiveConfig:
        """Return a configuration; groups inside inactive blocks get 0 units, so that equal networks are equal."""
        units = (
            0 if group.block is not None and not active_blocks[group.block] else number
            for group, number in zip(self.groups, active_units, strict=True)
        )
        return ActiveConfig(tuple(active_blocks), tuple(units))


@dataclass(frozen=True, slots=True)
class ActiveConfig:
    """The part of a structure that one subnet uses; two subnets of equal configuration are the same network.

    Attributes:
        active_blocks: For each block, whether it runs.
        active_units: For each group, the number of units in use; 0 where its block does not run.
    """

    active_blocks: tuple[bool, ...]
    active_units: tuple[int, ...]


class Decoder(Protocol):
    """Maps the control tuple of a subnet to the configuration of a network."""

    def decode(self, control: ControlTuple) -> ActiveConfig:
        """Return the configuration that a control tuple of the space stands for."""
        ...


def active_blocks(blocks: int, depth: int, order: Order) -> tuple[bool, ...]:
    """Return which of the blocks of a stage run at a depth.

    `every_other` drops evenly spaced blocks and keeps the first, as DynaBERT does: with 12 blocks at depth 9, every
    fourth is dropped. SuperServe (NSDI 2025, section 3) gives n mod (L / (L - D)) = 0 for the blocks that are
    *selected*; read so it selects 3 blocks of 12 at depth 9: it names those that are dropped.

    Examples:
        >>> [n for n, active in enumerate(active_blocks(12, 9, "every_other")) if active]
        [0, 1, 2, 4, 5, 6, 8, 9, 10]
        >>> active_blocks(4, 2, "first")
        (True, True, False, False)
    """
    running = set(range(depth)) if order == "first" else {n * blocks // depth for n in range(depth)}
    return tuple(block in running for block in range(blocks))
