"""Cyclic training, where one model visits the trainers in turn, and swarms, where trainers take turns at averaging."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from federated.averaging import Update, UpdateSum
from federated.decentralised import PeerTrainer, everybody, plan_order, present_members
from federated.state import add_delta
from sim.base.errors import DataError
from topology.program import Break
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from topology.io import IO
    from topology.message import Message


NEVER = -(2**62)
"""The visit of a trainer where no model has been."""

_ROUND = Loop("receive_model", "train", "apply_update", "complete_round", "hand_on", until="never")


@dataclass(frozen=True, slots=True, eq=False)
class Handover:
    """The model, sent to the next trainer; or a receipt, sent to the previous one.

    Attributes:
        visit: Number of trainings of the model so far.
        state: The model; None in a receipt, which confirms that the next training is done.
        last: Whether the model is final.
        is_copy: Whether it is the copy of a trainer whose follower has left, in case that the model left with it.
    """

    visit: int
    state: Any
    last: bool = False
    is_copy: bool = False

    @property
    def nbytes(self) -> int:
        """The bytes of the model; of a receipt those of a number."""
        return 8 if self.state is None else sum(int(part.nbytes) for part in self.state.values())


@dataclass(eq=False)
class CyclicTrainer(PeerTrainer):
    """Receives the model, trains it and sends it to the next trainer; a round is one cycle (Chang et al., JAMIA 2018).

    The sender keeps a copy until the next trainer confirms its training; at the start the last trainer of the cycle
    keeps that of the first. If the next trainer leaves, or does not confirm within `timeout_s`, the copy goes to the
    trainer after it, which is logged. A model that arrives twice is trained once.

    Later, too, a trainer whose follower leaves sends its own last model to the trainer after it, where it counts if no
    newer one has been there: however many leave, the training goes on from the newest model of those that are left.
    """

    steps = Steps("load", _ROUND, "send_final")
    function_tags: ClassVar[tuple[str, ...]] = ("hand_on",)
    rests: ClassVar[bool] = False

    def load(self, io: IO) -> None:
        """Prepare the first cycle: the first trainer that is present at the start has the model."""
        super().load(io)
        self.members = everybody(io, self.port(io))
        present = present_members(io, self.port(io))
        first, *_, last = present * 2
        self.is_final, self.is_newcomer = False, io.joined_late and (len(present) > 1 or self.port(io).closed)
        # As if there had been a cycle before: so a copy of the initial model is the newer, the later its turn was.
        number = 0 if io.worker.id == first else present.index(io.worker.id) - len(present) + 1
        self.visit = NEVER if self.is_newcomer else number
        self.follower = present[(present.index(io.worker.id) + 1) % len(present)]
        self.has_model = io.worker.id == first and not self.is_newcomer
        self.previous = last if self.has_model else ""
        self.keeps_copy_of = first if io.worker.id == last and not self.has_model and not io.joined_late else ""

    async def receive_model(self, io: IO) -> None:
        """Receive the model; the first trainer has it at the start.

        Raises:
            Break: The model is final.
        """
        if self.keeps_copy_of:
            first, self.keeps_copy_of = self.keeps_copy_of, ""
            await self.pass_on(io, confirms=first)
        while not self.has_model:
            message = await self.next_message(io)
            if message is None:
                await self.send_copy(io)
            elif self.is_new(message):
                self.previous, self.visit = message.sender, message.value.visit
                self.replace_state(io, message.sender, message.value.state)
                self.has_model = not (message.value.is_copy and self.is_newcomer)
                self.count_copied(io, message.value)
                if message.value.last:
                    raise Break
                if not self.has_model:  # it can't know whether the model is beyond it
                    self.follower = ""
                    await self.send_copy(io)
        self.has_model = self.is_newcomer = False
        self.task = self.own_task(io, (io.worker.id,))

    async def next_message(self, io: IO) -> Message | None:
        """Return the next message; None if its follower has left."""
        port = self.port(io)
        if self.visit == NEVER:
            return await self.welcome(io, self.is_new)
        if port.peek() is not None:
            return await port.recv()
        if self.follower not in port.peers():
            return None
        return await port.first(io.plan.peers(io.worker, port.channel.name), watched=[self.follower])

    async def send_copy(self, io: IO) -> None:
        """If its follower has left, send its model to the next one, or go on alone."""
        port, own, count = self.port(io), self.members.index(io.worker.id), len(self.members)
        if self.visit == NEVER or self.follower in port.peers():
            return
        distance = next(n for n in range(1, count + 1) if self.members[(own + n) % count] in present_members(io, port))
        self.follower = self.members[(own + distance) % count]
        copy = Handover(self.visit + distance - 1, self.state, is_copy=True)
        if self.follower == io.worker.id:
            self.visit, self.has_model = copy.visit, True
            self.count_copied(io, copy)
        else:
            await port.send(copy, to=self.follower)

    def count_copied(self, io: IO, model: Handover) -> None:
        """Set the number of the round by the visits of a model; report the round that ended with who has left."""
        done, before = max(0, model.visit) // len(self.members), self.version
        self.memory["round"] = done
        if model.is_copy and self.has_model and done > before:
            self.report_round(io, self.state, done)

    def is_new(self, message: Message) -> bool:
        """Return whether a message is the model, with at least as many visits as when it was last here."""
        value = message.value
        if not isinstance(value, Handover) or value.state is None:
            return False
        return value.visit > self.visit or (value.visit == self.visit and not value.is_copy)

    def is_stale(self, message: Message) -> bool:
        """Return whether a message is of no further use."""
        return not isinstance(message.value, Handover) or message.value.visit < self.visit

    def complete_round(self, io: IO) -> None:
        """Count the visit; the last trainer of a cycle evaluates the model."""
        self.count_visit(io)

    def count_visit(self, io: IO) -> None:
        """Count a visit; the last one of a cycle completes a round."""
        self.visit += 1
        self.memory["round"], remainder = divmod(self.visit, len(self.members))
        if not remainder:
            self.report_round(io, self.state, self.version, loss=self.update.loss)

    async def hand_on(self, io: IO) -> None:
        """Confirm the training, and send the model to the next trainer that confirms its own.

        Raises:
            Break: The last round is completed.
        """
        if self.previous in self.port(io).peers():
            await self.port(io).send(Handover(self.visit, None), to=self.previous)
        await self.pass_on(io)

    async def pass_on(self, io: IO, confirms: str = "") -> None:
        """Send the model to the next trainer that confirms its training; keep it if there is none.

        Args:
            io: The worker's interface.
            confirms: The trainer that has the model already.

        Raises:
            Break: The last round is completed.
        """
        port, own, count = self.port(io), self.members.index(io.worker.id), len(self.members)
        begin = (self.members.index(confirms) - own) % count if confirms else 1
        for distance in range(begin, count):
            self.is_final = self.finished(io)
            if self.is_final:
                raise Break
            following = self.members[(own + distance) % count]
            if following in port.peers():
                self.follower = following
                if following != confirms:
                    await port.send(Handover(self.visit, self.state), to=following)
                message = await self.receive_matching(io, {following}, self.is_receipt, self.timeout_s)
                if message is not None:
                    return
                io.log("missing", round=self.version + 1, peers=[following])
            self.count_visit(io)  # a skipped trainer counts as visited, so that a cycle remains a round
        self.is_final = self.finished(io)
        if self.is_final:
            raise Break
        self.has_model = True

    def is_receipt(self, message: Message) -> bool:
        """Return whether a message confirms the training of the next trainer."""
        value = message.value
        return isinstance(value, Handover) and value.state is None and value.visit > self.visit

    async def send_final(self, io: IO) -> None:
        """Send the final model to all if this was the last trainer."""
        if self.is_final:
            await self.port(io).broadcast(Handover(self.visit, self.state, last=True))


@dataclass(frozen=True, slots=True, eq=False)
class SwarmMean:
    """The mean of a round, sent by the trainer whose turn it was.

    Attributes:
        update: The mean of all models.
        members: All trainers of the next round, in the order of their turns, if some have joined; otherwise as before.
    """

    update: Update
    members: tuple[str, ...] = ()


@dataclass(eq=False)
class SwarmTrainer(PeerTrainer):
    """The trainers take turns at averaging the models of all (swarm learning: Warnat-Herresthal et al., Nature 2021).

    A trainer that does not receive the mean in time keeps its own model, which is logged. Who joins late waits for a
    mean, takes part from the next round on, and has its turn after the others.
    """

    steps = PeerTrainer.steps.replace("apply_update", "share", "spread").after("load", "join")
    function_tags: ClassVar[tuple[str, ...]] = ("share", "spread")

    async def join(self, io: IO) -> None:
        """Begin with the trainers that are present; who joins late waits for a mean."""
        self.memory["members"] = present_members(io, self.port(io))
        message = await self.welcome(io, partial(self.is_invitation, io.worker.id))
        if message is not None:
            self.memory |= {"members": message.value.members, "round": message.value.update.base + 1}
            self.replace_state(io, message.sender, message.value.update.delta)

    def is_invitation(self, own: str, message: Message) -> bool:
        """Return whether a message is a mean after which the trainer is to take part."""
        return isinstance(message.value, SwarmMean) and own in message.value.members

    def members(self, io: IO) -> tuple[str, ...]:
        """Return the trainers in the order of their turns."""
        members: tuple[str, ...] = self.memory["members"]
        return members

    def leader(self, io: IO) -> str:
        """Return the trainer that averages in this round."""
        members = self.members(io)
        return members[self.version % len(members)]

    async def share(self, io: IO) -> None:
        """Send its model to the leader."""
        trained = add_delta(self.state, self.update.delta)
        self.shared = Update(trained, {self.full: self.update.weight}, base=self.version)
        if io.worker.id != self.leader(io) and self.leader(io) in self.port(io).peers():
            await self.port(io).send(self.shared, to=self.leader(io))

    @property
    def full(self) -> str:
        """The id under which full models are averaged."""
        return self.job.context.space.largest.id

    async def spread(self, io: IO) -> None:
        """As the leader, send the mean; otherwise receive it."""
        leader = self.leader(io)
        if io.worker.id == leader:
            await self.lead(io)
            return
        message = None
        if leader in self.port(io).peers():
            message = await self.receive_matching(io, {leader}, self.is_mean, self.timeout_s)
        self.memory["state"] = self.shared.delta
        if message is None:
            io.log("missing", round=self.version + 1, peers=[leader])
        else:
            self.replace_state(io, message.sender, message.value.update.delta)
            self.memory["members"] = message.value.members or self.members(io)

    async def lead(self, io: IO) -> None:
        """Average all models that arrive in time, and send the mean to all."""
        models = {io.worker.id: self.shared}
        while missing := set(self.port(io).peers(self.members(io))) - set(models):
            message = await self.receive_matching(io, missing, self.is_model, self.timeout_s)
            if message is not None:
                models[message.sender] = message.value
            elif missing.issubset(self.port(io).peers()):
                io.log("missing", round=self.version + 1, peers=sorted(missing, key=plan_order))
                break
        total = UpdateSum(self.job.context.subnet_shapes)
        for peer in sorted(models, key=plan_order):
            try:
                total.add(models[peer])
            except DataError as error:
                io.log("refused", sender=peer, round=self.version + 1, why=str(error))
        if total.weights:
            self.memory["state"] = total.mean(self.state).delta
        newcomers = tuple(peer for peer in self.port(io).peers() if peer not in self.members(io))
        if newcomers and self.version + 1 < self.job.rounds:
            self.memory["members"] = (*self.members(io), *newcomers)
        members = self.members(io) if newcomers else ()
        await self.port(io).broadcast(SwarmMean(Update(self.state, {self.full: 1.0}, 0, base=self.version), members))

    def is_model(self, message: Message) -> bool:
        """Return whether a message is the model of a trainer in this round."""
        return isinstance(message.value, Update) and message.value.base == self.version

    def is_mean(self, message: Message) -> bool:
        """Return whether a message is the mean of this round."""
        return isinstance(message.value, SwarmMean) and message.value.update.base == self.version

    def is_stale(self, message: Message) -> bool:
        """Return whether a message belongs to an earlier round."""
        value = message.value.update if isinstance(message.value, SwarmMean) else message.value
        return not isinstance(value, Update) or value.base < self.version
