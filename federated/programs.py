"""Classical federated learning: trainers, one aggregator, and aggregators in the middle, of which trees are made.

All other topologies derive their programs from these.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from federated.averaging import Sum, Update
from federated.compression import opened
from federated.job import Member, Task, controls
from federated.local import Momentum, Settings
from federated.privacy import counted
from sim.base.errors import DataError, SpecError
from sim.base.parameters import NonNegative, Parameters, Positive, PositiveInt
from sim.base.units import NS_PER_S
from topology.program import Break
from topology.selection import RandomPeers
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from federated.averaging import State
    from topology.io import IO
    from topology.message import Message


@dataclass(eq=False)
class Trainer(Parameters, Member):
    """Gets a model, trains it on its own examples, and sends by how much it changed; until it is dismissed.

    Attributes:
        epochs: How many times it goes through its examples in a round.
        batch: Examples in a step.
        rate: The learning rate.
        momentum: Of the steps.
        decay: Weight decay.
    """

    steps = Steps("load", Loop("fetch", "train", "upload", until="never"))
    function_tags: ClassVar[tuple[str, ...]] = ("fetch", "upload")
    receives_first: ClassVar[tuple[str, ...]] = ("fetch",)
    never = False

    epochs: PositiveInt = 1
    batch: PositiveInt = 32
    rate: Positive = 0.1
    momentum: Momentum = 0.0
    decay: NonNegative = 0.0

    @property
    def settings(self) -> Settings:
        """How it trains."""
        return Settings(self.epochs, self.batch, self.rate, self.momentum, self.decay)

    def load(self, io: IO) -> None:
        """Remember, and see whether it can take part.

        Raises:
            SpecError: It has no data, or the algorithm wants steps without momentum.
        """
        super().load(io)
        self.dataset(io)
        if self.job.algorithm.plain and self.momentum:
            what = f"{type(self.job.algorithm).__name__} follows plain steps"
            raise SpecError(f"{io.worker.id}, momentum", what, f"{self.momentum:g}", "0")

    async def fetch(self, io: IO) -> None:
        """Take the newest model that has come."""
        self.message = await io["fetch"].recv()
        while (newer := io["fetch"].peek()) is not None:
            self.message = await io["fetch"].recv(newer.sender)
        self.heed()

    def heed(self) -> None:
        """Take the task out of the message.

        Raises:
            Break: It is dismissed.
        """
        if self.message.value is None:
            raise Break
        self.task: Task = self.message.value

    async def train(self, io: IO) -> None:
        """Train, for as long as the machine takes."""
        seconds = self.job.seconds(self.dataset(io), self.task.subnet, self.settings)
        self.update: Update = await io.compute(
            self.job.train, self.dataset(io), self.task, self.memory, self.settings, seconds=seconds
        )

    async def upload(self, io: IO) -> None:
        """Send the update to whom the model came from."""
        await io["upload"].send(self.update, to=self.message.sender)


@dataclass(eq=False)
class Aggregator(Parameters, Member):
    """Holds the model: each round it sends it to those that its selector chooses, and takes the mean of their updates.

    The mean is over those who answer. An update that is damaged is refused, one that comes too late for its round is
    left out, and both are logged, as is who did not answer.

    Attributes:
        timeout_s: How long it waits for updates in a round, in seconds; None for as long as the engine is patient.
    """

    steps = Steps("load", Loop("distribute", "collect", "average", "step", until="over"), "dismiss")
    function_tags: ClassVar[tuple[str, ...]] = ("distribute", "aggregate")

    timeout_s: Positive | None = None

    def load(self, io: IO) -> None:
        """Remember; the first time, begin with the initial model."""
        super().load(io)
        if "state" not in self.memory:
            self.memory |= {"state": self.job.initial(), "round": 0}

    @property
    def state(self) -> State:
        """The model."""
        state: State = self.memory["state"]
        return state

    @property
    def version(self) -> int:
        """How many rounds are done."""
        done: int = self.memory["round"]
        return done

    def over(self, io: IO) -> bool:
        """Return whether it is time to end, or to rest."""
        return self.version >= self.job.end

    async def distribute(self, io: IO) -> None:
        """Send the model.

        Raises:
            Break: Nobody is left.
        """
        port = io["distribute"]
        there = await port.join(timeout_s=self.timeout_s, among=self.due(io))
        self.asked = port.choose(there)
        if not self.asked:
            io.log("alone", round=self.version + 1)
            raise Break
        by_chance = (
            isinstance(port.selector, RandomPeers) and port.channel.peer_of(io.worker.role) in self.job.data_roles
        )
        self.drawn = len(self.asked) / len(there) if by_chance else 1.0
        self.sent_ns = io.now_ns
        for task, same in groupby(self.tasks(io, self.asked).items(), itemgetter(1)):
            await port.broadcast(task, to=[peer for peer, _ in same])

    def due(self, io: IO) -> tuple[str, ...]:
        """Return those who belong to it, there or not: with replicas, each has a part of them."""
        return io["distribute"].share()

    def own(self, io: IO) -> tuple[str, ...]:
        """Return those who belong to it and are there."""
        return io["distribute"].peers(self.due(io))

    def tasks(self, io: IO, peers: tuple[str, ...]) -> dict[str, Task]:
        """Return what each peer is to do."""
        port = io["distribute"]
        if port.channel.peer_of(io.worker.role) not in self.job.data_roles:
            whole = {**self.state, **controls(self.control())}
            return dict.fromkeys(peers, Task(self.version, "", whole))
        rule = self.memory.setdefault("rule", {})
        chance = self.job.chance("assignment", io.worker.id, self.version)
        subnets = self.job.rule.assign(peers, self.job.space, rule, chance)
        tasks = {subnet: self.task(subnet) for subnet in set(subnets.values())}
        return {peer: tasks[subnet] for peer, subnet in subnets.items()}

    def task(self, subnet: str) -> Task:
        """Return the task of training a subnet."""
        control = self.control()
        state = self.job.cut(self.state, subnet)
        return Task(self.version, subnet, {**state, **controls(self.job.cut(control, subnet))} if control else state)

    def control(self) -> State:
        """Return the control variates of all, if the algorithm has any."""
        if not self.job.algorithm.controls:
            return {}
        held: State = self.memory.setdefault("algorithm", {}).setdefault(
            "control", {name: torch.zeros_like(part) for name, part in self.state.items()}
        )
        return held

    async def collect(self, io: IO) -> None:
        """Take the updates of this round, in the order of those who were asked."""
        came = {message.sender: message async for message in self.answers(io, self.asked)}
        self.begin()
        for peer in self.asked:
            if peer in came:
                self.take(io, came[peer])
        self.missed(io, came)

    def begin(self) -> None:
        """Start sums anew: of those who trained the largest subnet, and of the others."""
        self.largest, self.others = Sum(self.job.extents), Sum(self.job.extents)
        self.taken = 0

    async def answers(self, io: IO, asked: tuple[str, ...]) -> AsyncIterator[Message]:
        """Yield the updates of this round in the order of arrival, and log those of earlier rounds."""
        missing, port = set(asked), io["aggregate"]
        until_ns = None if self.timeout_s is None else io.now_ns + round(self.timeout_s * NS_PER_S)
        again = True
        while again and missing:
            again = False
            left_s = None if until_ns is None else max(0.0, (until_ns - io.now_ns) / NS_PER_S)
            async for message in port.stream(tuple(peer for peer in asked if peer in missing), timeout_s=left_s):
                if getattr(message.value, "base", self.version) != self.version:
                    io.log("late", sender=message.sender, base=message.value.base, round=self.version + 1)
                    again = True  # its answer to this round is still to come
                    continue
                missing.discard(message.sender)
                yield message

    def missed(self, io: IO, came: Mapping[str, Any]) -> None:
        """Log who did not answer."""
        missing = [peer for peer in self.asked if peer not in came]
        if missing:
            io.log("missing", round=self.version + 1, peers=missing)

    def take(self, io: IO, message: Message) -> None:
        """Add an update to its sum, or refuse it; take note of what selectors look at."""
        update = message.value
        note = io["distribute"].peer_stats.setdefault(message.sender, {})
        if not isinstance(update, Update) or not update.weights:
            why = "nothing to add" if isinstance(update, Update) else f"is no update but {type(update).__name__}"
            io.log("refused", sender=message.sender, round=self.version + 1, why=why)
            return
        try:
            plain = opened(update)
            largest = set(plain.weights) == {self.job.space.largest.id}
            (self.largest if largest else self.others).add(plain)
        except (DataError, RuntimeError, AttributeError, TypeError, IndexError) as error:
            io.log("refused", sender=message.sender, round=self.version + 1, why=str(error))
            return
        self.taken += 1
        seconds = (message.arrived_ns - self.sent_ns) / NS_PER_S
        note |= {"loss": plain.loss, "utility": plain.weight * plain.energy**0.5, "seconds": seconds, "of": plain.of}
        note |= {"round": self.version + 1, "load": note.get("load", 0) + 1}

    async def average(self, io: IO) -> None:
        """Take the mean, for as long as the machine takes."""
        seconds = self.job.averaging_seconds(self.taken)
        self.mean: Update | None = await io.compute(self.averaged, io, seconds=seconds)

    def averaged(self, io: IO) -> Update | None:
        """Return the mean of what has been taken; None if nothing has."""
        total = self.job.weighed(self.largest, self.others, self.version)
        if not total.weights:
            return None
        notes = io["distribute"].peer_stats
        total.of = max(total.parties, sum(notes.get(peer, {}).get("of", 1) for peer in self.own(io)))
        return total.mean(self.state, self.version)

    def step(self, io: IO) -> None:
        """Make the next model of the mean; without any update it stays as it is.

        The shares of all weight that the smallest and the largest subnet have had are noted: who has little starves.
        """
        loss = float("nan")
        more: dict[str, Any] = {}
        if self.mean is None:
            io.log("unchanged", round=self.version + 1)
        else:
            mean = self.mean
            loss = mean.loss
            if self.job.privacy is not None:
                mean, more = self.privately(mean, io)
            self.advance(mean)
            ends = {"smallest": self.job.space.smallest.id, "largest": self.job.space.largest.id}
            more["parties"] = mean.parties
            more |= {end: mean.weights.get(subnet, 0.0) / mean.weight for end, subnet in ends.items()}
        self.memory["round"] = self.version + 1
        self.note(io, self.state, self.version, loss=loss, **more)

    def privately(self, mean: Update, io: IO) -> tuple[Update, dict[str, Any]]:
        """Return the mean with noise, and the privacy that is spent."""
        privacy = self.job.privacy
        if privacy is None:
            return mean, {}
        chance = self.job.chance("privacy", io.worker.id, self.version)
        history = counted(self.memory.get("privacy", []), self.drawn)
        self.memory["privacy"] = history
        return privacy.noisy(mean, self.job.extents, chance), {"epsilon": privacy.epsilon(history)}

    def advance(self, mean: Update) -> None:
        """Let the algorithm make the next model."""
        covered: State = {}
        for name, part in mean.change.items():
            mass = self.job.extents.mass(name, mean.weights)
            covered[name] = mass[tuple(map(slice, part.shape))] > 0
        own = self.memory.setdefault("algorithm", {})
        self.memory["state"] = self.job.algorithm.step(own, self.state, mean, covered)

    async def dismiss(self, io: IO) -> None:
        """Tell all of its own that there is nothing more to do."""
        await io["distribute"].broadcast(None, to=self.own(io))


@dataclass(eq=False)
class EagerAggregator(Aggregator):
    """Adds each update when it comes instead of keeping all until the last one has; the mean is the same."""

    async def collect(self, io: IO) -> None:
        """Take the updates of this round in the order of their arrival."""
        self.begin()
        came: dict[str, bool] = {}
        async for message in self.answers(io, self.asked):
            self.take(io, message)
            came[message.sender] = True
        self.missed(io, came)


@dataclass(eq=False)
class Middle(Aggregator):
    """Between the holder of the model and others, in a tree of any depth: passes the model on, and the mean back."""

    steps = Aggregator.steps.before("distribute", "fetch").replace("step", "upload")
    function_tags: ClassVar[tuple[str, ...]] = (*Aggregator.function_tags, "fetch", "upload")
    receives_first: ClassVar[tuple[str, ...]] = ("fetch",)

    def load(self, io: IO) -> None:
        """Remember; it has no model of its own."""
        Member.load(self, io)

    @property
    def state(self) -> State:
        """The model that it was sent."""
        return {name: part for name, part in self.given.state.items() if ":" not in name}

    @property
    def version(self) -> int:
        """The version of the model that it was sent."""
        return self.given.version

    def control(self) -> State:
        """Return the control variates that it was sent."""
        return {name.partition(":")[2]: part for name, part in self.given.state.items() if ":" in name}

    def over(self, io: IO) -> bool:
        """Return that it never ends by itself."""
        return False

    async def fetch(self, io: IO) -> None:
        """Take the newest model that has come.

        Raises:
            Break: It is dismissed.
        """
        self.message = await io["fetch"].recv()
        while (newer := io["fetch"].peek()) is not None:
            self.message = await io["fetch"].recv(newer.sender)
        if self.message.value is None:
            raise Break
        self.given: Task = self.message.value

    async def upload(self, io: IO) -> None:
        """Send the mean to whom the model came from; an update of nobody if there is none."""
        nothing = Update({}, {}, 0, 0, base=self.version)
        await io["upload"].send(nothing if self.mean is None else self.mean, to=self.message.sender)


@dataclass(eq=False)
class EagerMiddle(Middle):
    """Adds each update when it comes."""

    collect = EagerAggregator.collect
