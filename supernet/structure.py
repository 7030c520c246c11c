"""What can be chosen in a network: which blocks may be left out, and which channels can be cut, together with which.

`supernet.discovery` finds the structure of a network, a family's rule turns a control tuple into a `Choice` of it,
and the operators carry the choice out. Layers are named by their paths (`layer1.0.conv1`), as in
`nn.Module.named_modules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from sim.tables.latency import ControlTuple

Side = Literal["in", "out"]
Order = Literal["first", "every_other"]
"""Which blocks of a stage run: the first D, or those that are left when evenly spaced ones are dropped."""


class Channels(NamedTuple):
    """One dimension of a layer's weight: its input or its output channels (of a norm: "out")."""

    path: str
    side: Side


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that can only be cut together, since what leaves the ones enters the others.

    Attributes:
        members: At least one that makes the channels and one that takes them.
        units: In how many equal parts each member can be cut: channels, neurons, or heads of attention.
        block: The block (index) that all members lie in; None where they belong to several, such as a residual stream.
    """

    members: tuple[Channels, ...]
    units: int
    block: int | None


@dataclass(frozen=True, slots=True)
class Stuck:
    """Channels inside of a block that can't be cut.

    Attributes:
        path: The layer that makes them.
        why: What becomes of them.
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Structure:
    """What can be chosen in a network.

    Attributes:
        blocks: The paths of the residual blocks, in order.
        stages: Runs of neighbouring blocks (indices) that can be left out.
        groups: The channels that can be cut.
        stuck: Channels inside of blocks that can't be.
    """

    blocks: tuple[str, ...]
    stages: tuple[tuple[int, ...], ...]
    groups: tuple[Group, ...]
    stuck: tuple[Stuck, ...] = ()

    def choice(self, runs: list[bool], units: list[int]) -> Choice:
        """Return a choice in which equal networks are equal: groups of blocks that do not run have no units."""
        kept = (
            0 if group.block is not None and not runs[group.block] else number
            for group, number in zip(self.groups, units, strict=True)
        )
        return Choice(tuple(runs), tuple(kept))


@dataclass(frozen=True, slots=True)
class Choice:
    """One network out of a structure; two subnets of one choice are the same network.

    Attributes:
        runs: For each block, whether it runs.
        units: For each group, how many of its units are used; 0 where its block does not run.
    """

    runs: tuple[bool, ...]
    units: tuple[int, ...]


class Rule(Protocol):
    """What turns the control tuple of a subnet into a choice."""

    def choose(self, control: ControlTuple) -> Choice:
        """Return the choice that a control tuple of the space stands for."""
        ...


def kept(blocks: int, depth: int, order: Order) -> tuple[bool, ...]:
    """Return which of the blocks of a stage run at a depth.

    `every_other` drops evenly spaced blocks and keeps the first, as DynaBERT does: with 12 blocks at depth 9, every
    fourth is dropped. SuperServe (NSDI 2025, section 3) gives n mod (L / (L - D)) = 0 for the blocks that are
    *selected*; read so it selects 3 blocks of 12 at depth 9: it names those that are dropped.

    Example:
        >>> [n for n, runs in enumerate(kept(12, 9, "every_other")) if runs]
        [0, 1, 2, 4, 5, 6, 8, 9, 10]
        >>> kept(4, 2, "first")
        (True, True, False, False)
    """
    running = set(range(depth)) if order == "first" else {n * blocks // depth for n in range(depth)}
    return tuple(block in running for block in range(blocks))
