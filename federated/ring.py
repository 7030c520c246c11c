"""All-reduce in a ring: no aggregator, and each worker sends 2 (n - 1) / n of the model, whatever n is.

Patarasuk and Yuan (J. Parallel Distrib. Comput. 2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from federated.averaging import Update
from federated.decentralised import Peer, Speaker, added, rank_key
from federated.programs import Aggregator, Trainer
from sim.base.errors import ProgramError
from sim.base.units import NS_PER_S
from topology.program import Continue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from federated.averaging import State
    from topology.io import IO
    from topology.message import Message


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """Says that a worker has trained, what, and how much it counts.

    Attributes:
        round: The number of the round.
        subnet: The id of what it trained.
        weight: How much it counts.
    """

    round: int
    subnet: str
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A part of the sum on its way round the ring.

    Attributes:
        round: The number of the round.
        step: The number of the step in it.
        values: The part.
    """

    round: int
    step: int
    values: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Those of the values: which part of which round it is follows from the order."""
        return int(self.values.nbytes)


@dataclass(eq=False)
class Ringing(Speaker):
    """The ring itself, for all who are in one: they agree who is ready, then sum in n - 1 steps and spread in n - 1.

    Whoever is not ready in time is left out of the round, and whose numbers are not finite counts nothing in it. If
    somebody falls silent during the sum, those who do not get all of it go without, and log that the ring broke.
    """

    def turn(self) -> int:
        """Return the number of the round."""
        return self.task.version

    def vector(self) -> State:
        """Return what is to be averaged, of the shapes of whole parameters."""
        kinds = {name: part.dtype for name, part in self.update.change.items()}
        some = next(iter(kinds.values()))
        whole = {n: torch.zeros(shape, dtype=kinds.get(n, some)) for n, shape in self.job.extents.shapes.items()}
        return added(whole, self.update.change)

    async def agree(self, io: IO) -> None:
        """Tell all that it is ready, and hear who else is."""
        port = self.port(io)
        self.own, weight = self.vector(), self.update.weight
        if not all(torch.isfinite(part).all() for part in self.own.values()):
            io.log("refused", sender=io.worker.id, round=self.turn() + 1, why="what it trained is not all finite")
            self.own, weight = {name: torch.zeros_like(part) for name, part in self.own.items()}, 0.0
        self.mine = Ready(self.turn(), self.task.subnet, weight)
        self.ready: dict[str, Ready] = {io.worker.id: self.mine}
        self.group = len(port.peers()) + 1
        await port.broadcast(self.mine)
        while missing := set(port.peers()) - set(self.ready):
            message = await self.expect(io, self.is_ready, self.is_old, self.timeout_s)
            if message is None:
                io.log("missing", round=self.turn() + 1, peers=sorted(missing, key=rank_key))
                return
            self.ready[message.sender] = message.value

    def is_ready(self, message: Message) -> bool:
        """Return whether somebody is ready for this round."""
        return isinstance(message.value, Ready) and message.value.round == self.turn()

    def is_old(self, message: Message) -> bool:
        """Return whether a message is of a round that is over."""
        return not isinstance(message.value, Ready | Chunk) or message.value.round < self.turn()

    async def reduce(self, io: IO) -> None:
        """Sum by weight: afterwards all have the same mean, bit for bit."""
        self.ring = sorted(self.ready, key=rank_key)
        rank, n = self.ring.index(io.worker.id), len(self.ring)
        parts = list(self.weighed().tensor_split(n))
        self.whole: torch.Tensor | None = None
        for step in range(2 * (n - 1)):
            mine, theirs = (rank - step) % n, (rank - step - 1) % n
            await self.port(io).send(Chunk(self.turn(), step, parts[mine]), to=self.ring[(rank + 1) % n])
            came = await self.expect(io, self.awaited(self.ring[rank - 1], step), self.is_old, self.timeout_s)
            if came is None or came.value.values.shape != parts[theirs].shape:
                io.log("broken", round=self.turn() + 1, step=step, peer=self.ring[rank - 1])
                return
            parts[theirs] = came.value.values + parts[theirs] if step < n - 1 else came.value.values
        self.whole = torch.cat(parts)

    def awaited(self, sender: str, step: int) -> Callable[[Message], bool]:
        """Return what knows the chunk of a step from a neighbour."""
        return lambda message: (
            message.sender == sender
            and isinstance(message.value, Chunk)
            and (message.value.round, message.value.step) == (self.turn(), step)
        )

    def weighed(self) -> torch.Tensor:
        """Return its own part of the mean, as one vector: 0 where its subnet has nothing."""
        extents, weights, own = self.job.extents, self.weights(), self.mine.weight
        used = extents.of(self.task.subnet)
        pieces: list[torch.Tensor] = []
        for name, part in self.own.items():
            piece = torch.zeros_like(part)
            if name in used and own:
                place = tuple(map(slice, used[name]))
                piece[place] = part[place] * (own / extents.mass(name, weights)[place]).to(part.dtype)
            pieces.append(piece.flatten())
        return torch.cat(pieces)

    def weights(self) -> dict[str, float]:
        """Return the weights of all in the ring, by subnet."""
        found: dict[str, list[float]] = {}
        for ready in self.ready.values():
            if ready.weight:
                found.setdefault(ready.subnet, []).append(ready.weight)
        return {subnet: math.fsum(each) for subnet, each in found.items()}

    def mean(self) -> State:
        """Return the mean, of what any of the subnets use; nothing if the ring broke, or nobody counts."""
        found: State = {}
        if self.whole is not None and self.weights():
            pieces = dict(zip(self.own, self.whole.split([part.numel() for part in self.own.values()]), strict=True))
            for name, shape in self.job.extents.union(self.weights()).items():
                found[name] = pieces[name].reshape(self.own[name].shape)[tuple(map(slice, shape))]
        return found


@dataclass(eq=False)
class RingTrainer(Ringing, Peer):
    """Fully distributed: each trains a model of its own, then all take the mean in a ring.

    Models are averaged, not changes: who misses a round is back with the others in the next.
    """

    steps = Peer.steps.after("adopt", "agree", "reduce", "take_mean")
    function_tags: ClassVar[tuple[str, ...]] = ("ring",)

    def vector(self) -> State:
        """Return its model."""
        return self.state

    def take_mean(self, io: IO) -> None:
        """Take over the mean, if there is one; what nobody trained stays as it is."""
        new = dict(self.state)
        for name, part in self.mean().items():
            mass = self.job.extents.mass(name, self.weights())[tuple(map(slice, part.shape))]
            new[name] = new[name].clone()
            old = new[name][tuple(map(slice, part.shape))]
            old.copy_(torch.where(mass > 0, part, old))
        self.memory["state"] = new


@dataclass(eq=False)
class HybridTrainer(Ringing):
    """A ring within a cluster, and one upload for all of it, by the first in the ring."""

    steps = Trainer.steps.before("upload", "agree", "reduce", "speak_for_all")
    function_tags: ClassVar[tuple[str, ...]] = ("ring", "fetch", "upload")

    def speak_for_all(self, io: IO) -> None:
        """Put the mean in the place of its own update; where the ring broke, its own remains.

        Raises:
            Continue: It is not the first in the ring, and sends nothing.
        """
        if io.worker.id != self.ring[0]:
            raise Continue
        own, mean = self.update, self.mean()
        if mean:
            self.update = Update(
                mean, self.weights(), len(self.ring), self.group, own.loss, own.energy, base=self.turn()
            )
        else:
            self.update = replace(own, of=self.group)


@dataclass(eq=False)
class HybridAggregator(Aggregator):
    """Waits for updates that stand for all who were asked, whoever sends them.

    It has no replicas: they would share out trainers, whose rings would mix their models.
    """

    async def distribute(self, io: IO) -> None:
        """Send the model to all.

        Raises:
            ProgramError: It has replicas.
        """
        if not set(io["distribute"].peers()) <= set(self.due(io)):
            where, right = f"{io.worker.id}, step {io.step}", "one replica"
            raise ProgramError(where, "of those who share rings each would hold another model", "replicas", right)
        await super().distribute(io)

    async def answers(self, io: IO, asked: tuple[str, ...]) -> AsyncIterator[Message]:
        """Yield the updates of this round until they stand for all."""
        left, until_ns = len(asked), None if self.timeout_s is None else io.now_ns + round(self.timeout_s * NS_PER_S)
        while left > 0:
            left_s = None if until_ns is None else max(0.0, (until_ns - io.now_ns) / NS_PER_S)
            try:
                message = await io["aggregate"].recv(timeout_s=left_s)
            except TimeoutError:
                if self.timeout_s is None:
                    raise
                return
            if getattr(message.value, "base", self.version) != self.version:
                io.log("late", sender=message.sender, base=message.value.base, round=self.version + 1)
                continue
            left -= getattr(message.value, "of", 1)
            yield message

    def missed(self, io: IO, came: Mapping[str, Any]) -> None:
        """Log for how many nobody answered."""
        parties = self.largest.parties + self.others.parties
        if parties < len(self.asked):
            io.log("missing", round=self.version + 1, count=len(self.asked) - parties)
