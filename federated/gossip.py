"""Gossip: each trains a model of its own and averages with its neighbours in a graph (Lian et al., NeurIPS 2017).

Weights are Metropolis' (Xiao and Boyd, Syst. Control Lett. 2004): 1 / (1 + the larger degree) for each neighbour, the
rest for oneself. They are symmetric, so that the mean over all models stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from federated.decentralised import Peer, checked, mixed, ranked
from sim.base.errors import DataError, SpecError
from topology.steps import Par

if TYPE_CHECKING:
    from federated.averaging import State
    from topology.io import IO
    from topology.message import Message


@dataclass(eq=False)
class GossipTrainer(Peer):
    """Says its model to its neighbours, hears theirs, and takes the mean.

    The graph is over all who were there in the beginning. Who is silent, or sends what is no model, is replaced by
    oneself in that round, and that is logged.

    Attributes:
        graph: `ring`, `complete`, or `torus` (a ring of rings, if there are a times b workers, a and b at least 3).
        edges: A graph of one's own in its place, as pairs of numbers of workers.
    """

    steps = Peer.steps.after("adopt", Par("say", "hear"), "mix")
    function_tags: ClassVar[tuple[str, ...]] = ("gossip",)

    graph: Literal["ring", "complete", "torus"] = "ring"
    edges: tuple[tuple[int, int], ...] = ()

    def load(self, io: IO) -> None:
        """Remember, and find its neighbours.

        Raises:
            SpecError: The graph does not connect all.
        """
        super().load(io)
        members = self.memory.setdefault("members", list(ranked(io, self.port(io))))
        adjacent = neighbours(len(members), self.graph, self.edges)
        own = members.index(io.worker.id)
        degree = len(adjacent[own])
        self.shares = {members[other]: 1 / (1 + max(degree, len(adjacent[other]))) for other in adjacent[own]}

    async def say(self, io: IO) -> None:
        """Send its model to its neighbours."""
        present = set(self.port(io).peers())
        for peer in self.shares:
            if peer in present:
                await self.port(io).send(Said(self.version, self.state), to=peer)

    async def hear(self, io: IO) -> None:
        """Take the models of its neighbours."""
        self.heard: dict[str, State] = {}
        while missing := set(self.shares) & set(self.port(io).peers()) - set(self.heard):
            message = await self.expect(io, lambda m: self.is_said(m, missing), self.is_old, self.timeout_s)
            if message is None:
                break
            self.heard[message.sender] = message.value.state

    def is_said(self, message: Message, missing: set[str]) -> bool:
        """Return whether it is the model of a neighbour in this round."""
        return isinstance(message.value, Said) and message.value.round == self.version and message.sender in missing

    def is_old(self, message: Message) -> bool:
        """Return whether a message is of a round that is over."""
        return not isinstance(message.value, Said) or message.value.round < self.version

    def mix(self, io: IO) -> None:
        """Take the mean of its neighbours' models and its own."""
        parts: list[tuple[float, State]] = []
        for peer, share in self.shares.items():
            try:
                if peer in self.heard:
                    parts.append((share, checked(self.heard[peer], self.state)))
                    continue
                io.log("missing", round=self.version + 1, peers=[peer])
            except DataError as error:
                io.log("refused", sender=peer, round=self.version + 1, why=str(error))
        own = 1 - sum(share for share, _ in parts)
        self.memory["state"] = mixed([*parts, (own, self.state)], self.state)


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """A model that a neighbour says.

    Attributes:
        round: The number of the round.
        state: The model.
    """

    round: int
    state: Any

    @property
    def nbytes(self) -> int:
        """Those of the model."""
        return sum(int(part.nbytes) for part in self.state.values())


def neighbours(n: int, graph: str, edges: tuple[tuple[int, int], ...]) -> list[set[int]]:
    """Return the neighbours of each worker, by numbers.

    Raises:
        SpecError: The graph does not connect all, or an edge leads nowhere, or no torus has so many workers.

    Example:
        >>> neighbours(4, "ring", ())
        [{1, 3}, {0, 2}, {1, 3}, {0, 2}]
    """
    pairs = list(edges) or _shipped(n, graph)
    adjacent: list[set[int]] = [set() for _ in range(n)]
    for one, other in pairs:
        if not (0 <= one < n and 0 <= other < n) or one == other:
            raise SpecError("gossip.edges", "an edge leads nowhere", f"[{one}, {other}]", f"two of 0 to {n - 1}")
        adjacent[one].add(other)
        adjacent[other].add(one)
    reached, front = {0}, {0}
    while front:
        front = set().union(*(adjacent[node] for node in front)) - reached
        reached |= front
    if len(reached) < n:
        apart = sorted(set(range(n)) - reached)
        raise SpecError("gossip.edges", "the graph does not connect all", f"{apart[0]} is apart from 0", "more edges")
    return adjacent


_LEAST = 3  # of a ring that is no line


def _shipped(n: int, graph: str) -> list[tuple[int, int]]:
    if graph == "complete":
        return [(one, other) for one in range(n) for other in range(one)]
    if graph == "ring":
        return [(one, (one + 1) % n) for one in range(n if n >= _LEAST else n - 1)]
    wide = next((side for side in range(int(n**0.5), _LEAST - 1, -1) if n % side == 0 and n // side >= _LEAST), None)
    if wide is None:
        raise SpecError("gossip.graph", "no torus has so many workers", str(n), "a product of two numbers from 3 on")
    right = [(one, one - one % wide + (one + 1) % wide) for one in range(n)]
    return right + [(one, (one + wide) % n) for one in range(n)]
