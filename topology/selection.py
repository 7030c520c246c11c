"""Selection of peers: of clients for a round of training, of workers for a request.

A selector is a frozen dataclass with `choose`; its fields are its parameters. It knows of its peers what the program
records in `port.peer_stats`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sim.base.parameters import Parameters, PositiveInt

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


class Selector(Protocol):
    """How a role chooses among its peers on a channel."""

    def choose(
        self, peers: tuple[str, ...], stats: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return the chosen peers, in the order of the plan.

        Args:
            peers: The ids of the candidates, in the order of the plan.
            stats: What the program records of each, by id.
            rng: The worker's random numbers.
        """
        ...


@dataclass(frozen=True, slots=True)
class AllPeers:
    """All peers."""

    def choose(
        self, peers: tuple[str, ...], stats: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return all of them."""
        return peers


@dataclass(frozen=True, slots=True)
class RandomPeers(Parameters):
    """A uniform random sample of the peers; all of them if there are fewer.

    Attributes:
        k: The size of the sample.
    """

    k: PositiveInt = 1

    def choose(
        self, peers: tuple[str, ...], stats: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return `k` of them."""
        if self.k >= len(peers):
            return peers
        if self.k == 1:
            return (peers[int(rng.integers(len(peers)))],)
        return tuple(peers[number] for number in sorted(rng.choice(len(peers), self.k, replace=False).tolist()))


@dataclass(frozen=True, slots=True)
class PowerOfTwo(Parameters):
    """The least loaded of two (or more) random peers, by `peer_stats[id]["load"]` (Mitzenmacher 2001).

    Attributes:
        among: How many are drawn at random.
    """

    uses_stats: ClassVar[bool] = True

    among: PositiveInt = 2

    def choose(
        self, peers: tuple[str, ...], stats: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
    ) -> tuple[str, ...]:
        """Return the least loaded of those drawn."""
        drawn = RandomPeers(self.among).choose(peers, stats, rng)
        return (min(drawn, key=lambda peer: stats.get(peer, {}).get("load", 0)),) if drawn else ()


SHORT_NAMES = {
    "all": "topology.selection:AllPeers",
    "power_of_two": "topology.selection:PowerOfTwo",
    "random": "topology.selection:RandomPeers",
}
"""The short names of the shipped selectors."""
