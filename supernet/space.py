"""Subnets and the space they are drawn from: control tuples, their names, and what a search does with them."""

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

MOST_ENUMERATED = 1_000_000
"""As many subnets as a space may have to be enumerated."""

_EXAMPLE = "such as ofa_resnet50:d0,2x4:e0.35x18:w1,2x5"
_FAMILY = r"[^:\s]+"
_PARTS = ("depths", "expands", "widths")
_ID = re.compile(rf"(?P<family>{_FAMILY})(?=:)" + "".join(rf"(:{part[0]}(?P<{part}>[^:\s]+))?" for part in _PARTS))
_SHORTEST_RUN, _LONGEST_RUN = 3, 9999


@dataclass(frozen=True, slots=True)
class SubNet:
    """One subnet of a supernet.

    Attributes:
        family: The supernet that it is of.
        control: The control tuple that names it: SuperServe (NSDI 2025), section 3.
        id: Family and control tuple as text that `parse` reads back; good as the id of a row in a `LatencyTable`.

    Raises:
        SpecError: A depth or a width is no whole number, or an expand ratio no number; or there are none at all.

    Example:
        >>> subnet = SubNet("net", ControlTuple((0, 2), (0.2, 0.35, 0.35, 0.35), (1,)))
        >>> subnet.id
        'net:d0,2:e0.2,0.35x3:w1'
        >>> SubNet.parse(subnet.id) == subnet
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
        """Return one part of the control tuple in Python's own numbers, since 2 and 2.0 would make two ids."""
        values = getattr(self.control, name)
        try:
            return tuple(map(kind, values))
        except (TypeError, ValueError):
            right = "numbers" if kind is float else "whole numbers"
            raise SpecError(f"{self.family}, {name}", f"are not all {right}", repr(values), right) from None

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    @classmethod
    def parse(cls, text: str) -> SubNet:
        """Return the subnet that an id names.

        Raises:
            SpecError: The text is no id.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise SpecError("subnet", "is no id", repr(text), _EXAMPLE)
        try:
            parts = [_read(match[name] or "", float if name == "expands" else int) for name in _PARTS]
        except ValueError:
            raise SpecError("subnet", "is no id", repr(text), _EXAMPLE) from None
        return cls(match["family"], ControlTuple(*parts))


@dataclass(frozen=True, slots=True)
class SubNetSpace:
    """All subnets of a supernet: what each entry of the control tuple may be.

    Attributes:
        family: The name that ids begin with.
        depths: The choices for each entry of `ControlTuple.depths`, the smallest first.
        expands: The same for `ControlTuple.expands`.
        widths: The same for `ControlTuple.widths`.

    Raises:
        SpecError: There is no entry, or one has no choice, or its choices are not in order; or the name has a colon or
            a blank in it.

    Example:
        >>> space = SubNetSpace("net", depths=((1, 2),), expands=((0.5, 1.0),) * 2, widths=())
        >>> space.size, space.smallest.id, space.largest.id
        (8, 'net:d1:e0.5,0.5', 'net:d2:e1.0,1.0')
        >>> space.find("net:d3:e0.5,0.5")
        Traceback (most recent call last):
        sim.base.errors.SpecError: net, depths[0]: is no choice (3); one of 1, 2
    """

    family: str
    depths: tuple[tuple[int, ...], ...]
    expands: tuple[tuple[float, ...], ...]
    widths: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(_FAMILY, self.family):
            raise SpecError("space", "the name can't begin an id", repr(self.family), "no colon and no blank")
        if not self._entries:
            raise SpecError(self.family, "has no entries to choose", hint="a depth, an expand ratio or a width")
        for name in _PARTS:
            for index, choices in enumerate(getattr(self, name)):
                if not choices or list(choices) != sorted(set(choices)):
                    where = f"{self.family}, {name}[{index}]"
                    raise SpecError(where, "has no choices in order", repr(choices), "the smallest first, each once")

    @property
    def size(self) -> int:
        """How many control tuples there are; several may stand for one network, where they differ in unused blocks."""
        return math.prod(map(len, self._entries))

    @property
    def smallest(self) -> SubNet:
        """The subnet with the first choice of each entry."""
        return self._subnet(choices[0] for choices in self._entries)

    @property
    def largest(self) -> SubNet:
        """The subnet with the last choice of each entry."""
        return self._subnet(choices[-1] for choices in self._entries)

    def find(self, subnet: SubNet | str) -> SubNet:
        """Return a subnet of this space, given itself or its id.

        Raises:
            SpecError: The text is no id, or the subnet is not of this space; names the entry and its value.
        """
        found = SubNet.parse(subnet) if isinstance(subnet, str) else subnet
        if found.family != self.family:
            raise SpecError(f"subnet {found.id}", "is of another supernet", found.family, self.family)
        for name in _PARTS:
            values, choices = getattr(found.control, name), getattr(self, name)
            if len(values) != len(choices):
                what, right = "has the wrong length", f"{len(choices)} entries"
                raise SpecError(f"{self.family}, {name}", what, f"{len(values)}: {_listed(values) or 'none'}", right)
            for index, (value, allowed) in enumerate(zip(values, choices, strict=True)):
                if value not in allowed:
                    right = f"one of {', '.join(map(str, allowed))}"
                    raise SpecError(f"{self.family}, {name}[{index}]", "is no choice", str(value), right)
        return found

    def __contains__(self, subnet: SubNet) -> bool:
        try:
            self.find(subnet)
        except SpecError:
            return False
        return True

    def enumerate(self) -> Iterator[SubNet]:
        """Return all subnets, the smallest first.

        Raises:
            SpecError: There are more than `MOST_ENUMERATED`.
        """
        if self.size > MOST_ENUMERATED:
            raise SpecError(self.family, "has too many subnets to enumerate", f"{self.size:.3g}", "sample them")
        return map(self._subnet, itertools.product(*self._entries))

    def sample(self, rng: np.random.Generator) -> SubNet:
        """Return a subnet, each entry uniform over its choices."""
        return self._subnet(choices[pick] for choices, pick in zip(self._entries, self._picks(rng), strict=True))

    def graded(self, rng: np.random.Generator) -> SubNet:
        """Return a subnet whose entries are about equally far up, from the smallest to the largest alike.

        Of subnets whose entries are drawn one by one, as `sample` does, hardly any is small or large.
        """
        share = rng.random()
        return self._subnet(choices[rng.binomial(len(choices) - 1, share)] for choices in self._entries)

    def evenly(self, count: int) -> list[SubNet]:
        """Return so many subnets from the smallest to the largest, in each of which all entries are equally far up.

        Depths, ratios and widths go up together: CompOFA (Sahni et al., ICLR 2021). Fewer, if some are equal.

        Args:
            count: How many, 2 or more.

        Example:
            >>> space = SubNetSpace("net", depths=((1, 2, 3),), expands=((0.5, 1.0),), widths=())
            >>> [subnet.id for subnet in space.evenly(3)]
            ['net:d1:e0.5', 'net:d2:e0.5', 'net:d3:e1.0']
        """
        shares = [number / (count - 1) for number in range(count)]
        found = (self._subnet(c[round(share * (len(c) - 1))] for c in self._entries) for share in shares)
        return list(dict.fromkeys(found))

    def mutate(self, subnet: SubNet, rng: np.random.Generator, rate: float) -> SubNet:
        """Return a subnet in which each entry has been drawn again with a probability of `rate`, one at the least.

        Raises:
            SpecError: The subnet is not of this space.
        """
        values, entries = _flat(self.find(subnet).control), self._entries
        redrawn = rng.random(len(entries)) < rate
        open_entries = [index for index, choices in enumerate(entries) if len(choices) > 1]
        if open_entries and not redrawn[open_entries].any():
            redrawn[rng.choice(open_entries)] = True
        for index in filter(redrawn.__getitem__, open_entries):
            others = [choice for choice in entries[index] if choice != values[index]]
            values[index] = others[int(rng.integers(len(others)))]
        return self._subnet(values)

    def crossover(self, one: SubNet, other: SubNet, rng: np.random.Generator) -> SubNet:
        """Return a subnet whose every entry is that of one of the two, each as likely.

        Raises:
            SpecError: One of them is not of this space.
        """
        parents = _flat(self.find(one).control), _flat(self.find(other).control)
        sides = rng.integers(2, size=len(self._entries))
        return self._subnet(parents[side][index] for index, side in enumerate(sides))

    @property
    def _entries(self) -> tuple[tuple[Any, ...], ...]:
        return (*self.depths, *self.expands, *self.widths)

    def _picks(self, rng: np.random.Generator) -> list[int]:
        picks: list[int] = rng.integers([len(choices) for choices in self._entries]).tolist()
        return picks

    def _subnet(self, values: Iterable[Any]) -> SubNet:
        """Return the subnet of the values of all entries."""
        rest = iter(values)
        parts = (tuple(itertools.islice(rest, len(getattr(self, name)))) for name in _PARTS)
        return SubNet(self.family, ControlTuple(*parts))


def _flat(control: ControlTuple) -> list[Any]:
    return [*control.depths, *control.expands, *control.widths]


def _listed(values: Sequence[Any]) -> str:
    """Return numbers as text, with three or more equal ones in a row written once and counted.

    Example:
        >>> _listed((0, 0, 1, 1, 1))
        '0,0,1x3'
    """
    runs = [(value, len(list(run))) for value, run in itertools.groupby(values)]
    texts = (f"{value}x{count}" if count >= _SHORTEST_RUN else ",".join([str(value)] * count) for value, count in runs)
    return ",".join(texts)


def _read(text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """Return the numbers that `_listed` wrote.

    Raises:
        ValueError: It did not write this.
    """
    values: list[Any] = []
    for part in text.split(",") if text else ():
        value, _, count = part.partition("x")
        if not 1 <= int(count or 1) <= _LONGEST_RUN:
            raise ValueError(count)
        values += [kind(value)] * int(count or 1)
    return tuple(values)
