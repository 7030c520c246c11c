"""What must hold of a TAG, so that nothing of it can go wrong later without a word.

Flame's controller documents five invariants and checks half of them; the rules here are those and the ones whose
absence lets it start workers that reach nobody.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from sim.base.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from topology.tag import Channel, Role


class Flaw(NamedTuple):
    """One broken rule.

    Attributes:
        place: The path to what breaks it, as in the YAML: keys and list indices.
        what: What is wrong.
        value: The offending value as text, or "".
        right: What would be right, or "".
    """

    place: tuple[str | int, ...]
    what: str
    value: str = ""
    right: str = ""

    def __str__(self) -> str:
        return str(SpecError(".".join(map(str, self.place)), self.what, self.value, self.right))


class TagError(SpecError):
    """A topology breaks its rules: a line for each."""

    def __init__(self, where: str, flaws: Sequence[Flaw]) -> None:
        super().__init__(where, "\n".join(map(str, flaws)))
        self.args = (where, tuple(flaws))
        self.flaws = tuple(flaws)

    def __str__(self) -> str:
        return self.problem


def flaws_of(roles: Sequence[Role], channels: Sequence[Channel]) -> list[Flaw]:
    """Return all rules that roles and channels break, in the order of what they are about."""
    flaws = [*_twice("roles", roles), *_twice("channels", channels)]
    if not roles:
        flaws.append(Flaw(("roles",), "is empty", "", "a topology has at least one role"))
    known = {role.name: role for role in roles}
    for channel in channels:
        flaws += _channel_flaws(channel, known)
    for role in roles:
        flaws += _role_flaws(role, {channel.name: channel for channel in channels if role.name in channel.pair})
    flaws += _verb_flaws(channels)
    if not flaws:
        flaws += _unreachable(roles, channels)
        flaws += _one_sided(roles, channels)
    return flaws


def _twice(kind: str, things: Sequence[Role] | Sequence[Channel]) -> Iterator[Flaw]:
    for name, times in Counter(thing.name for thing in things).items():
        if times > 1:
            yield Flaw((kind, name), "stands more than once", repr(name), "give each a name of its own")


def _channel_flaws(channel: Channel, roles: Mapping[str, Role]) -> Iterator[Flaw]:
    place = ("channels", channel.name)
    for end, name in enumerate(channel.pair):
        if name not in roles:
            yield Flaw((*place, "pair", end), "there is no such role", repr(name), did_you_mean(name, roles))
    if not channel.groups:
        yield Flaw((*place, "groups"), "is empty", "", "leave it out for one group")
    for group, times in Counter(channel.groups).items():
        if times > 1:
            yield Flaw((*place, "groups"), "a group stands twice", repr(group), "keep one")
    lines = channel.link.bandwidth_mbps
    named = {("verbs",): channel.verbs, ("select",): channel.select, ("link", "bandwidth_mbps"): lines}
    for field, by_role in named.items():
        for name in by_role if isinstance(by_role, dict) else ():
            if name not in channel.pair:
                yield Flaw((*place, *field, name), "the role is not on this channel", repr(name), _either(channel.pair))


def _role_flaws(role: Role, channels: Mapping[str, Channel]) -> Iterator[Flaw]:
    place = ("roles", role.name)
    if role.data and role.replicas != 1:
        right = "a role with data has one worker for each of its datasets"
        yield Flaw((*place, "replicas"), "does not go with data", str(role.replicas), right)
    seen = []
    for number, groups in enumerate(role.at):
        here = (*place, "at", number)
        for name, group in groups.items():
            if name not in channels:
                yield Flaw((*here, name), "the role is not on this channel", repr(name), did_you_mean(name, channels))
            elif group not in channels[name].groups:
                right = did_you_mean(group, channels[name].groups)
                yield Flaw((*here, name), "the channel has no such group", repr(group), right)
        for name in channels:
            if name not in groups:
                yield Flaw(here, "names no group for a channel", repr(name), _either(channels[name].groups))
        if groups in seen and role.data:
            yield Flaw(here, "stands twice", "", "data in its groups would belong to both; keep one")
        seen.append(groups)


def _verb_flaws(channels: Sequence[Channel]) -> Iterator[Flaw]:
    """A verb tells a program where to send: it must not mean two channels."""
    meant: dict[tuple[str, str], str] = {}
    for channel in channels:
        for role, verbs in channel.verbs.items():
            for number, verb in enumerate(verbs):
                other = meant.setdefault((role, verb), channel.name)
                if other != channel.name or verbs.index(verb) != number:
                    what = f"the verb of {role!r} stands already on channel {other!r}"
                    yield Flaw(("channels", channel.name, "verbs", role, number), what, repr(verb), "keep one")


def _unreachable(roles: Sequence[Role], channels: Sequence[Channel]) -> Iterator[Flaw]:
    """All roles must hang together: what does not is another topology."""
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
        what = f"no channel leads to it from role {roles[0].name!r}"
        yield Flaw(("roles", name), what, repr(name), "connect it, or give it a file of its own")


def _one_sided(roles: Sequence[Role], channels: Sequence[Channel]) -> Iterator[Flaw]:
    """Each group of each channel must have somebody at both ends."""
    known = {role.name: role for role in roles}
    for channel in channels:
        for number, group in enumerate(channel.groups):
            for name in dict.fromkeys(channel.pair):
                places = known[name].at
                if places and not any(place[channel.name] == group for place in places):
                    what = f"nobody of role {name!r} is in this group"
                    right = (
                        f"name it in the role's 'at', or drop the group; its groups there: {_groups(places, channel)}"
                    )
                    yield Flaw(("channels", channel.name, "groups", number), what, repr(group), right)


def _groups(places: Sequence[Mapping[str, str]], channel: Channel) -> str:
    return ", ".join(dict.fromkeys(place[channel.name] for place in places))


def _either(names: Sequence[str]) -> str:
    return "one of " + ", ".join(dict.fromkeys(names))
