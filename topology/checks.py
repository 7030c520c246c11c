"""The rules of a TAG.

Flame's controller documents five invariants and checks half of them; the rules here are those and the ones whose
absence lets it start workers without peers.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sim.base.errors import did_you_mean
from topology.flaws import Flaw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from topology.tag import Channel, Role


def flaws_of(roles: Sequence[Role], channels: Sequence[Channel]) -> list[Flaw]:
    """Return all broken rules of roles and channels."""
    flaws = [*_duplicates("roles", roles), *_duplicates("channels", channels)]
    if not roles:
        flaws.append(Flaw(("roles",), "must not be empty", "", "add at least one role"))
    known = {role.name: role for role in roles}
    for channel in channels:
        flaws += _channel_flaws(channel, known)
    for role in roles:
        flaws += _role_flaws(role, {channel.name: channel for channel in channels if role.name in channel.pair})
    flaws += _function_tag_flaws(channels)
    if not flaws:
        flaws += _unreachable(roles, channels)
        flaws += _one_sided(roles, channels)
    return flaws


def _duplicates(section: str, items: Sequence[Role] | Sequence[Channel]) -> Iterator[Flaw]:
    for name, count in Counter(item.name for item in items).items():
        if count > 1:
            yield Flaw((section, name), "duplicate name", repr(name), "names must be unique")


def _channel_flaws(channel: Channel, roles: Mapping[str, Role]) -> Iterator[Flaw]:
    place = ("channels", channel.name)
    for end, name in enumerate(channel.pair):
        if name not in roles:
            yield Flaw((*place, "pair", end), "unknown role", repr(name), did_you_mean(name, roles))
    if not channel.groups:
        yield Flaw((*place, "groups"), "must not be empty", "", "leave it out for a single group")
    for group, count in Counter(channel.groups).items():
        if count > 1:
            yield Flaw((*place, "groups"), "duplicate group", repr(group), "keep one")
    bandwidth = channel.link.bandwidth_mbps
    by_roles = {("verbs",): channel.verbs, ("select",): channel.select, ("link", "bandwidth_mbps"): bandwidth}
    for field, by_role in by_roles.items():
        for name in by_role if isinstance(by_role, dict) else ():
            if name not in channel.pair:
                yield Flaw((*place, *field, name), "not a role of this channel", repr(name), _one_of(channel.pair))


def _role_flaws(role: Role, channels: Mapping[str, Channel]) -> Iterator[Flaw]:
    place = ("roles", role.name)
    if role.data and role.replicas != 1:
        hint = "a role with data has one worker for each of its datasets"
        yield Flaw((*place, "replicas"), "cannot be combined with data", str(role.replicas), hint)
    if role.data and role.compute != "default":
        hint = "its workers run where their datasets are: set compute there"
        yield Flaw((*place, "compute"), "cannot be combined with data", repr(role.compute), hint)
    yield from _variant_flaws(role, (*place, "variants"))
    seen = []
    for number, groups in enumerate(role.at):
        entry = (*place, "at", number)
        for name, group in groups.items():
            if name not in channels:
                yield Flaw((*entry, name), "not a channel of this role", repr(name), did_you_mean(name, channels))
            elif group not in channels[name].groups:
                hint = did_you_mean(group, channels[name].groups)
                yield Flaw((*entry, name), "unknown group of the channel", repr(group), hint)
        for name in channels:
            if name not in groups:
                yield Flaw(entry, "no group for a channel", repr(name), _one_of(channels[name].groups))
        if groups in seen and role.data:
            yield Flaw(entry, "duplicate entry", "", "datasets of its groups would fit both; keep one")
        seen.append(groups)


def _variant_flaws(role: Role, place: tuple[str, ...]) -> Iterator[Flaw]:
    """It must be clear which of the role's workers run a variant."""
    first: dict[str, str] = {}
    for name, variant in sorted(role.variants.items()):
        if (variant.share is None) == (not variant.datasets):
            value = "both" if variant.datasets else "neither"
            yield Flaw((*place, name), "needs either share or datasets", value, "share: 0.2")
        if variant.datasets and not role.data:
            yield Flaw((*place, name, "datasets"), "the role consumes no data", repr(role.name), "use share")
        for number, id_ in enumerate(variant.datasets):
            if id_ in first:
                problem = f"already a dataset of the variant {first[id_]!r}"
                yield Flaw((*place, name, "datasets", number), problem, repr(id_), "keep one")
            first[id_] = name
    total = sum(variant.share or 0 for variant in role.variants.values())
    if total > 1 + 1e-9:
        yield Flaw(place, "the shares sum to more than 1", f"{total:g}", "smaller shares")


def _function_tag_flaws(channels: Sequence[Channel]) -> Iterator[Flaw]:
    """A function tag refers to a single channel."""
    assigned: dict[tuple[str, str], str] = {}
    for channel in channels:
        for role, tags in channel.verbs.items():
            for number, tag in enumerate(tags):
                first = assigned.setdefault((role, tag), channel.name)
                if first != channel.name or tags.index(tag) != number:
                    problem = f"already a function tag of {role!r} on channel {first!r}"
                    yield Flaw(("channels", channel.name, "verbs", role, number), problem, repr(tag), "keep one")


def _unreachable(roles: Sequence[Role], channels: Sequence[Channel]) -> Iterator[Flaw]:
    """All roles must be connected."""
    reached = {roles[0].name}
    waiting = [roles[0].name]
    while waiting:
        role = waiting.pop()
        for channel in channels:
            if role in channel.pair:
                new = set(channel.pair) - reached
                reached |= new
                waiting += new
    for name in (role.name for role in roles if role.name not in reached):
        problem = f"not connected with role {roles[0].name!r}"
        yield Flaw(("roles", name), problem, repr(name), "add a channel, or move it to another topology")


def _one_sided(roles: Sequence[Role], channels: Sequence[Channel]) -> Iterator[Flaw]:
    """Each group of each channel must have workers at both ends."""
    known = {role.name: role for role in roles}
    for channel in channels:
        for number, group in enumerate(channel.groups):
            for name in dict.fromkeys(channel.pair):
                places = known[name].at
                if places and not any(place[channel.name] == group for place in places):
                    problem = f"role {name!r} has no workers in this group"
                    hint = f"add it to the role's 'at' (now {_groups(places, channel)}), or remove the group"
                    yield Flaw(("channels", channel.name, "groups", number), problem, repr(group), hint)


def _groups(places: Sequence[Mapping[str, str]], channel: Channel) -> str:
    return ", ".join(dict.fromkeys(place[channel.name] for place in places))


def _one_of(names: Sequence[str]) -> str:
    return "one of " + ", ".join(dict.fromkeys(names))
