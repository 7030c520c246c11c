"""Programs held against the TAG before anything runs: what one of them asks for, the other must offer."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError, did_you_mean
from topology.checks import Flaw, TagError
from topology.program import Program, program_flaws
from topology.selection import SHORT_NAMES, All

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from topology.selection import Selector
    from topology.tag import Channel, Role, Tag


@dataclass(frozen=True, slots=True)
class Binding:
    """A role's program and what its words mean.

    Attributes:
        make: Makes a program, from the role's `config`.
        owner: The program's class.
        verbs: The name of a channel for each of the program's verbs.
        selectors: How the role chooses among its peers, by channel.
    """

    make: Callable[[], Program]
    owner: type[Program]
    verbs: dict[str, str]
    selectors: dict[str, Selector]


def bind(tag: Tag, programs: Mapping[str, Callable[..., Program]]) -> dict[str, Binding]:
    """Return the binding of each role.

    Args:
        tag: Roles and channels.
        programs: The program of each role: its class, or what makes one from the role's `config`.

    Raises:
        TagError: A role has no program, or one that does not take its `config`, has no method for a step, or asks for a
            verb that the TAG does not place; the TAG places a verb that the program does not have; each of some roles
            waits for the next one to begin; a selector is not there. Tells all of it, by place.
    """
    flaws: list[Flaw] = []
    bindings = {}
    for role in tag.roles:
        binding = _binding(role, tag, programs, flaws)
        if binding is not None:
            bindings[role.name] = binding
    flaws += [Flaw(("roles", name), "is no role of the topology", repr(name)) for name in set(programs) - _names(tag)]
    if not flaws:
        flaws += _everybody_waits(tag, bindings)
    if flaws:
        raise TagError("programs", flaws)
    return bindings


def _names(tag: Tag) -> set[str]:
    return {role.name for role in tag.roles}


def _binding(role: Role, tag: Tag, programs: Mapping[str, Callable[..., Program]], flaws: list[Flaw]) -> Binding | None:
    place = ("roles", role.name)
    maker = programs.get(role.name)
    if maker is None:
        flaws.append(Flaw(place, "has no program", role.program, "one for each role"))
        return None

    def make() -> Any:
        return maker(**role.config)

    try:
        owner: type[Any] = type(make())
    except (TypeError, ValueError) as error:
        flaws.append(Flaw((*place, "config"), "does not fit the program", str(error)))
        return None
    if not issubclass(owner, Program):
        flaws.append(Flaw((*place, "program"), "is no Program", owner.__name__, "a class derived from it"))
        return None
    flaws += program_flaws(owner, (*place, "program"))
    channels = tag.channels_of(role.name)
    verbs = _verbs(role, owner, channels, flaws)
    selectors = {channel.name: _selector(channel, role.name, flaws) for channel in channels}
    return Binding(make, owner, verbs, selectors)


def _verbs(role: Role, owner: type[Program], channels: tuple[Channel, ...], flaws: list[Flaw]) -> dict[str, str]:
    placed: dict[str, str] = {}
    for channel in channels:
        for number, verb in enumerate(channel.verbs.get(role.name, ())):
            placed[verb] = channel.name
            if verb not in owner.verbs:
                place = ("channels", channel.name, "verbs", role.name, number)
                right = did_you_mean(verb, owner.verbs)
                flaws.append(Flaw(place, f"the program {owner.__name__} has no such verb", repr(verb), right))
    for verb in owner.verbs:
        if verb not in placed and len(channels) == 1:
            placed[verb] = channels[0].name
        elif verb not in placed:
            what = f"{owner.__name__} asks for a verb that is on none of the role's channels"
            flaws.append(Flaw(("roles", role.name), what, repr(verb), f"place it under channels.*.verbs.{role.name}"))
    return placed


def _selector(channel: Channel, role: str, flaws: list[Flaw]) -> Selector:
    select = channel.select.get(role)
    use, params = (select.use, select.params) if select else ("all", {})
    place = ("channels", channel.name, "select", role)
    module, _, name = SHORT_NAMES.get(use, use).partition(":")
    try:
        made: Selector = getattr(importlib.import_module(module), name)(**params)
    except (ImportError, AttributeError, ValueError) as error:
        right = str(error) if isinstance(error, SpecError) else f"{did_you_mean(use, SHORT_NAMES)}, or module:Class"
        flaws.append(Flaw(place, "there is no such selector", repr(use), right))
    except TypeError as error:
        flaws.append(Flaw((*place, "params"), f"do not fit the selector {use}", str(error)))
    else:
        return made
    return All()


def _everybody_waits(tag: Tag, bindings: Mapping[str, Binding]) -> Iterator[Flaw]:
    """Somebody must begin: a cycle of roles of which each first waits for the next would wait for ever."""
    waits: dict[str, dict[str, str]] = {}
    for name, binding in bindings.items():
        channels = {verb: tag.channel(binding.verbs[verb]) for verb in binding.owner.awaits}
        waits[name] = {channel.peer_of(name): channel.name for channel in channels.values()}
    while free := [name for name, others in waits.items() if not set(others) & set(waits)]:
        for name in free:  # it does not wait for anybody who waits in a cycle
            del waits[name]
    if waits:
        path = [next(iter(waits))]
        while path[-1] not in path[:-1]:
            path.append(next(other for other in waits[path[-1]] if other in waits))
        cycle = path[path.index(path[-1]) :]
        channel = waits[cycle[0]][cycle[1]]
        what = "nobody begins: each of these roles first waits for the next"
        yield Flaw(("channels", channel, "pair"), what, " -> ".join(cycle), "one of them must send first")
