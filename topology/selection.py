"""Choosing among peers: of clients for a round of training, of workers for a request. One protocol for both.

A selector is a frozen dataclass with `choose`; its fields are its parameters. What it knows of peers are the notes that
the program keeps in `port.notes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sim.base.parameters import Parameters, PositiveInt

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


class Selector(Protocol):
    """How a role chooses among its peers on a channel."""

    def choose(
        self, peers: tuple[str, ...], notes: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return the chosen ones, in the order of the peers.

        Args:
            peers: Ids of all that are there, in the order of the plan.
            notes: What the program noted of each, by id.
            rng: The worker's own random numbers.
        """
        ...


@dataclass(frozen=True, slots=True)
class All:
    """All that are there."""

    def choose(
        self, peers: tuple[str, ...], notes: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return all of them."""
        return peers


@dataclass(frozen=True, slots=True)
class Random(Parameters):
    """So many of them at random, each as likely as the other; all, if there are fewer.

    Attributes:
        k: How many.
    """

    k: PositiveInt = 1

    def choose(
        self, peers: tuple[str, ...], notes: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return `k` of them."""
        if self.k >= len(peers):
            return peers
        if self.k == 1:
            return (peers[int(rng.integers(len(peers)))],)
        return tuple(peers[number] for number in sorted(rng.choice(len(peers), self.k, replace=False).tolist()))


@dataclass(frozen=True, slots=True)
class PowerOfTwo(Parameters):
    """Of two (or more) taken at random, the one with the smallest note `load` (Mitzenmacher 2001).

    Attributes:
        among: How many are taken at random.
    """

    among: PositiveInt = 2

    def choose(
        self, peers: tuple[str, ...], notes: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return the least loaded of those drawn."""
        drawn = Random(self.among).choose(peers, notes, rng)
        return (min(drawn, key=lambda peer: notes.get(peer, {}).get("load", 0)),) if drawn else ()


SHORT_NAMES = {
    "all": "topology.selection:All",
    "power_of_two": "topology.selection:PowerOfTwo",
    "random": "topology.selection:Random",
}
"""What a topology file may call the selectors that come with this room."""
