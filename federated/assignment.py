"""The subnet that each client trains in a round, and the weight of the largest subnet in the mean.

After SuperFedNAS (Khare et al., ECCV 2024; first as SuperFed, arXiv 2301.10879). Assignments are frozen dataclasses,
selected by `kind`; they keep their state in a plain mapping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sim.base.errors import SpecError
from sim.base.parameters import Parameters, PositiveInt, Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from federated.state import Memory
    from supernet.space import SubnetSpace


class SubnetAssignment(Protocol):
    """Assigns subnets to clients."""

    def assign(
        self, clients: Sequence[str], space: SubnetSpace, memory: Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return the subnet id of each client for one round, by client id.

        Args:
            clients: Selected clients, in the order of the plan.
            space: The space of subnets.
            memory: State from earlier rounds; may be changed.
            rng: Source of random choices.
        """
        ...


@dataclass(frozen=True)
class LargestAssignment:
    """All clients train the largest subnet: ordinary federated learning of one network."""

    def assign(
        self, clients: Sequence[str], space: SubnetSpace, memory: Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return the largest subnet for all clients."""
        return dict.fromkeys(clients, space.largest.id)


@dataclass(frozen=True)
class StaticAssignment(Parameters):
    """Each client trains the same subnet in all rounds, one of several from the smallest to the largest, in turn.

    Attributes:
        subnets: Number of different subnets.
    """

    subnets: PositiveInt = 4

    def assign(
        self, clients: Sequence[str], space: SubnetSpace, memory: Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return each client's subnet of earlier rounds; new clients get the next subnet in turn."""
        choices = [space.largest] if self.subnets == 1 else space.linspace(self.subnets)
        assigned: dict[str, str] = memory.setdefault("assigned", {})
        for client in clients:
            assigned.setdefault(client, choices[len(assigned) % len(choices)].id)
        return {client: assigned[client] for client in clients}


@dataclass(frozen=True)
class RandomAssignment:
    """Each client trains a random subnet."""

    def assign(
        self, clients: Sequence[str], space: SubnetSpace, memory: Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return a random subnet for each client."""
        return {client: space.sample(rng).id for client in clients}


@dataclass(frozen=True)
class SandwichAssignment(Parameters):
    """In each round one client trains the largest subnet, another the smallest, the others random ones.

    Attributes:
        track: Whether the client that trained the largest (then the smallest) subnet least often is next, instead of a
            random one: SuperFedNAS' tracking sandwich.
    """

    track: bool = False

    def assign(
        self, clients: Sequence[str], space: SubnetSpace, memory: Memory, rng: np.random.Generator
    ) -> dict[str, str]:
        """Return the largest subnet for one client, the smallest for another, random ones for the others."""
        assigned: dict[str, str] = {}
        order = [clients[int(number)] for number in rng.permutation(len(clients))]
        for end, subnet in (("largest", space.largest), ("smallest", space.smallest)):
            counts: dict[str, int] = memory.setdefault(end, {})
            candidates = [client for client in order if client not in assigned]
            if candidates:
                chosen = min(candidates, key=lambda client: counts.get(client, 0)) if self.track else candidates[0]
                assigned[chosen] = subnet.id
                counts[chosen] = counts.get(chosen, 0) + 1
        sampled = {client: space.sample(rng).id for client in clients if client not in assigned}
        return {client: assigned.get(client) or sampled[client] for client in clients}


@dataclass(frozen=True)
class TrackingSandwichAssignment(SandwichAssignment):
    """The sandwich in which the clients take turns at the largest and the smallest subnet (`TS_all_random`)."""

    track: bool = True


@dataclass(frozen=True, kw_only=True)
class MaxNet(Parameters):
    """Clients that trained the largest subnet get a share of all weight that decays along a cosine (SuperFedNAS).

    The share of round t is b(t) = first * ((1 - a) * (1 + cos(pi * t / T)) / 2 + a), where a = last / first and T is
    the part `over` of all rounds; from T on it is `last`. The others share 1 - b(t). Weights are unchanged if no client
    or every client trained the largest subnet.

    Attributes:
        first: Share in the first round.
        last: Share at the end.
        over: Part of all rounds in which the share decays.
    """

    first: Share = 0.9
    last: Share = 0.125
    over: Share = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.first, self.last) >= 1:
            value = f"{self.first:g} to {self.last:g}"
            raise SpecError("MaxNet.first", "leaves no weight for the other subnets", value, "shares must be below 1")

    def share(self, completed: int, rounds: int) -> float:
        """Return the share of the largest subnet in a round.

        Args:
            completed: Number of completed rounds.
            rounds: Number of all rounds.

        Examples:
            >>> [round(MaxNet().share(completed, 1500), 3) for completed in (0, 600, 1200, 1500)]
            [0.9, 0.512, 0.125, 0.125]
        """
        low = self.last / self.first
        progress = min(1.0, completed / (self.over * rounds))
        return self.first * ((1 - low) * (1 + math.cos(math.pi * progress)) / 2 + low)


SHORT_NAMES = {
    "largest": "federated.assignment:LargestAssignment",
    "random": "federated.assignment:RandomAssignment",
    "sandwich": "federated.assignment:SandwichAssignment",
    "static": "federated.assignment:StaticAssignment",
    "tracking_sandwich": "federated.assignment:TrackingSandwichAssignment",
}
"""Short names in YAML."""
