"""All-reduce in a ring: no aggregator, and each worker sends 2 (n - 1) / n of the model, whatever n is.

Patarasuk and Yuan (J. Parallel Distrib. Comput. 2009). Models are summed, not changes: whoever misses a round is back
with the others in the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from federated.averaging import Update
from federated.decentralised import Peer, rank_key
from federated.programs import Aggregator, Trainer
from sim.parameters import Positive
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from federated.averaging import State
    from topology.io import IO
    from topology.message import Message
    from topology.port import Port


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """Says that a worker has trained, what, and how much it counts; `nbytes` is that of two numbers."""

    round: int
    subnet: str
    weight: float

    @property
    def nbytes(self) -> int:
        """Two numbers: the subnet has one."""
        return 16


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A part of the sum on its way round the ring."""

    round: int
    step: int
    values: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Those of the values."""
        return int(self.values.nbytes)


class Ringing(Peer):
    """The ring itself, for all who are in one: they agree who is ready, then sum in n - 1 steps and spread in n - 1.

    Whoever is not ready in time is left out of the round. If somebody falls silent during the sum, those who do not get
    all of it keep what they trained, and log that the ring broke; the next round's mean takes them together again.
    """

    async def agree(self, io: IO) -> None:
        """Tell all that it is ready, and hear who else is."""
        port, weight = self.port(io), self.job.weight(self.dataset(io))
        mine = Ready(self.version, self.task.subnet, weight)
        self.ready: dict[str, Ready] = {io.worker.id: mine}
        await port.broadcast(mine)
        asked = set(port.peers())
        while asked - set(self.ready):
            message = await self.expect(io, self.is_ready, self.is_old, self.timeout_s)
            if message is None:
                io.log("missing", round=self.version + 1, peers=sorted(asked - set(self.ready), key=rank_key))
                return
            self.ready[message.sender] = message.value
            asked &= {*port.peers(), *self.ready}

    def is_ready(self, message: Message) -> bool:
        """Return whether somebody is ready for this round."""
        return isinstance(message.value, Ready) and message.value.round == self.version

    def is_old(self, message: Message) -> bool:
        """Return whether a message is of a round that is over."""
        return not isinstance(message.value, Ready | Chunk) or message.value.round < self.version

    async def reduce(self, io: IO) -> None:
        """Sum models by weight, and divide: afterwards all have the same mean, bit for bit."""
        ring = sorted(self.ready, key=rank_key)
        self.rank, n = ring.index(io.worker.id), len(ring)
        left, right = ring[self.rank - 1], ring[(self.rank + 1) % n]
        parts = list(self.flat().tensor_split(n))
        for step in range(2 * (n - 1)):
            summing = step < n - 1
            mine = (self.rank - step + (0 if summing else n)) % n if summing else (self.rank + 1 - (step - n + 1)) % n
            theirs = (mine - 1) % n
            await self.port(io).send(Chunk(self.version, step, parts[mine]), to=right)
            message = await self.expect(io, self.awaited(left, step), self.is_old, self.timeout_s)
            if message is None or message.value.values.shape != parts[theirs].shape:
                io.log("broken", round=self.version + 1, step=step, peer=left)
                self.whole: torch.Tensor | None = None
                return
            parts[theirs] = message.value.values + parts[theirs] if summing else message.value.values
        self.whole = torch.cat(parts)

    def awaited(self, sender: str, step: int) -> Any:
        """Return what tells the chunk of a step from a neighbour."""

        def is_it(message: Message) -> bool:
            value = message.value
            if message.sender != sender or not isinstance(value, Chunk):
                return False
            return value.round == self.version and value.step == step

        return is_it

    def flat(self) -> torch.Tensor:
        """Return its own model times its weight, as one vector, 0 where its subnet has nothing."""
        own, weight = self.job.extents.of(self.task.subnet), self.ready_weight()
        pieces = []
        for name, part in self.trained_state().items():
            piece = torch.zeros_like(part)
            if name in own:
                place = tuple(map(slice, own[name]))
                piece[place] = part[place] * weight
            pieces.append(piece.flatten())
        return torch.cat(pieces)

    def ready_weight(self) -> float:
        """Return how much it counts."""
        return self.job.weight_of(self.update)

    def trained_state(self) -> State:
        """Return its model after training, whole."""
        return self.state

    def weights(self) -> dict[str, float]:
        """Return the weights of all in the ring, by subnet."""
        found: dict[str, list[float]] = {}
        for ready in self.ready.values():
            found.setdefault(ready.subnet, []).append(ready.weight)
        return {subnet: math.fsum(each) for subnet, each in found.items()}

    def mean(self) -> State | None:
        """Return the mean model, in which what nobody trained stays as it is; None if the ring broke."""
        if self.whole is None:
            return None
        weights, found, start = self.weights(), dict[str, torch.Tensor](), 0
        for name, part in self.trained_state().items():
            total = self.whole[start : start + part.numel()].reshape(part.shape)
            start += part.numel()
            mass = self.job.extents.mass(name, weights).to(part.dtype)
            here = torch.zeros(part.shape, dtype=torch.bool)
            for shape in (self.job.extents.of(subnet).get(name) for subnet in weights):
                if shape is not None:
                    here[tuple(map(slice, shape))] = True
            found[name] = torch.where(here, total / mass, part)
        return found


@dataclass(eq=False)
class RingTrainer(Ringing):
    """Fully distributed: each trains its own model, then all take the mean in a ring."""

    steps: ClassVar[Steps] = Peer.steps.after("adopt", "agree", "reduce", "take_mean")
    verbs: ClassVar[tuple[str, ...]] = ("ring",)

    def take_mean(self, io: IO) -> None:
        """Take over the mean, if the ring did not break; what is no number stays out."""
        found = self.mean()
        if found is not None and not all(torch.isfinite(part).all() for part in found.values()):
            io.log("refused", sender="ring", round=self.version + 1, why="the mean is not all finite")
            found = None
        if found is not None:
            self.memory["state"] = found


@dataclass(eq=False)
class HybridTrainer(Ringing):
    """A ring within a cluster, and one upload for it: fetches the model, and the first of the ring sends the mean."""

    steps: ClassVar[Steps] = Trainer.steps.before("upload", "agree", "reduce").replace("upload", "upload_mean")
    verbs: ClassVar[tuple[str, ...]] = ("ring", "fetch", "upload")
    awaits: ClassVar[tuple[str, ...]] = ("fetch",)
