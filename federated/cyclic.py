"""One model on its way from trainer to trainer, and a swarm in which another takes the mean in each round."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from federated.averaging import Sum, Update
from federated.decentralised import Peer, added, checked, rank_key, ranked
from sim.base.errors import DataError
from topology.program import Break
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from federated.averaging import State
    from topology.io import IO
    from topology.message import Message


_ROUND = Loop("wait", "train", "adopt", "note_round", "hand_on", until="never")


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """The model on its way.

    Attributes:
        visit: How many trainings it has had.
        state: The model; None says to whom handed it on that the next training is done.
        last: Whether it has gone round often enough.
    """

    visit: int
    state: Any
    last: bool = False

    @property
    def nbytes(self) -> int:
        """Those of the model; of a receipt, those of a number."""
        return 8 if self.state is None else sum(int(part.nbytes) for part in self.state.values())


@dataclass(eq=False)
class CyclicTrainer(Peer):
    """Waits for the model, trains it, hands it on to the next; a round is once round (Chang et al., JAMIA 2018).

    Whoever hands it on keeps a copy until the next one says that its training is done. If that does not come within
    `timeout_s`, the one behind gets the copy, and it is logged; a model that comes twice is trained once.
    """

    steps = Steps("load", _ROUND, "tell")
    function_tags: ClassVar[tuple[str, ...]] = ("hand_on",)

    def load(self, io: IO) -> None:
        """Remember who goes round."""
        super().load(io)
        self.members: list[str] = self.memory.setdefault("members", list(ranked(io, self.port(io))))
        self.visit = self.version * len(self.members)
        present = {io.worker.id, *self.port(io).peers()}
        self.begins = io.worker.id == next(member for member in self.members if member in present)
        self.giver, self.ends = "", False

    async def wait(self, io: IO) -> None:
        """Take the model when it comes; the first of all has it in the beginning.

        Raises:
            Break: It has gone round often enough.
        """
        if not self.begins:
            message = await self.expect(io, self.is_new, self.is_old, None)
            if message is None:
                raise Break
            self.giver, self.visit = message.sender, message.value.visit
            self.memory["round"] = self.visit // len(self.members)
            try:
                self.memory["state"] = checked(message.value.state, self.state)
            except DataError as error:
                io.log("refused", sender=message.sender, round=self.version + 1, why=str(error))
            if message.value.last:
                raise Break
        self.begins = False
        self.task = self.own_task(io, (io.worker.id,))

    def is_new(self, message: Message) -> bool:
        """Return whether it is the model, and further than when it was last here."""
        value = message.value
        return isinstance(value, Passed) and value.state is not None and value.visit >= self.visit

    def is_old(self, message: Message) -> bool:
        """Return whether nobody will want a message any more."""
        return not isinstance(message.value, Passed) or message.value.visit < self.visit

    def note_round(self, io: IO) -> None:
        """Count the training; the last of a cycle measures the model."""
        self.visit += 1
        self.memory["round"], rest = divmod(self.visit, len(self.members))
        if not rest:
            self.note(io, self.state, self.version, loss=self.update.loss)

    async def hand_on(self, io: IO) -> None:
        """Say that it is done, and give the model to the next one who trains it.

        Raises:
            Break: The model has gone round often enough.
        """
        port = self.port(io)
        if self.giver in port.peers():
            await port.send(Passed(self.visit, None), to=self.giver)
        self.ends = self.version >= self.job.end
        if self.ends:
            raise Break
        own = self.members.index(io.worker.id)
        for step in range(1, len(self.members)):
            following = self.members[(own + step) % len(self.members)]
            if following not in port.peers():
                continue
            if step > 1:  # who was left out counts as visited, so that a round stays a round
                self.visit += 1
            await port.send(Passed(self.visit, self.state), to=following)
            done = await self.expect(io, partial(self.is_done, following), self.is_nothing, self.timeout_s)
            if done is not None:
                return
            io.log("missing", round=self.version + 1, peers=[following])
        io.log("alone", round=self.version + 1)
        raise Break

    def is_nothing(self, message: Message) -> bool:
        """Return that every message may be wanted later."""
        return False

    def is_done(self, who: str, message: Message) -> bool:
        """Return whether it says that the next training is done."""
        value = message.value
        return message.sender == who and isinstance(value, Passed) and value.state is None and value.visit > self.visit

    async def tell(self, io: IO) -> None:
        """Give all the model, if it has gone round often enough and this was the last to train it."""
        if self.ends:
            await self.port(io).broadcast(Passed(self.visit, self.state, last=True))


@dataclass(eq=False)
class SwarmTrainer(Peer):
    """No fixed aggregator: in each round another takes what all send, and spreads the mean (Warnat-Herresthal 2021).

    Who does not hear from it in time keeps what it has trained, and that is logged.
    """

    steps = Peer.steps.replace("adopt", "share", "spread")
    function_tags: ClassVar[tuple[str, ...]] = ("share", "spread")

    def leader(self, io: IO) -> str:
        """Return whose turn it is."""
        members: list[str] = self.memory.setdefault("members", list(ranked(io, self.port(io))))
        return members[self.version % len(members)]

    async def share(self, io: IO) -> None:
        """Send its model to whose turn it is."""
        trained = added(self.state, self.update.change)
        self.shared = Update(trained, {self.whole: self.update.weight}, base=self.version)
        if io.worker.id != self.leader(io) and self.leader(io) in self.port(io).peers():
            await self.port(io).send(self.shared, to=self.leader(io))

    @property
    def whole(self) -> str:
        """The subnet that stands for whole models."""
        return self.job.space.largest.id

    async def spread(self, io: IO) -> None:
        """Take the mean if it is its turn, and send it; hear it otherwise."""
        if io.worker.id == self.leader(io):
            await self.lead(io)
            return
        message = None
        if self.leader(io) in self.port(io).peers():
            message = await self.expect(io, self.is_mean, self.is_old, self.timeout_s)
        new = self.shared.change
        if message is None:
            io.log("missing", round=self.version + 1, peers=[self.leader(io)])
        else:
            try:
                new = checked(message.value.change, self.state)
            except DataError as error:
                io.log("refused", sender=message.sender, round=self.version + 1, why=str(error))
        self.memory["state"] = new

    async def lead(self, io: IO) -> None:
        """Take the mean of all models that come in time, and send it to all."""
        came = {io.worker.id: self.shared}
        while missing := set(self.port(io).peers()) - set(came):
            message = await self.expect(io, lambda m: self.is_shared(m, missing), self.is_old, self.timeout_s)
            if message is None:
                io.log("missing", round=self.version + 1, peers=sorted(missing, key=rank_key))
                break
            came[message.sender] = message.value
        total = Sum(self.job.extents)
        for peer in sorted(came, key=rank_key):
            try:
                total.add(came[peer])
            except DataError as error:
                io.log("refused", sender=peer, round=self.version + 1, why=str(error))
        mean: State = total.mean(self.state).change if total.weights else self.state
        self.memory["state"] = mean
        await self.port(io).broadcast(Update(mean, {self.whole: 1.0}, 0, base=self.version))

    def is_shared(self, message: Message, missing: set[str]) -> bool:
        """Return whether it is the model of one of those who are missing, of this round."""
        value = message.value
        if not isinstance(value, Update) or message.sender not in missing:
            return False
        return (value.base, value.parties) == (self.version, 1)

    def is_mean(self, message: Message) -> bool:
        """Return whether it is the mean of this round."""
        value = message.value
        return isinstance(value, Update) and (value.base, value.parties) == (self.version, 0)

    def is_old(self, message: Message) -> bool:
        """Return whether a message is of a round that is over."""
        return not isinstance(message.value, Update) or message.value.base < self.version
