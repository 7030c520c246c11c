"""Subnets and their space: control tuples, their ids, sampling, mutation and crossover."""

from __future__ import annotations

import itertools
import math
import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError
from sim.tables.latency import ControlTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np

MAX_ENUMERATED = 1_000_000
"""The size of the largest space that can be enumerated."""

_HINT = "an id such as ofa_resnet50:d0,2x4:e0.35x18:w1,2x5"
_FAMILY = r"[^:\s]+"
_PARTS = ("depths", "expands", "widths")
_ID = re.compile(rf"(?P<family>{_FAMILY})(?=:)" + "".join(rf"(:{part[0]}(?P<{part}>[^:\s]+))?" for part in _PARTS))
_SHORTEST_RUN, _LONGEST_RUN = 3, 9999


@dataclass(frozen=True, slots=True)
class SubnetConfig:
    """One subnet of a supernet.

    Attributes:
        family: The name of its supernet's family.
        control: Its control tuple: SuperServe (NSDI 2025), section 3.
        id: Family and control tuple as text that `parse` reads; used as the id of a row in a `LatencyTable`.

    Raises:
        SpecError: A depth or width is not a whole number, an expand ratio not a number, or the control tuple is empty.

    Examples:
        >>> subnet = SubnetConfig("net", ControlTuple((0, 2), (0.2, 0.35, 0.35, 0.35), (1,)))
        >>> subnet.id
        'net:d0,2:e0.2,0.35x3:w1'
        >>> SubnetConfig.parse(subnet.id) == subnet
        True
    """

    family: str
    control: ControlTuple
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        kinds: dict[str, Callable[[Any], Any]] = {"depths": operator.index, "expands": float, "widths": operator.index}
        parts = {name: self._plain(name, kind) for name, kind in kinds.items()}
        if not any(parts.values()):
            raise SpecError(f"{self.family}, control tuple", "is empty", hint="a depth, an expand ratio or a width")
        object.__setattr__(self, "control", ControlTuple(**parts))
        texts = (f"{name[0]}{_listed(values)}" for name, values in parts.items() if values)
        object.__setattr__(self, "id", ":".join((self.family, *texts)))

    def _plain(self, name: str, kind: Callable[[Any], Any]) -> tuple[Any, ...]:
        """Return one part of the control tuple in Python's numbers, since 2 and 2.0 would give two ids."""
        values = getattr(self.control, name)
        try:
            return tuple(map(kind, values))
        except (TypeError, ValueError):
            hint = "numbers" if kind is float else "whole numbers"
            raise SpecError(f"{self.family}, {name}", "invalid values", repr(values), hint) from None

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    @classmethod
    def parse(cls, text: str) -> SubnetConfig:
        """Return the subnet of an id.

        Raises:
            SpecError: The text is not a subnet id.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise SpecError("subnet", "invalid subnet id", repr(text), _HINT)
        try:
            parts = [_read(match[name] or "", float if name == "expands" else int) for name in _PARTS]
        except ValueError:
            raise SpecError("subnet", "invalid subnet id", repr(text), _HINT) from None
        return cls(match["family"], ControlTuple(*parts))


@dataclass(frozen=True, slots=True)
class SubnetSpace:
    """All subnets of a supernet: the choices for each entry of the control tuple.

    Attributes:
        family: The name that ids begin with.
        depths: The choices for each entry of `ControlTuple.depths`, the smallest first.
        expands: The same for `ControlTuple.expands`.
        widths: The same for `ControlTuple.widths`.

    Raises:
        SpecError: There is no entry, or its choices are missing or not in order; or the family name contains a colon or
            a space.

    Examples:
        >>> space = SubnetSpace("net", depths=((1, 2),), expands=((0.5, 1.0),) * 2, widths=())
        >>> space.size, space.smallest.id, space.largest.id
        (8, 'net:d1:e0.5,0.5', 'net:d2:e1.0,1.0')
        >>> space.find("net:d3:e0.5,0.5")
        Traceback (most recent call last):
        sim.base.errors.SpecError: net, depths[0]: not a choice (3); one of 1, 2
    """

    family: str
    depths: tuple[tuple[int, ...], ...]
    expands: tuple[tuple[float, ...], ...]
    widths: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(_FAMILY, self.family):
            raise SpecError("space", "invalid family name", repr(self.family), "a name without colons and spaces")
        if not self._entries:
            raise SpecError(self.family, "no entries", hint="a depth, an expand ratio or a width")
        for name in _PARTS:
            for index, choices in enumerate(getattr(self, name)):
                if not choices or list(choices) != sorted(set(choices)):
                    where = f"{self.family}, {name}[{index}]"
                    raise SpecError(where, "choices are not in order", repr(choices), "the smallest first, each once")

    @property
    def size(self) -> int:
        """The number of control tuples; those that differ only in inactive blocks are the same network."""
        return math.prod(map(len, self._entries))

    @property
    def smallest(self) -> SubnetConfig:
        """The subnet with the first choice of each entry."""
        return self._subnet(choices[0] for choices in self._entries)

    @property
    def largest(self) -> SubnetConfig:
        """The subnet with the last choice of each entry."""
        return self._subnet(choices[-1] for choices in self._entries)

    def find(self, subnet: SubnetConfig | str) -> SubnetConfig:
        """Return a subnet of this space, given the subnet or its id.

        Raises:
            SpecError: The id is invalid, or the subnet is not in this space; names the entry and its value.
        """
        config = SubnetConfig.parse(subnet) if isinstance(subnet, str) else subnet
        if config.family != self.family:
            raise SpecError(f"subnet {config.id}", "belongs to another family", config.family, self.family)
        for name in _PARTS:
            values, choices = getattr(config.control, name), getattr(self, name)
            if len(values) != len(choices):
                value, hint = f"{len(values)}: {_listed(values) or 'none'}", f"{len(choices)} entries"
                raise SpecError(f"{self.family}, {name}", "wrong length", value, hint)
            for index, (value, allowed) in enumerate(zip(values, choices, strict=True)):
                if value not in allowed:
                    hint = f"one of {', '.join(map(str, allowed))}"
                    raise SpecError(f"{self.family}, {name}[{index}]", "not a choice", str(value), hint)
        return config

    def __contains__(self, subnet: SubnetConfig) -> bool:
        try:
            self.find(subnet)
        except SpecError:
            return False
        return True

    def enumerate(self) -> Iterator[SubnetConfig]:
        """Return all subnets, the smallest first.

        Raises:
            SpecError: There are more than `MAX_ENUMERATED`.
        """
        if self.size > MAX_ENUMERATED:
            raise SpecError(self.family, "too many subnets to enumerate", f"{self.size:.3g}", "sample them")
        return map(self._subnet, itertools.product(*self._entries))

    def sample(self, rng: np.random.Generator) -> SubnetConfig:
        """Return a subnet, each entry uniform over its choices."""
        return self._subnet(choices[pick] for choices, pick in zip(self._entries, self._picks(rng), strict=True))

    def sample_stratified(self, rng: np.random.Generator) -> SubnetConfig:
        """Return a subnet of a stratified sample: sizes from the smallest to the largest are equally likely.

        A share is drawn first, and all entries are then drawn around it. Of subnets whose entries are drawn
        independently, as `sample` does, hardly any is small or large.
        """
        share = rng.random()
        return self._subnet(choices[rng.binomial(len(choices) - 1, share)] for choices in self._entries)

    def linspace(self, count: int) -> list[SubnetConfig]:
        """Return evenly spaced subnets from the smallest to the largest, without duplicates.

        Depths, ratios and widths grow together: CompOFA (Sahni et al., ICLR 2021).

        Args:
            count: The number of subnets, 2 or more; fewer come back if some are equal.

        Examples:
            >>> space = SubnetSpace("net", depths=((1, 2, 3),), expands=((0.5, 1.0),), widths=())
            >>> [subnet.id for subnet in space.linspace(3)]
            ['net:d1:e0.5', 'net:d2:e0.5', 'net:d3:e1.0']
        """
        shares = [number / (count - 1) for number in range(count)]
        subnets = (self._subnet(c[round(share * (len(c) - 1))] for c in self._entries) for share in shares)
        return list(dict.fromkeys(subnets))

    def mutate(self, subnet: SubnetConfig, rng: np.random.Generator, rate: float) -> SubnetConfig:
        """Return a subnet in which each entry is redrawn with probability `rate`, and at least one is.

        Raises:
            SpecError: The subnet is not in this space.
        """
        values, entries = _flat(self.find(subnet).control), self._entries
        redrawn = rng.random(len(entries)) < rate
        open_entries = [index for index, choices in enumerate(entries) if len(choices) > 1]
        if open_entries and not redrawn[open_entries].any():
            redrawn[rng.choice(open_entries)] = True
        for index in filter(redrawn.__getitem__, open_entries):
            alternatives = [choice for choice in entries[index] if choice != values[index]]
            values[index] = alternatives[int(rng.integers(len(alternatives)))]
        return self._subnet(values)

    def crossover(self, first: SubnetConfig, second: SubnetConfig, rng: np.random.Generator) -> SubnetConfig:
        """Return a subnet whose every entry is that of either parent, each equally likely.

        Raises:
            SpecError: A parent is not in this space.
        """
        parents = _flat(self.find(first).control), _flat(self.find(second).control)
        sides = rng.integers(2, size=len(self._entries))
        return self._subnet(parents[side][index] for index, side in enumerate(sides))

    @property
    def _entries(self) -> tuple[tuple[Any, ...], ...]:
        return (*self.depths, *self.expands, *self.widths)

    def _picks(self, rng: np.random.Generator) -> list[int]:
        picks: list[int] = rng.integers([len(choices) for choices in self._entries]).tolist()
        return picks

    def _subnet(self, values: Iterable[Any]) -> SubnetConfig:
        """Return the subnet with these values of all entries."""
        remaining = iter(values)
        parts = (tuple(itertools.islice(remaining, len(getattr(self, name)))) for name in _PARTS)
        return SubnetConfig(self.family, ControlTuple(*parts))


def _flat(control: ControlTuple) -> list[Any]:
    return [*control.depths, *control.expands, *control.widths]


def _listed(values: Sequence[Any]) -> str:
    """Return numbers as text; three or more equal ones in a row are written once, with their count.

    Examples:
        >>> _listed((0, 0, 1, 1, 1))
        '0,0,1x3'
    """
    runs = [(value, len(list(run))) for value, run in itertools.groupby(values)]
    texts = (f"{value}x{count}" if count >= _SHORTEST_RUN else ",".join([str(value)] * count) for value, count in runs)
    return ",".join(texts)


def _read(text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """Return the numbers in a text of `_listed`.

    Raises:
        ValueError: The text has another form.
    """
    values: list[Any] = []
    for part in text.split(",") if text else ():
        value, _, count = part.partition("x")
        if not 1 <= int(count or 1) <= _LONGEST_RUN:
            raise ValueError(count)
        values += [kind(value)] * int(count or 1)
    return tuple(values)
