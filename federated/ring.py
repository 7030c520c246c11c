"""Ring all-reduce: without an aggregator each of n workers sends 2 (n - 1) / n of the model, whatever n is.

Patarasuk and Yuan (J. Parallel Distrib. Comput. 2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from federated.averaging import Update
from federated.decentralised import MessagingTrainer, PeerTrainer, UploadRequest, plan_order, present_members
from federated.job import check_ring
from federated.programs import Aggregator
from federated.state import State, add_delta, prefix_slice
from federated.trainer import Trainer
from sim.base.errors import ProgramError
from topology.program import Break, Continue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from federated.job import TrainingTask
    from topology.io import IO
    from topology.message import Message


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """Announces that a worker has trained.

    Attributes:
        round: Number of the round.
        subnet: Id of the subnet that it trained; "" for a newcomer, which has trained none.
        weight: Its weight in the mean.
        late: The trainers that joined late, as far as it knows of them.
        members: All members of the ring, in an announcement to one of these.
    """

    round: int
    subnet: str
    weight: float
    late: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A part of the partial sum.

    Attributes:
        round: Number of the round.
        step: Number of the step in the round.
        values: The values of the chunk; None if the ring is broken, and no more chunks of this round will come.
    """

    round: int
    step: int
    values: torch.Tensor | None

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how it is pickled: without the other chunks of its tensor."""
        return Chunk, (self.round, self.step, None if self.values is None else self.values.clone())

    @property
    def nbytes(self) -> int:
        """The bytes of the values, or of a number; round and step follow from the order."""
        return 8 if self.values is None else int(self.values.nbytes)


@dataclass(eq=False)
class RingAllReduce(MessagingTrainer):
    """The ring: its members exchange announcements, reduce in n - 1 steps and spread the sum in n - 1 more.

    Members that are not ready in time are left out of the round, and those with values that are not finite have weight
    0. If a member leaves or dies during the reduction, members that do not receive the whole sum log a broken ring, and
    tell the next member.
    """

    @property
    def round(self) -> int:
        """The number of the round."""
        return self.task.version

    def full_state(self) -> State:
        """Return what is averaged, with the shapes of full parameters."""
        dtypes = {name: part.dtype for name, part in self.update.delta.items()}
        default, shapes = next(iter(dtypes.values())), self.job.context.subnet_shapes.full
        zeros = {name: torch.zeros(shape, dtype=dtypes.get(name, default)) for name, shape in shapes.items()}
        return add_delta(zeros, self.update.delta)

    async def announce(self, io: IO) -> None:
        """Announce to all members that it is ready, and receive their announcements."""
        port = self.port(io)
        self.own, weight = self.full_state(), self.update.weight
        if not all(torch.isfinite(part).all() for part in self.own.values()):
            io.log("refused", sender=io.worker.id, round=self.round + 1, why="its update: not all values are finite")
            self.own, weight = {name: torch.zeros_like(part) for name, part in self.own.items()}, 0.0
        members, late = self.members(io), self.late(io)
        announcement = Ready(self.round, self.task.subnet, weight, late)
        self.ready: dict[str, Ready] = {io.worker.id: announcement}
        self.eligible = len(port.peers()) + 1
        await port.broadcast(announcement, to=[peer for peer in port.peers(members) if peer not in late])
        await port.broadcast(replace(announcement, members=members), to=port.peers(late))
        while missing := set(port.peers(members)) - set(self.ready):
            message = await self.receive_matching(io, missing, self.is_ready, self.timeout_s)
            if message is not None:
                self.ready[message.sender] = message.value
            elif missing.issubset(port.peers()):
                io.log("missing", round=self.round + 1, peers=sorted(missing, key=plan_order))
                return

    def members(self, io: IO) -> tuple[str, ...]:
        """Return the trainers of this round, in the order of the plan."""
        return present_members(io, self.port(io))

    def late(self, io: IO) -> tuple[str, ...]:
        """Return the trainers that joined late, members of the ring or not."""
        return ()

    def is_ready(self, message: Message) -> bool:
        """Return whether a message announces readiness for this round."""
        return isinstance(message.value, Ready) and message.value.round == self.round

    def is_stale(self, message: Message) -> bool:
        """Return whether a message belongs to an earlier round."""
        return not isinstance(message.value, Ready | Chunk) or message.value.round < self.round

    async def all_reduce(self, io: IO) -> None:
        """Compute the weighted sum: afterwards all members have the same bits."""
        self.ring = sorted(self.ready, key=plan_order)
        rank, n = self.ring.index(io.worker.id), len(self.ring)
        following, previous = self.ring[(rank + 1) % n], self.ring[rank - 1]
        chunks = list(self.weighted(self.ready[io.worker.id].weight).tensor_split(n))
        self.reduced: torch.Tensor | None = None
        for step in range(2 * (n - 1)):
            sent, received = (rank - step) % n, (rank - step - 1) % n
            await self.port(io).send(Chunk(self.round, step, chunks[sent]), to=following)
            message = await self.receive_matching(io, {previous}, partial(self.is_chunk, step), self.timeout_s)
            values = None if message is None else message.value.values
            if values is None or values.shape != chunks[received].shape:
                io.log("broken", round=self.round + 1, step=step, peer=previous)
                if following in self.port(io).peers():
                    await self.port(io).send(Chunk(self.round, step + 1, None), to=following)
                return
            chunks[received] = values + chunks[received] if step < n - 1 else values
        self.reduced = torch.cat(chunks)

    def is_chunk(self, step: int, message: Message) -> bool:
        """Return whether a message is the chunk of a step of this round, or says that there will be none."""
        value = message.value
        if not isinstance(value, Chunk) or value.round != self.round:
            return False
        return value.step == step or value.values is None

    def weighted(self, weight: float) -> torch.Tensor:
        """Return its own summand of the mean, flattened: 0 where its subnet has no elements."""
        shapes, weights = self.job.context.subnet_shapes, self.weights()
        used = shapes.of(self.averaged(self.task.subnet))
        parts: list[torch.Tensor] = []
        for name, part in self.own.items():
            summand = torch.zeros_like(part)
            if name in used and weight:
                share = weight / shapes.element_weights(name, weights, used[name])
                prefix_slice(summand, used[name]).copy_(prefix_slice(part, used[name]) * share.to(part.dtype))
            parts.append(summand.flatten())
        return torch.cat(parts)

    def weights(self) -> dict[str, float]:
        """Return the sum of the members' weights by subnet id."""
        by_subnet: dict[str, list[float]] = {}
        for ready in self.ready.values():
            if ready.weight:
                by_subnet.setdefault(self.averaged(ready.subnet), []).append(ready.weight)
        return {subnet: math.fsum(weights) for subnet, weights in by_subnet.items()}

    def averaged(self, subnet: str) -> str:
        """Return the subnet whose elements are averaged: the largest if a newcomer needs a whole model."""
        whole = any(not ready.subnet for ready in self.ready.values())
        return self.job.context.space.largest.id if whole else subnet

    def mean(self) -> State:
        """Return the mean of the elements that any subnet has; empty if the ring broke or all weights are 0."""
        weights, mean = self.weights(), State()
        if self.reduced is not None and weights:
            flat = self.reduced.split([part.numel() for part in self.own.values()])
            full = {name: values.reshape(self.own[name].shape) for name, values in zip(self.own, flat, strict=True)}
            shapes = self.job.context.subnet_shapes.union(weights)
            mean = {name: prefix_slice(full[name], shape) for name, shape in shapes.items()}
        return mean


