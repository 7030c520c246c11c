"""Trainers without a server: each has a model of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from federated.algorithms import FedAvg
from federated.job import ModelProgram, TrainingTask
from federated.state import add_delta, check_state
from federated.trainer import Trainer
from sim.base.errors import ClosedError, DataError, SpecError
from sim.base.parameters import Positive  # noqa: TC001 - programs are built by what their annotations say
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from topology.io import IO
    from topology.message import Message
    from topology.port import Port


@dataclass(eq=False)
class MessagingTrainer(Trainer):
    """A trainer that exchanges messages with other trainers, over the channel of its first verb.

    Attributes:
        timeout_s: Seconds to wait for a peer; None for the default timeout of the engine.
    """

    timeout_s: Positive | None = None

    def load(self, io: IO) -> None:
        """Begin without messages."""
        super().load(io)
        self.pending: list[Message] = []

    def is_stale(self, message: Message) -> bool:
        """Return whether a message is of no further use."""
        return False

    def port(self, io: IO) -> Port:
        """Return the port to the other trainers."""
        return io[self.function_tags[0]]

    async def receive_matching(
        self, io: IO, senders: Collection[str], matches: Callable[[Message], bool], timeout_s: float | None
    ) -> Message | None:
        """Return the first message of some peers that matches; None if none arrives in time, or if one of them leaves.

        Other messages of these peers are kept for later calls until they are stale.

        Args:
            io: The worker's interface.
            senders: The peers.
            matches: Whether a message is the expected one.
            timeout_s: Seconds to wait; None for the default timeout of the engine.

        Raises:
            DeadlineError: `timeout_s` is None, and the default timeout of the engine has passed.
        """
        self.pending = [message for message in self.pending if not self.is_stale(message)]
        early = next((m for m in self.pending if m.sender in senders and matches(m)), None)
        if early is not None:
            self.pending.remove(early)
            return early
        deadline = io.deadline(timeout_s)
        while True:
            message = await self.port(io).first(senders, timeout_s=deadline.left_s)
            if message is None or matches(message):
                return message
            if not self.is_stale(message):
                self.pending.append(message)


@dataclass(frozen=True, slots=True, eq=False)
class UploadRequest:
    """The aggregator's message to a trainer whose cluster has not uploaded, and one of whose ring has left.

    Attributes:
        version: Version of the model of the round.
    """

    version: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Tells other trainers that this one has joined late and waits to begin.

    Attributes:
        is_reply: Whether it answers such a message.
    """

    is_reply: bool


@dataclass(eq=False)
class PeerTrainer(MessagingTrainer, ModelProgram):
    """A trainer with a model of its own; derived classes combine it with those of other trainers."""

    steps = Steps("load", Loop("choose_subnet", "train", "apply_update", "complete_round", until="finished"))
    function_tags: ClassVar[tuple[str, ...]] = ()
    receives_first: ClassVar[tuple[str, ...]] = ()

    @property
    def current_round(self) -> int:
        """The round after the completed ones."""
        return self.version + 1

    def load(self, io: IO) -> None:
        """Begin with the initial model, and check the job.

        Raises:
            SpecError: The job has a setting that needs a server.
        """
        super().load(io)
        problem = "needs a server; in this topology each trainer has a model of its own"
        algorithm = type(self.job.algorithm)
        if algorithm.server_step is not FedAvg.server_step:
            raise SpecError("algorithm", problem, algorithm.__name__, "use fedavg or fedprox")
        rate: float = getattr(self.job.algorithm, "rate", 1.0)
        if rate != 1:
            raise SpecError("algorithm.rate", problem, f"{rate:g}", "remove it; trainers have a rate of their own")
        if self.job.context.personal:
            raise SpecError(
                "personal", problem, ", ".join(self.job.context.personal), "use a topology with an aggregator"
            )
        for name in ("privacy", "compression", "maxnet", "aggregation"):
            if getattr(self.job, name) is not None:
                raise SpecError(name, problem, "", "use a topology with an aggregator")

    async def welcome(self, io: IO, matches: Callable[[Message], bool]) -> Message | None:
        """Return the message with which a trainer that joined late begins; None if it was there from the start.

        Trainers that wait tell each other, so that none of them waits for one that waits itself.

        Raises:
            ClosedError: All others have ended, or wait as well.
        """
        port, waiting = self.port(io), set[str]()
        if not io.joined_late or not (port.peers() or port.closed):
            return None
        await port.broadcast(Waiting(is_reply=False))
        while others := set(port.peers()) - waiting:
            message = await port.first(io.plan.peers(io.worker, port.channel.name), watched=others)
            if message is not None and isinstance(message.value, Waiting):
                waiting.add(message.sender)
                if not message.value.is_reply:
                    await port.send(Waiting(is_reply=True), to=message.sender)
            elif message is not None:
                waiting.discard(message.sender)
                if matches(message):
                    return message
        raise ClosedError(f"{io.worker.id}, step {io.step}", "nobody is left whom it could join")

    def choose_subnet(self, io: IO) -> None:
        """Choose its subnet: each trainer computes the same assignment to all."""
        self.task = self.own_task(io, present_members(io, self.port(io)))

    def own_task(self, io: IO, members: tuple[str, ...]) -> TrainingTask:
        """Return its own task, given the trainers among which subnets are assigned."""
        memory, rng = self.memory.setdefault("assignment", {}), self.job.rng("assignment", "", self.version)
        subnet = self.job.assignment.assign(members, self.job.context.space, memory, rng)[io.worker.id]
        return TrainingTask(self.version, subnet, self.job.context.subnet_shapes.slice(self.state, subnet))

    def replace_state(self, io: IO, sender: str, state: Any) -> None:
        """Replace its model by a received one, or refuse that."""
        try:
            self.memory["state"] = check_state(state, self.state)
        except DataError as error:
            io.log("refused", sender=sender, round=self.version + 1, why=str(error))

    def apply_update(self, io: IO) -> None:
        """Add the delta to its model."""
        self.memory["state"] = add_delta(self.state, self.update.delta)

    def complete_round(self, io: IO) -> None:
        """Count the round; one trainer evaluates its model, the others note that it is completed."""
        self.memory["round"] = self.version + 1
        if io.is_recorder(everybody(io, self.port(io))):
            self.report_round(io, self.state, self.version, loss=self.update.loss)
        else:
            io.log("completed", round=self.version, loss=self.update.loss)


def everybody(io: IO, port: Port) -> tuple[str, ...]:
    """Return a worker and all its peers, present or not, in the order of the plan."""
    return tuple(sorted((io.worker.id, *io.plan.peers(io.worker, port.channel.name)), key=plan_order))


def present_members(io: IO, port: Port) -> tuple[str, ...]:
    """Return a worker and its present peers in the order of the plan, which is the same for all of them."""
    return tuple(sorted((io.worker.id, *port.peers()), key=plan_order))


def plan_order(id_: str) -> tuple[str, int]:
    """Return the sort key of a worker id."""
    role, _, number = id_.rpartition("/")
    return role, int(number)
