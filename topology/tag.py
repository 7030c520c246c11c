"""The Topology Abstraction Graph (TAG): roles and the channels between them, independent of any deployment.

After Flame (Daga et al., "Flame: Simplifying Topology Extension in Federated Learning", SoCC 2023): a TAG
describes who communicates with whom. `topology.expansion` expands it to workers, an engine runs them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, NamedTuple

import annotated_types as at

from sim.base.parameters import NonNegative, Parameters, Positive, PositiveInt, check_parameters
from topology.checks import flaws_of
from topology.flaws import TagError

DEFAULT = "default"
"""The only group of a channel without `groups`, and the machine of a role without `compute`."""


@dataclass(frozen=True, slots=True)
class Link:
    """The cost of sending over a channel, in virtual time. In real time the real network decides.

    Attributes:
        latency_ms: From the last bit sent to the last bit received, in milliseconds.
        bandwidth_mbps: Of each worker's egress queue into this channel, in megabits per second. One number for all
            roles, or one for each role that is named; None for no limit.
        loss: The fraction of messages that never arrive.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    latency_ms: NonNegative = 0.0
    bandwidth_mbps: Positive | dict[str, Positive] | None = None
    loss: Annotated[float, at.Ge(0), at.Lt(1)] = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.bandwidth_mbps, dict):
            check_parameters(self)
        else:
            for bandwidth_mbps in self.bandwidth_mbps.values():
                Link(self.latency_ms, bandwidth_mbps, self.loss)

    def egress_mbps(self, role: str) -> float | None:
        """Return the bandwidth of the egress queue of a worker of a role; None for no limit."""
        return self.bandwidth_mbps.get(role) if isinstance(self.bandwidth_mbps, dict) else self.bandwidth_mbps


@dataclass(frozen=True, slots=True)
class Select:
    """How a role chooses among its peers on a channel (`topology.selection`).

    Attributes:
        use: The short name or `module:Class` of a selector.
        params: Its parameters, by name.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    use: str = "all"
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variant(Parameters):
    """Another program for some of the workers of a role.

    Attributes:
        program: The `module:Class` of the program; empty if one is passed to the engine.
        share: The share of the role's workers that run it, drawn by the seed.
        datasets: The ids of the datasets whose workers run it, in place of `share`.
        config: The parameters of its program that the role's `config` lacks or gives another value.
    """

    program: str = ""
    share: Annotated[float, at.Ge(0), at.Le(1)] | None = None
    datasets: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Role(Parameters):
    """A vertex of the TAG: workers that run the same program.

    Attributes:
        name: Unique among the roles.
        program: The `module:Class` of its program; empty if one is passed to the engine.
        data: Whether the role consumes data: one worker for each of its datasets (Flame's `isDataConsumer`).
        replicas: The number of workers for each entry of `at`, unless the role consumes data (Flame's `replica`).
        at: The groups of its workers: each entry maps each of the role's channels to a group (Flame's
            `groupAssociation`). Empty for all combinations of its channels' groups.
        compute: The machine of its workers, unless they run where their data is.
        resources: What a worker requires, by name (`cpu`, `gpu`), for engines that place workers.
        config: The parameters of its program.
        variants: Other programs for some of its workers, by name.
        description: For readers.
    """

    name: str
    program: str = ""
    data: bool = False
    replicas: PositiveInt = 1
    at: tuple[dict[str, str], ...] = ()
    compute: str = DEFAULT
    resources: dict[str, NonNegative] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, Variant] = field(default_factory=dict)
    description: str = ""


class ProgramUse(NamedTuple):
    """A program of a role, or of a variant of it.

    Attributes:
        key: The name of the role; of a variant `role/variant`.
        role: The name of the role.
        place: Where a topology file describes it.
        program: Its `module:Class`.
        config: Its parameters.
    """

    key: str
    role: str
    place: tuple[str, ...]
    program: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Channel:
    """An edge of the TAG: two roles whose workers can send to each other.

    Attributes:
        name: Unique among the channels.
        pair: The roles at its two ends; the same role twice connects the workers of a role with each other.
        groups: Workers of different groups cannot reach each other (Flame's `groupBy`).
        verbs: The function tags of each role that refer to this channel (Flame's `funcTags`). May be left out for a
            role with a single channel.
        link: The cost of sending.
        select: How a role chooses among its peers here; by default all of them.
        backend: The transport of a deployment, such as `mqtt`; kept for Flame, not used by the engines here.
        description: For readers.
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
    """Roles and channels, sorted by name.

    Attributes:
        roles: The vertices; `at` is complete.
        channels: The edges.

    Raises:
        TagError: Rules of `topology.checks` are broken; lists all of them.

    Examples:
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
        """Return a role by its name.

        Raises:
            KeyError: Unknown.
        """
        return {role.name: role for role in self.roles}[name]

    def channel(self, name: str) -> Channel:
        """Return a channel by its name.

        Raises:
            KeyError: Unknown.
        """
        return {channel.name: channel for channel in self.channels}[name]

    @property
    def programs(self) -> tuple[ProgramUse, ...]:
        """The programs of all roles and of their variants."""
        uses = []
        for role in self.roles:
            uses.append(ProgramUse(role.name, role.name, ("roles", role.name), role.program, role.config))
            for name, variant in role.variants.items():
                place, config = ("roles", role.name, "variants", name), {**role.config, **variant.config}
                uses.append(ProgramUse(f"{role.name}/{name}", role.name, place, variant.program, config))
        return tuple(uses)

    def channels_of(self, role: str) -> tuple[Channel, ...]:
        """Return the channels of a role, sorted by name."""
        return tuple(channel for channel in self.channels if role in channel.pair)


def _canonical_channel(channel: Channel) -> Channel:
    first, second = channel.pair
    return replace(
        channel,
        pair=(first, second),
        groups=tuple(sorted(channel.groups)),
        verbs={role: tuple(channel.verbs[role]) for role in sorted(channel.verbs)},
        select=dict(sorted(channel.select.items())),
    )


def _canonical_role(role: Role, channels: tuple[Channel, ...]) -> Role:
    names = [channel.name for channel in channels]
    combinations = itertools.product(*(channel.groups for channel in channels))
    entries = role.at or [dict(zip(names, groups, strict=True)) for groups in combinations]
    at = sorted(({name: entry[name] for name in names} for entry in entries), key=lambda entry: tuple(entry.values()))
    resources, variants = dict(sorted(role.resources.items())), dict(sorted(role.variants.items()))
    return replace(role, at=tuple(at), resources=resources, config=dict(role.config), variants=variants)