@dataclass(eq=False)
class RingTrainer(RingAllReduce, PeerTrainer):
    """Fully distributed training: each trainer has a model of its own, and all take the mean in a ring.

    The ring averages models, not deltas, so that a trainer that misses a round agrees with the others after the next.

    Who joins late is a member of the ring from the round after the one in which all members know of it. In its first
    round it trains nothing, has weight 0, and takes the mean of the whole models of the others as its own.
    """

    steps = PeerTrainer.steps.after("apply_update", "announce", "all_reduce", "apply_mean").after("load", "join")
    function_tags: ClassVar[tuple[str, ...]] = ("ring",)
    is_new = False

    async def join(self, io: IO) -> None:
        """Begin as a member of the ring; who joins late waits until the others count on it."""
        self.memory["members"] = present_members(io, self.port(io))
        self.founders = frozenset(self.memory["members"])
        message = await self.welcome(io, partial(self.is_invitation, io.worker.id))
        if message is not None:
            self.is_new = True
            self.pending.append(message)
            self.memory |= {"members": message.value.members, "round": message.value.round}
            self.founders = frozenset(message.value.members).difference(message.value.late)

    def is_invitation(self, own: str, message: Message) -> bool:
        """Return whether a message announces a round in which the trainer is a member of the ring."""
        return isinstance(message.value, Ready) and own in message.value.members

    def members(self, io: IO) -> tuple[str, ...]:
        """Return the members of the ring, in the order of the plan."""
        members: tuple[str, ...] = self.memory["members"]
        return members

    def late(self, io: IO) -> tuple[str, ...]:
        """Return the present trainers that joined late, members of the ring or not."""
        return tuple(id_ for id_ in present_members(io, self.port(io)) if id_ not in self.founders)

    async def train(self, io: IO) -> None:
        """Train, but not a model that has not been averaged with those of the others."""
        if self.is_new:
            self.task = replace(self.task, subnet="")
            self.update = Update({}, {})
        else:
            await super().train(io)

    def full_state(self) -> State:
        """Return its model."""
        return self.state

    def apply_mean(self, io: IO) -> None:
        """Replace the elements that any trainer trained by their mean, if there is one."""
        known_to_all = set.intersection(*(set(ready.late) for ready in self.ready.values()))
        self.memory["members"] = tuple(sorted(self.founders | known_to_all, key=plan_order))
        new, weights, mean = dict(self.state), self.weights(), self.mean()
        self.is_new = self.is_new and not mean
        for name, part in mean.items():
            mask = self.job.context.subnet_shapes.element_weights(name, weights, part.shape) > 0
            new[name] = new[name].clone()
            old = prefix_slice(new[name], part.shape)
            old.copy_(torch.where(mask, part, old))
        self.memory["state"] = new


