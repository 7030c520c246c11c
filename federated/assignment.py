"""Which subnet a party trains in a round, and how much the largest counts: training a supernet over many parties.

After SuperFedNAS (Khare et al., ECCV 2024; first as SuperFed, arXiv 2301.10879). Rules are frozen dataclasses, named by
`kind`; what they remember is a plain mapping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sim.base.errors import SpecError
from sim.base.parameters import Parameters, PositiveInt, Share, check_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from supernet.space import SubnetSpace

_Memory = dict[str, Any]


class Rule(Protocol):
    """Says who trains which subnet."""

    def assign(
        self, parties: Sequence[str], space: SubnetSpace, memory: _Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return the subnet (id) of each party (id) for one round.

        Args:
            parties: Those that were chosen, in the order of the plan.
            space: The subnets.
            memory: Of earlier rounds.
            rng: Decides what is left open.
        """
        ...


@dataclass(frozen=True, slots=True)
class Largest:
    """All train the largest subnet: ordinary federated learning of one network."""

    def assign(
        self, parties: Sequence[str], space: SubnetSpace, memory: _Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return the largest for all."""
        return dict.fromkeys(parties, space.largest.id)


@dataclass(frozen=True, slots=True)
class Static(Parameters):
    """Each party trains the same subnet for ever: so many from the smallest to the largest, dealt out in turn.

    Attributes:
        subnets: How many there are.
    """

    subnets: PositiveInt = 4

    def assign(
        self, parties: Sequence[str], space: SubnetSpace, memory: _Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return what each party has had before; one that is new gets the next in turn."""
        graded = [space.largest] if self.subnets == 1 else space.linspace(self.subnets)
        held: dict[str, str] = memory.setdefault("held", {})
        for party in parties:
            held.setdefault(party, graded[len(held) % len(graded)].id)
        return {party: held[party] for party in parties}


@dataclass(frozen=True, slots=True)
class Random:
    """Each party trains a random subnet."""

    def assign(
        self, parties: Sequence[str], space: SubnetSpace, memory: _Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return a random one for each."""
        return {party: space.sample(rng).id for party in parties}


@dataclass(frozen=True, slots=True)
class Sandwich:
    """One party of a round trains the largest subnet, another the smallest, the others random ones.

    Attributes:
        track: Whether it is the party that has trained the largest (then: the smallest) least often, instead of a
            random one: SuperFedNAS' tracking sandwich.
    """

    track: bool = False

    def assign(
        self, parties: Sequence[str], space: SubnetSpace, memory: _Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return the largest for one, the smallest for another, a random one for each of the others."""
        found: dict[str, str] = {}
        order = [parties[int(number)] for number in rng.permutation(len(parties))]
        for end, subnet in (("largest", space.largest), ("smallest", space.smallest)):
            counts: dict[str, int] = memory.setdefault(end, {})
            left = [party for party in order if party not in found]
            if left:
                chosen = min(left, key=lambda party: counts.get(party, 0)) if self.track else left[0]
                found[chosen] = subnet.id
                counts[chosen] = counts.get(chosen, 0) + 1
        drawn = {party: space.sample(rng).id for party in parties if party not in found}
        return {party: found.get(party) or drawn[party] for party in parties}


@dataclass(frozen=True, slots=True)
class TrackingSandwich(Sandwich):
    """The sandwich in which it is the turn of whoever had it least often (SuperFedNAS, `TS_all_random`)."""

    track: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxNet:
    """The parties that trained the largest subnet get a share of all weight, which falls along a cosine (SuperFedNAS).

    The share of round t is b(t) = first * ((1 - a) * (1 + cos(pi * t / T)) / 2 + a), where a = last / first and T is
    the part `over` of all rounds; from T on it is `last`. The others share 1 - b(t). If nobody or everybody trained the
    largest subnet, nothing changes.

    Attributes:
        first: The share in the first round.
        last: The share in the end.
        over: The part of all rounds in which it falls.
    """

    first: Share = 0.9
    last: Share = 0.125
    over: Share = 0.8

    def __post_init__(self) -> None:
        check_parameters(self)
        if max(self.first, self.last) >= 1:
            value = f"{self.first:g} to {self.last:g}"
            raise SpecError("MaxNet.first", "leaves the others nothing", value, "shares below 1")

    def share(self, done: int, rounds: int) -> float:
        """Return the share of the largest subnet in a round.

        Args:
            done: How many rounds are done.
            rounds: How many there will be.

        Example:
            >>> [round(MaxNet().share(done, 1500), 3) for done in (0, 600, 1200, 1500)]
            [0.9, 0.512, 0.125, 0.125]
        """
        low = self.last / self.first
        way = min(1.0, done / (self.over * rounds))
        return self.first * ((1 - low) * (1 + math.cos(math.pi * way)) / 2 + low)


SHORT_NAMES = {
    "largest": "federated.assignment:Largest",
    "random": "federated.assignment:Random",
    "sandwich": "federated.assignment:Sandwich",
    "static": "federated.assignment:Static",
    "tracking_sandwich": "federated.assignment:TrackingSandwich",
}
"""What short names in YAML stand for."""
