"""Coordinated training: a coordinator pairs trainers with aggregators in each round, and bypasses stragglers.

An aggregator is bypassed if the others finish sooner with its share added to theirs. With A aggregators of which one is
s times as slow per trainer, that holds if s > A / (A - 1). It is tried again after 1, 2, 4, ... rounds. The topology is
that of Daga et al. (SoCC 2023), whose published code pairs at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, ClassVar

from federated.decentralised import plan_order
from federated.job import FederatedProgram
from federated.programs import Aggregator, IntermediateAggregator
from federated.trainer import Trainer, receive_newest
from sim.base.parameters import Parameters, Positive
from topology.program import Break, Continue
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from topology.io import IO


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """The coordinator's message to a worker for a round.

    Attributes:
        version: Number of the round.
        peers: The aggregator of a trainer, the trainers of an intermediate aggregator, the aggregators of the server.
    """

    version: int
    peers: tuple[str, ...]


@dataclass(eq=False)
class CoordinatedTrainer(Trainer):
    """A trainer that asks for its aggregator in each round.

    Attributes:
        timeout_s: Seconds to wait for the model before it asks again.
    """

    steps = Trainer.steps.before("fetch", "ask")
    function_tags: ClassVar[tuple[str, ...]] = (*Trainer.function_tags, "ask")
    receives_first: ClassVar[tuple[str, ...]] = ("ask",)

    timeout_s: Positive | None = None

    async def ask(self, io: IO) -> None:
        """Receive its aggregator.

        Raises:
            Break: It is dismissed.
        """
        self.pairing = (await receive_newest(io, "ask")).value

    async def fetch(self, io: IO) -> None:
        """Receive the model of this round from its aggregator.

        Raises:
            Continue: No model arrives in time, or the aggregator has left.
        """
        while True:
            message = await io["fetch"].first(self.pairing.peers, timeout_s=self.timeout_s)
            if message is None:
                io.log("missing", round=self.pairing.version + 1, peers=list(self.pairing.peers))
                raise Continue
            if message.value is not None and message.value.version >= self.pairing.version:
                break
        self.message, self.task = message, message.value


@dataclass(eq=False)
class CoordinatedIntermediateAggregator(IntermediateAggregator):
    """An intermediate aggregator that asks for its trainers in each round; it has none while it is bypassed."""

    steps = IntermediateAggregator.steps.before("fetch", "ask")
    function_tags: ClassVar[tuple[str, ...]] = (*IntermediateAggregator.function_tags, "ask")
    receives_first: ClassVar[tuple[str, ...]] = ("ask",)
    selects: ClassVar[bool] = False
    pairing = Pairing(0, ())

    async def ask(self, io: IO) -> None:
        """Receive its trainers.

        Raises:
            Continue: It is bypassed.
        """
        self.pairing = (await receive_newest(io, "ask")).value
        if not self.pairing.peers:
            raise Continue

    def assigned_peers(self, io: IO) -> tuple[str, ...]:
        """Return its trainers of this round."""
        return self.pairing.peers


@dataclass(eq=False)
class CoordinatedAggregator(Aggregator):
    """A server that asks for the aggregators of each round, and reports how long each of them took."""

    steps = Aggregator.steps.before("distribute", "ask").after("collect", "report_times")
    function_tags: ClassVar[tuple[str, ...]] = (*Aggregator.function_tags, "ask")
    selects: ClassVar[bool] = False

    async def ask(self, io: IO) -> None:
        """Announce the round, and receive its aggregators."""
        await io["ask"].send(self.version)
        self.pairing: Pairing = (await receive_newest(io, "ask")).value

    def assigned_peers(self, io: IO) -> tuple[str, ...]:
        """Return the aggregators of this round."""
        return self.pairing.peers

    async def distribute(self, io: IO) -> None:
        """Send the model; if all aggregators of this round have left, the round goes on without updates.

        Raises:
            Break: No aggregator is left at all.
        """
        try:
            await super().distribute(io)
        except Break:
            if not io["distribute"].peers():
                raise

    async def report_times(self, io: IO) -> None:
        """Send the seconds that each aggregator took, infinity for those that did not answer."""
        stats = io["distribute"].peer_stats
        answered = [peer for peer in self.selected if stats.get(peer, {}).get("round") == self.version + 1]
        seconds = {peer: stats[peer]["seconds"] for peer in answered}
        await io["ask"].send(dict.fromkeys(self.selected, math.inf) | seconds)

    async def dismiss(self, io: IO) -> None:
        """Dismiss the coordinator, which dismisses all others."""
        await io["ask"].send(None)


@dataclass(eq=False)
class Coordinator(Parameters, FederatedProgram):
    """Distributes trainers evenly among aggregators, and bypasses aggregators that straggle.

    Attributes:
        timeout_s: Seconds to wait for the messages of the server.
    """

    steps = Steps("load", Loop("receive_round", "pair", "receive_times", until="never"), "dismiss")
    function_tags: ClassVar[tuple[str, ...]] = ("advise_trainers", "advise_middles", "advise_top")
    receives_first: ClassVar[tuple[str, ...]] = ("advise_top",)
    never = False

    timeout_s: Positive | None = None

    def load(self, io: IO) -> None:
        """Begin: remember until when aggregators are bypassed, and for how many rounds the last time."""
        super().load(io)
        self.memory |= {"bypassed_until": {}, "bypassed_rounds": {}}

    @property
    def current_round(self) -> int:
        """The round that the server announced last."""
        return self.round + 1 if hasattr(self, "round") else 0

    async def receive_round(self, io: IO) -> None:
        """Receive the server's announcement of a round.

        Raises:
            Break: The server has ended.
        """
        message = await io["advise_top"].recv(timeout_s=self.timeout_s)
        if message.value is None:
            raise Break
        self.round: int = message.value

    async def pair(self, io: IO) -> None:
        """Send each worker its peers of this round."""
        number, bypassed_until = self.round, self.memory["bypassed_until"]
        aggregators = sorted(await io["advise_middles"].join(timeout_s=self.timeout_s), key=plan_order)
        trainers = sorted(await io["advise_trainers"].join(timeout_s=self.timeout_s), key=plan_order)
        if not aggregators or not trainers:
            io.log("no peers", round=number + 1)
            raise Break
        used = [id_ for id_ in aggregators if bypassed_until.get(id_, 0) <= number] or aggregators
        groups: dict[str, list[str]] = {id_: [] for id_ in aggregators}
        for index, trainer in enumerate(trainers):
            groups[used[(index + number) % len(used)]].append(trainer)
        self.loads = {id_: len(group) for id_, group in groups.items() if group}
        await io["advise_top"].broadcast(Pairing(number, tuple(self.loads)))
        for id_, group in groups.items():
            await io["advise_middles"].send(Pairing(number, tuple(group)), to=id_)
            for trainer in group:
                await io["advise_trainers"].send(Pairing(number, (id_,)), to=trainer)
        io.log("paired", round=number + 1, loads=self.loads)

    async def receive_times(self, io: IO) -> None:
        """Receive the duration of each aggregator, and decide which to bypass."""
        message = await io["advise_top"].recv(timeout_s=self.timeout_s)
        rounds = self.memory["bypassed_rounds"]
        durations = {id_: seconds / self.loads[id_] for id_, seconds in message.value.items()}  # per trainer
        for id_, seconds in durations.items():
            others = [duration for other, duration in durations.items() if other != id_ and math.isfinite(duration)]
            usual = median(others) if others else self.memory.get("usual_s", seconds)
            count = len(io["advise_middles"].peers())
            if count > 1 and seconds > usual * count / (count - 1):
                rounds[id_] = 2 * rounds.get(id_, 0) or 1
                self.memory["bypassed_until"][id_] = self.round + 1 + rounds[id_]
                fields = {"times_as_slow": seconds / usual, "rounds": rounds[id_]}
                io.log("bypassed", round=self.round + 1, worker=id_, **fields)
            else:
                rounds.pop(id_, None)
                if math.isfinite(seconds):
                    self.memory["usual_s"] = seconds

    async def dismiss(self, io: IO) -> None:
        """Dismiss trainers and intermediate aggregators."""
        for verb in ("advise_trainers", "advise_middles"):
            await io[verb].broadcast(None)