@dataclass(eq=False)
class HybridTrainer(RingAllReduce):
    """A ring within each cluster; the first member of a ring uploads the mean for all."""

    steps = Trainer.steps.before("upload", "announce", "all_reduce", "merge_updates")
    function_tags: ClassVar[tuple[str, ...]] = ("ring", "fetch", "upload")

    def load(self, io: IO) -> None:
        """Begin, and check that updates can be averaged in a ring.

        Raises:
            SpecError: They can't.
        """
        super().load(io)
        check_ring(self.job)

    async def fetch(self, io: IO) -> None:
        """Receive the newest model; if the aggregator asks for the update of the last round, send it.

        Raises:
            Break: It is dismissed.
        """
        port, newest = io["fetch"], None
        while newest is None:
            message = await port.recv()
            while True:
                if not isinstance(message.value, UploadRequest):
                    newest = message
                elif newest is None and message.value.version == self.merged_version:
                    await io["upload"].send(self.merged_update(), to=message.sender)
                if port.peek() is None:
                    break
                message = await port.recv()
        if newest.value is None:
            raise Break
        self.message, self.task = newest, newest.value

    def members(self, io: IO) -> tuple[str, ...]:
        """Return the trainers of its cluster that were selected, in the order of the plan."""
        return self.task.ring or super().members(io)

    merged_version = -1
    """The version of the model of the last round in which it took part."""

    def merge_updates(self, io: IO) -> None:
        """Replace its update by the mean of the ring; if the ring broke, keep its own.

        Raises:
            Continue: It is not the first member of the ring that is present, and uploads nothing.
        """
        self.merged_version = self.round
        present = {io.worker.id, *self.port(io).peers()}
        if io.worker.id != next(member for member in self.ring if member in present):
            raise Continue
        self.update = self.merged_update()

    def merged_update(self) -> Update:
        """Return the update of its ring, or its own if the ring broke."""
        update, mean = replace(self.update, eligible=self.eligible), self.mean()
        return replace(update, delta=mean, weights=self.weights(), clients=len(self.ring)) if mean else update


