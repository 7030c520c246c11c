"""Gossip: each trainer averages its model with those of its neighbours in a graph (Lian et al., NeurIPS 2017).

Weights are those of Metropolis (Xiao and Boyd, Syst. Control Lett. 2004): 1 / (1 + the larger degree) for each
neighbour, the rest for the trainer itself. They are symmetric, so that averaging preserves the mean of all models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from federated.decentralised import PeerTrainer, everybody, present_members
from federated.state import State, check_state, weighted_sum
from sim.base.errors import DataError, SpecError
from topology.steps import Par

if TYPE_CHECKING:
    from topology.io import IO
    from topology.message import Message


@dataclass(frozen=True, slots=True, eq=False)
class GossipModel:
    """The model of a neighbour.

    Attributes:
        round: Number of the round.
        state: The model.
    """

    round: int
    state: Any

    @property
    def nbytes(self) -> int:
        """The bytes of the model."""
        return sum(int(part.nbytes) for part in self.state.values())


@dataclass(eq=False)
class GossipTrainer(PeerTrainer):
    """Exchanges models with its neighbours, and takes the weighted mean.

    The graph connects all workers, those that join late included. For a neighbour that does not answer, or sends an
    invalid model, the trainer's own model counts in that round; both are logged. It also counts for a neighbour that
    has not joined yet. Who joins late begins with the first model that a neighbour sends, and in its round.

    Attributes:
        graph: `ring`, `complete`, or `torus` of a x b workers with a, b >= 3.
        edges: The edges of another graph, as pairs of worker numbers; replaces `graph`.
    """

    steps = PeerTrainer.steps.after("apply_update", Par("send_model", "receive_models"), "mix").after("load", "join")
    function_tags: ClassVar[tuple[str, ...]] = ("gossip",)

    graph: Literal["ring", "complete", "torus"] = "ring"
    edges: tuple[tuple[int, int], ...] = ()

    def load(self, io: IO) -> None:
        """Begin with the initial model, and compute the weights of its neighbours.

        Raises:
            SpecError: The graph is invalid.
        """
        super().load(io)
        workers = everybody(io, self.port(io))
        adjacent = neighbours(len(workers), self.graph, self.edges)
        own = workers.index(io.worker.id)
        degree = len(adjacent[own])
        self.weights = {workers[peer]: 1 / (1 + max(degree, len(adjacent[peer]))) for peer in adjacent[own]}
        self.active = set(present_members(io, self.port(io))) & set(self.weights)

    async def join(self, io: IO) -> None:
        """Begin; who joins late waits for the first model of a neighbour."""
        message = await self.welcome(io, lambda message: isinstance(message.value, GossipModel))
        if message is not None:
            self.memory["round"] = message.value.round
            self.replace_state(io, message.sender, message.value.state)
            self.pending.append(message)

    async def send_model(self, io: IO) -> None:
        """Send its model to its neighbours."""
        for peer in self.port(io).peers(self.weights):
            await self.port(io).send(GossipModel(self.version, self.state), to=peer)

    async def receive_models(self, io: IO) -> None:
        """Receive the models of its neighbours, without those that are in a later round already."""
        self.received: dict[str, State] = {}
        while missing := set(self.port(io).peers(self.active)) - set(self.received) - self.ahead():
            message = await self.receive_matching(io, missing, self.is_model, self.timeout_s)
            if message is not None and message.value.round > self.version:
                self.pending.append(message)
            elif message is not None:
                self.received[message.sender] = message.value.state
            elif missing.issubset(self.port(io).peers()):
                break

    def ahead(self) -> set[str]:
        """Return the neighbours from which a model of a later round has come: they send none of this round."""
        return {message.sender for message in self.pending if message.value.round > self.version}

    def is_model(self, message: Message) -> bool:
        """Return whether a message is a model of this round, or of a later one."""
        return isinstance(message.value, GossipModel) and message.value.round >= self.version

    def is_stale(self, message: Message) -> bool:
        """Return whether a message belongs to an earlier round."""
        return not isinstance(message.value, GossipModel) or message.value.round < self.version

    def mix(self, io: IO) -> None:
        """Replace its model by the weighted mean."""
        parts: list[tuple[float, State]] = []
        for peer, weight in self.weights.items():
            try:
                if peer in self.received:
                    parts.append((weight, check_state(self.received[peer], self.state)))
                elif peer in self.active:
                    io.log("missing", round=self.version + 1, peers=[peer])
            except DataError as error:
                io.log("refused", sender=peer, round=self.version + 1, why=str(error))
        self.active |= {message.sender for message in self.pending} | set(self.received)
        own = 1 - sum(weight for weight, _ in parts)
        self.memory["state"] = weighted_sum([*parts, (own, self.state)], self.state)


def neighbours(n: int, graph: str, edges: tuple[tuple[int, int], ...]) -> list[set[int]]:
    """Return the neighbours of each worker, by number.

    Raises:
        SpecError: The graph is not connected, an edge is invalid, or no torus has `n` workers.

    Examples:
        >>> neighbours(4, "ring", ())
        [{1, 3}, {0, 2}, {1, 3}, {0, 2}]
    """
    adjacent: list[set[int]] = [set() for _ in range(n)]
    for a, b in edges or _edges(n, graph):
        if not (0 <= a < n and 0 <= b < n) or a == b:
            raise SpecError("gossip.edges", "invalid edge", f"[{a}, {b}]", f"must join two of 0 to {n - 1}")
        adjacent[a].add(b)
        adjacent[b].add(a)
    reached, frontier = {0}, {0}
    while frontier:
        frontier = set().union(*(adjacent[node] for node in frontier)) - reached
        reached |= frontier
    if len(reached) < n:
        node = min(set(range(n)) - reached)
        raise SpecError("gossip.edges", "the graph is not connected", f"no path from 0 to {node}", "add edges")
    return adjacent


_MIN_CYCLE = 3  # workers; with two the ring is a single edge


def _edges(n: int, graph: str) -> list[tuple[int, int]]:
    if graph == "complete":
        return [(a, b) for a in range(n) for b in range(a)]
    if graph == "ring":
        return [(a, (a + 1) % n) for a in range(n if n >= _MIN_CYCLE else n - 1)]
    sides = range(int(n**0.5), _MIN_CYCLE - 1, -1)
    width = next((side for side in sides if n % side == 0 and n // side >= _MIN_CYCLE), None)
    if width is None:
        raise SpecError("gossip.graph", "no torus has this number of workers", str(n), "must be a x b with a, b >= 3")
    rows = [(a, a - a % width + (a + 1) % width) for a in range(n)]
    return rows + [(a, (a + width) % n) for a in range(n)]
