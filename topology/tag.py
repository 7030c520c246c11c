"""The Topology Abstraction Graph: roles and the channels between them, without a word on where and how often they run.

After Flame (Daga et al., "Flame: Simplifying Topology Extension in Federated Learning", SoCC 2023): a TAG says who
speaks with whom about what. `topology.expansion` makes workers of it, an engine runs them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import annotated_types as at

from sim.base.parameters import NonNegative, Parameters, Positive, PositiveInt, check_parameters
from topology.checks import TagError, flaws_of

DEFAULT = "default"
"""The group of a channel that names none, and the compute of a role that names none."""


@dataclass(frozen=True, slots=True)
class Link:
    """What it costs to send over a channel. Engines that carry real messages leave it to the real network.

    Attributes:
        latency_ms: From the last bit sent to the last bit received, in milliseconds.
        bandwidth_mbps: In megabits a second, of each worker's own line into this channel; messages of one sender queue
            for it. One number for all, or one for each role that is named. None is without limit.
        loss: The share of messages that never arrive.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    latency_ms: NonNegative = 0.0
    bandwidth_mbps: Positive | dict[str, Positive] | None = None
    loss: Annotated[float, at.Ge(0), at.Lt(1)] = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.bandwidth_mbps, dict):
            check_parameters(self)
        else:
            for each in self.bandwidth_mbps.values():
                Link(self.latency_ms, each, self.loss)

    def line_mbps(self, role: str) -> float | None:
        """Return the bandwidth of the line of a worker of a role, None if it is without limit."""
        return self.bandwidth_mbps.get(role) if isinstance(self.bandwidth_mbps, dict) else self.bandwidth_mbps


@dataclass(frozen=True, slots=True)
class Select:
    """How a role chooses among its peers on a channel: a selector and its parameters (`topology.selection`)."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    use: str = "all"
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Role(Parameters):
    """A vertex of the TAG: what some workers have in common.

    Attributes:
        name: Unique among the roles.
        program: The short name or `module:Class` of its program; empty if one is given when it runs.
        data: Whether there is one worker for each of the role's datasets (Flame's `isDataConsumer`).
        replicas: How many workers there are for each entry of `at`, unless the role has data (Flame's `replica`).
        at: The groups that a worker sits in: one entry for each kind of place, in each entry one group for each of the
            role's channels (Flame's `groupAssociation`). Empty stands for all combinations of its channels' groups.
        compute: Where its workers run, unless they run where their data is.
        resources: What a worker takes of a machine, by name (`cpu`, `gpu`), for engines that place workers.
        config: Parameters of its program. They belong to the role, not to the job.
        description: For people.
    """

    name: str
    program: str = ""
    data: bool = False
    replicas: PositiveInt = 1
    at: tuple[dict[str, str], ...] = ()
    compute: str = DEFAULT
    resources: dict[str, NonNegative] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Channel:
    """An edge of the TAG: who can send to whom.

    Attributes:
        name: Unique among the channels.
        pair: The roles at its two ends; the same role twice lets a role's workers speak with each other.
        groups: Who is in another group is out of reach (Flame's `groupBy`).
        verbs: Which of a role's verbs act on this channel (Flame's `funcTags`). A role that is on one channel only need
            not say.
        link: What it costs to send.
        select: How a role chooses among its peers here; who is not named takes all.
        backend: The transport that a deployment is to use, as text: our engines carry messages themselves.
        description: For people.
    """

    name: str
    pair: tuple[str, str]
    groups: Annotated[tuple[str, ...], at.MinLen(1)] = (DEFAULT,)
    verbs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    link: Link = field(default_factory=Link)
    select: dict[str, Select] = field(default_factory=dict)
    backend: str = ""
    description: str = ""

    def peer_of(self, role: str) -> str:
        """Return the role at the other end."""
        return self.pair[1] if self.pair[0] == role else self.pair[0]


@dataclass(frozen=True, slots=True)
class Tag:
    """Roles and channels, in the order of their names whatever the order they were given in.

    Attributes:
        roles: The vertices; `at` is written out.
        channels: The edges.

    Raises:
        TagError: A rule of `topology.checks` is broken; tells all that are.

    Example:
        >>> tag = Tag((Role("trainer", data=True), Role("server")), (Channel("param", ("trainer", "server")),))
        >>> tag.role("server").at
        ({'param': 'default'},)
    """

    roles: tuple[Role, ...]
    channels: tuple[Channel, ...] = ()

    def __post_init__(self) -> None:
        flaws = flaws_of(self.roles, self.channels)
        if flaws:
            raise TagError("tag", flaws)
        channels = (_canonical_channel(channel) for channel in self.channels)
        object.__setattr__(self, "channels", tuple(sorted(channels, key=lambda channel: channel.name)))
        roles = (_canonical_role(role, self.channels_of(role.name)) for role in self.roles)
        object.__setattr__(self, "roles", tuple(sorted(roles, key=lambda role: role.name)))

    def role(self, name: str) -> Role:
        """Return the role of a name.

        Raises:
            KeyError: There is none.
        """
        return {role.name: role for role in self.roles}[name]

    def channel(self, name: str) -> Channel:
        """Return the channel of a name.

        Raises:
            KeyError: There is none.
        """
        return {channel.name: channel for channel in self.channels}[name]

    def channels_of(self, role: str) -> tuple[Channel, ...]:
        """Return the channels that a role is on, by name."""
        return tuple(channel for channel in self.channels if role in channel.pair)


def _canonical_channel(channel: Channel) -> Channel:
    verbs = {role: tuple(channel.verbs[role]) for role in sorted(channel.verbs)}
    first, second = channel.pair
    return Channel(
        channel.name,
        (first, second),
        tuple(sorted(channel.groups)),
        verbs,
        channel.link,
        dict(sorted(channel.select.items())),
        channel.backend,
        channel.description,
    )


def _canonical_role(role: Role, channels: tuple[Channel, ...]) -> Role:
    names = [channel.name for channel in channels]
    if role.at:
        places = [{name: place[name] for name in names} for place in role.at]
    else:
        combinations = itertools.product(*(channel.groups for channel in channels))
        places = [dict(zip(names, groups, strict=True)) for groups in combinations]
    ordered = tuple(sorted(places, key=lambda place: tuple(place.values())))
    return Role(
        role.name,
        role.program,
        role.data,
        role.replicas,
        ordered,
        role.compute,
        dict(sorted(role.resources.items())),
        dict(role.config),
        role.description,
    )