@dataclass(eq=False)
class HybridAggregator(Aggregator):
    """A server that waits for the update of each cluster, whoever of the cluster sends it.

    It cannot be replicated: replicas share trainers among them, whose rings would mix their models.
    """

    has_participation: ClassVar[bool] = False
    has_stats: ClassVar[bool] = False

    async def distribute(self, io: IO) -> None:
        """Send the model to all trainers.

        Raises:
            ProgramError: It has replicas.
        """
        if not set(io["distribute"].peers()) <= set(self.assigned_peers(io)):
            location, hint = f"{io.worker.id}, step {io.step}", "set replicas: 1"
            raise ProgramError(location, "replicas of the aggregator would mix models in the rings", "", hint)
        await super().distribute(io)

    def tasks(self, io: IO, peers: tuple[str, ...]) -> dict[str, TrainingTask]:
        """Return the task of each trainer; it names the ring where not all trainers of the cluster were selected."""
        tasks, selected = super().tasks(io, peers), self.clusters(io, peers)
        everybody = self.clusters(io, self.assigned_peers(io))
        for cluster, ring in selected.items():
            if len(ring) < len(everybody[cluster]):
                tasks |= {peer: replace(tasks[peer], ring=tuple(sorted(ring, key=plan_order))) for peer in ring}
        return tasks

    async def answers(self, io: IO, peers: tuple[str, ...]) -> AsyncIterator[Message]:
        """Yield the update of each cluster of this round.

        If a member leaves before, another one is asked to send the update of its ring.
        """
        port, deadline = io["aggregate"], io.deadline(self.timeout_s)
        missing = self.clusters(io, peers)
        while awaited := [peer for members in missing.values() for peer in members]:
            message = await port.first(awaited, timeout_s=deadline.left_s)
            if message is None:
                if deadline.left_s == 0:
                    return
                await self.ask_others(io, missing)
            elif not self.is_late(io, message):
                del missing[self.cluster(io, message.sender)]
                yield message

    async def ask_others(self, io: IO, missing: dict[str, list[str]]) -> None:
        """Take out the members that have left, and ask another one of their clusters for an update."""
        for cluster, members in list(missing.items()):
            present = io["aggregate"].peers(members)
            if not present:
                del missing[cluster]
            elif len(present) < len(members):
                missing[cluster] = list(present)
                await io["distribute"].send(UploadRequest(self.version), to=present[0])

    def clusters(self, io: IO, peers: tuple[str, ...]) -> dict[str, list[str]]:
        """Return the members of each cluster among some peers."""
        clusters: dict[str, list[str]] = {}
        for peer in peers:
            clusters.setdefault(self.cluster(io, peer), []).append(peer)
        return clusters

    def cluster(self, io: IO, peer: str) -> str:
        """Return a name for the place of a trainer: those of one place share a ring."""
        return str(io.plan.worker(peer).at)

    def log_missing(self, io: IO, received: Mapping[str, Any]) -> None:
        """Log the number of trainers that no update stands for."""
        clients = self.largest.clients + self.others.clients
        if clients < len(self.selected):
            io.log("missing", round=self.version + 1, count=len(self.selected) - clients)
