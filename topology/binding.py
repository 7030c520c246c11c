"""Checks programs against the TAG before anything runs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError, did_you_mean
from topology.flaws import Flaw, TagError
from topology.program import Program, program_flaws
from topology.selection import SHORT_NAMES, AllPeers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from topology.selection import Selector
    from topology.tag import Channel, ProgramUse, Tag


@dataclass(frozen=True, slots=True)
class Binding:
    """A role's program, bound to the channels of the role.

    Attributes:
        make: Makes a program from the role's `config`.
        owner: The program's class.
        function_tags: The name of the channel of each of the program's function tags.
        selectors: How the role chooses among its peers, by channel.
    """

    make: Callable[[], Program]
    owner: type[Program]
    function_tags: dict[str, str]
    selectors: dict[str, Selector]

    @property
    def idle_channels(self) -> frozenset[str]:
        """The channels on which the program receives before it sends anything."""
        return frozenset(self.function_tags[tag] for tag in self.owner.receives_first)


def bind(tag: Tag, programs: Mapping[str, Callable[..., Program]]) -> dict[str, Binding]:
    """Return the binding of each role, and of each of its variants as `role/variant`.

    Args:
        tag: Roles and channels.
        programs: The program of each role, and of each variant as `role/variant`: its class, or a factory that takes
            the `config`.

    Raises:
        TagError: A role has no program, or one that does not accept its `config` or breaks the contract of `Program`;
            a function tag is assigned to no channel, or is unknown to the program; a selector is unknown; roles wait
            for each other in a cycle before any of them sends. Lists all flaws, by place.
    """
    flaws: list[Flaw] = []
    bindings = {}
    for use in tag.programs:
        binding = _binding(use, tag, programs, flaws)
        if binding is not None:
            bindings[use.key] = binding
    known = {use.key for use in tag.programs}
    flaws += [Flaw(("roles", name), "unknown role", repr(name)) for name in set(programs) - known]
    if not flaws:
        flaws += _waiting_cycle(tag, bindings)
    if flaws:
        raise TagError("programs", flaws)
    return bindings


def _binding(
    use: ProgramUse, tag: Tag, programs: Mapping[str, Callable[..., Program]], flaws: list[Flaw]
) -> Binding | None:
    place, maker = use.place, programs.get(use.key)
    if maker is None:
        flaws.append(Flaw(place, "no program", use.program, "each role and each variant needs one"))
        return None

    def make() -> Any:
        return maker(**use.config)

    try:
        owner: type[Any] = type(make())
    except (TypeError, ValueError) as error:
        flaws.append(Flaw((*place, "config"), "not accepted by the program", str(error)))
        return None
    if not issubclass(owner, Program):
        flaws.append(Flaw((*place, "program"), "not a subclass of Program", owner.__name__))
        return None
    flaws += program_flaws(owner, (*place, "program"))
    channels = tag.channels_of(use.role)
    function_tags = _function_tags(use, owner, channels, flaws)
    told = flaws if use.key == use.role else []  # selectors are of the role
    selectors = {channel.name: _selector(channel, use.role, told) for channel in channels}
    return Binding(make, owner, function_tags, selectors)


def _function_tags(
    use: ProgramUse, owner: type[Program], channels: tuple[Channel, ...], flaws: list[Flaw]
) -> dict[str, str]:
    assigned: dict[str, str] = {}
    for channel in channels:
        for number, tag in enumerate(channel.verbs.get(use.role, ())):
            assigned[tag] = channel.name
            if tag not in owner.function_tags:
                place = ("channels", channel.name, "verbs", use.role, number)
                hint = did_you_mean(tag, owner.function_tags)
                flaws.append(Flaw(place, f"not a function tag of the program {owner.__name__}", repr(tag), hint))
    for tag in owner.function_tags:
        if tag not in assigned and len(channels) == 1:
            assigned[tag] = channels[0].name
        elif tag not in assigned:
            problem = f"a function tag of {owner.__name__} is assigned to no channel"
            hint = f"add it to channels.*.verbs.{use.role}"
            flaws.append(Flaw(use.place, problem, repr(tag), hint))
    return assigned


def _selector(channel: Channel, role: str, flaws: list[Flaw]) -> Selector:
    select = channel.select.get(role)
    use, params = (select.use, select.params) if select else ("all", {})
    place = ("channels", channel.name, "select", role)
    module, _, name = SHORT_NAMES.get(use, use).partition(":")
    try:
        made: Selector = getattr(importlib.import_module(module), name)(**params)
    except (ImportError, AttributeError, ValueError) as error:
        hint = str(error) if isinstance(error, SpecError) else f"{did_you_mean(use, SHORT_NAMES)}, or module:Class"
        flaws.append(Flaw(place, "unknown selector", repr(use), hint))
    except TypeError as error:
        flaws += _unknown_params((*place, "params"), use, params, getattr(importlib.import_module(module), name), error)
    else:
        return made
    return AllPeers()


def _unknown_params(
    place: tuple[str, ...], use: str, params: Mapping[str, Any], owner: Any, error: TypeError
) -> Iterator[Flaw]:
    known = [field.name for field in fields(owner)] if is_dataclass(owner) else []
    unknown = [key for key in params if key not in known]
    for key in unknown if known else ():
        yield Flaw((*place, key), f"unknown parameter of the selector {use}", "", did_you_mean(key, known))
    if not unknown or not known:
        yield Flaw(place, f"not accepted by the selector {use}", str(error), ", ".join(known))


def _waiting_cycle(tag: Tag, bindings: Mapping[str, Binding]) -> Iterator[Flaw]:
    """Yield a cycle of roles each of which receives from the next before it sends: it would wait for ever.

    A role receives first if its program does, or that of a variant.
    """
    waits: dict[str, dict[str, str]] = {role.name: {} for role in tag.roles}
    for name, binding in ((use.role, bindings[use.key]) for use in tag.programs):
        channels = [tag.channel(binding.function_tags[function_tag]) for function_tag in binding.owner.receives_first]
        waits[name] |= {channel.peer_of(name): channel.name for channel in channels}
    while free := [name for name, peers in waits.items() if not set(peers) & set(waits)]:
        for name in free:  # it waits for no role that waits in a cycle
            del waits[name]
    if waits:
        path = [next(iter(waits))]
        while path[-1] not in path[:-1]:
            path.append(next(peer for peer in waits[path[-1]] if peer in waits))
        cycle = path[path.index(path[-1]) :]
        channel = waits[cycle[0]][cycle[1]]
        problem = "deadlock: each of these roles receives from the next before it sends"
        yield Flaw(("channels", channel, "pair"), problem, " -> ".join(cycle), "one of them must send first")
