"""Cyclic training, where one model visits the trainers in turn, and swarms, where trainers take turns at averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from federated.averaging import Update, UpdateSum
from federated.decentralised import PeerTrainer, plan_order, present_members
from federated.state import add_delta
from sim.base.errors import DataError
from topology.program import Break
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from topology.io import IO
    from topology.message import Message


_ROUND = Loop("receive_model", "train", "apply_update", "complete_round", "hand_on", until="never")


@dataclass(frozen=True, slots=True, eq=False)
class Handover:
    """The model, sent to the next trainer; or a receipt, sent to the previous one.

    Attributes:
        visit: Number of trainings of the model so far.
        state: The model; None in a receipt, which confirms that the next training is done.
        last: Whether the model is final.
    """

    visit: int
    state: Any
    last: bool = False

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
    """

    steps = Steps("load", _ROUND, "send_final")
    function_tags: ClassVar[tuple[str, ...]] = ("hand_on",)

    def load(self, io: IO) -> None:
        """Prepare the first cycle: the first trainer that is present at the start has the model."""
        super().load(io)
        everybody = io.worker.id, *io.plan.peers(io.worker, self.port(io).channel.name)
        self.members = sorted(everybody, key=plan_order)
        self.visit, self.is_final = 0, False
        first, *_, last = (*present_members(io, self.port(io)),) * 2
        self.has_model = io.worker.id == first and not io.joined_late
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
            message = await self.port(io).recv()
            if self.is_new(message):
                self.has_model = True
                self.previous, self.visit = message.sender, message.value.visit
                self.memory["round"] = self.visit // len(self.members)
                self.replace_state(io, message.sender, message.value.state)
                if message.value.last:
                    raise Break
        self.has_model = False
        self.task = self.own_task(io, (io.worker.id,))

    def is_new(self, message: Message) -> bool:
        """Return whether a message is the model, with at least as many visits as when it was last here."""
        value = message.value
        return isinstance(value, Handover) and value.state is not None and value.visit >= self.visit

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


@dataclass(eq=False)
class SwarmTrainer(PeerTrainer):
    """The trainers take turns at averaging the models of all (swarm learning: Warnat-Herresthal et al., Nature 2021).

    A trainer that does not receive the mean in time keeps its own model, which is logged.
    """

    steps = PeerTrainer.steps.replace("apply_update", "share", "spread")
    function_tags: ClassVar[tuple[str, ...]] = ("share", "spread")

    def leader(self, io: IO) -> str:
        """Return the trainer that averages in this round."""
        members: list[str] = self.memory.setdefault("members", list(present_members(io, self.port(io))))
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
            self.replace_state(io, message.sender, message.value.delta)

    async def lead(self, io: IO) -> None:
        """Average all models that arrive in time, and send the mean to all."""
        models = {io.worker.id: self.shared}
        while missing := set(self.port(io).peers()) - set(models):
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
        await self.port(io).broadcast(Update(self.state, {self.full: 1.0}, 0, base=self.version))

    def is_model(self, message: Message) -> bool:
        """Return whether a message is the model of a trainer in this round."""
        value = message.value
        return isinstance(value, Update) and (value.base, value.clients) == (self.version, 1)

    def is_mean(self, message: Message) -> bool:
        """Return whether a message is the mean of this round."""
        value = message.value
        return isinstance(value, Update) and (value.base, value.clients) == (self.version, 0)

    def is_stale(self, message: Message) -> bool:
        """Return whether a message belongs to an earlier round."""
        return not isinstance(message.value, Update) or message.value.base < self.version
