"""Coordinated training: a coordinator pairs trainers with aggregators for each round, and bypasses one that straggles.

An aggregator is bypassed when it takes so much longer for a trainer than the others that to load them with its part is
quicker: with A aggregators of which one is s times as slow, if s > A / (A - 1). It is tried again after 1, 2, 4, ...
rounds. (Daga et al., SoCC 2023, describe the topology; what their published code does there is to pair at random.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar

from federated.decentralised import rank_key
from federated.job import Member
from federated.programs import Aggregator, Middle, Trainer
from sim.base.parameters import Parameters, Positive
from topology.program import Break, Continue
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from topology.io import IO


@dataclass(frozen=True, slots=True, eq=False)
class Advice:
    """What the coordinator says to one for a round.

    Attributes:
        version: The number of the round.
        peers: To a trainer its aggregator, to an aggregator its trainers, to the top its aggregators.
    """

    version: int
    peers: tuple[str, ...]


@dataclass(eq=False)
class CoordinatedTrainer(Trainer):
    """Asks whom it belongs to in this round.

    Attributes:
        timeout_s: How long it waits for the model, in seconds; then it asks again.
    """

    steps = Trainer.steps.before("fetch", "ask")
    function_tags: ClassVar[tuple[str, ...]] = (*Trainer.function_tags, "ask")
    receives_first: ClassVar[tuple[str, ...]] = ("ask",)

    timeout_s: Positive | None = None

    async def ask(self, io: IO) -> None:
        """Hear to whom it belongs.

        Raises:
            Break: It is dismissed.
        """
        self.advice = await advised(io)

    async def fetch(self, io: IO) -> None:
        """Take the model of this round from its aggregator.

        Raises:
            Continue: None came in time.
        """
        while True:
            try:
                self.message = await io["fetch"].recv(self.advice.peers[0], timeout_s=self.timeout_s)
            except TimeoutError:
                if self.timeout_s is None:
                    raise
                io.log("missing", round=self.advice.version + 1, peers=list(self.advice.peers))
                raise Continue from None
            if self.message.value is not None and self.message.value.version >= self.advice.version:
                break
        self.heed()


@dataclass(eq=False)
class CoordinatedMiddle(Middle):
    """Asks who belongs to it in this round; nobody does while it is bypassed."""

    steps = Middle.steps.before("fetch", "ask")
    function_tags: ClassVar[tuple[str, ...]] = (*Middle.function_tags, "ask")
    receives_first: ClassVar[tuple[str, ...]] = ("ask",)
    advice = Advice(0, ())

    async def ask(self, io: IO) -> None:
        """Hear who belongs to it.

        Raises:
            Break: It is dismissed.
            Continue: Nobody belongs to it.
        """
        self.advice = await advised(io)
        if not self.advice.peers:
            raise Continue

    def due(self, io: IO) -> tuple[str, ...]:
        """Return those who belong to it in this round."""
        return self.advice.peers


@dataclass(eq=False)
class CoordinatedAggregator(Aggregator):
    """Says that a round begins, hears which aggregators take part, and tells afterwards how long each of them took."""

    steps = Aggregator.steps.before("distribute", "ask").after("collect", "tell")
    function_tags: ClassVar[tuple[str, ...]] = (*Aggregator.function_tags, "ask")

    async def ask(self, io: IO) -> None:
        """Say that a round begins, and hear who takes part."""
        await io["ask"].send(self.version)
        self.advice: Advice = await advised(io)

    def due(self, io: IO) -> tuple[str, ...]:
        """Return those who take part in this round."""
        return self.advice.peers

    async def tell(self, io: IO) -> None:
        """Tell how many seconds each took; a time without end for who did not answer."""
        notes = io["distribute"].peer_stats
        took = dict.fromkeys(self.asked, math.inf)
        came = [peer for peer in self.asked if notes.get(peer, {}).get("round") == self.version + 1]
        took |= {peer: notes[peer]["seconds"] for peer in came}
        await io["ask"].send(took)

    async def dismiss(self, io: IO) -> None:
        """Tell the coordinator that there is nothing more to do; it tells all others."""
        await io["ask"].send(None)


@dataclass(eq=False)
class Coordinator(Parameters, Member):
    """Pairs trainers with aggregators, so that each gets as many as the others, and bypasses who straggles.

    Attributes:
        timeout_s: How long it waits for the top to tell how a round went, in seconds.
    """

    steps = Steps("load", Loop("hear", "pair", "learn", until="never"), "dismiss")
    function_tags: ClassVar[tuple[str, ...]] = ("advise_trainers", "advise_middles", "advise_top")
    receives_first: ClassVar[tuple[str, ...]] = ("advise_top",)
    never = False

    timeout_s: Positive | None = None

    def load(self, io: IO) -> None:
        """Remember until when whom is bypassed, and who did how well."""
        super().load(io)
        for name in ("until", "times"):
            self.memory.setdefault(name, {})

    async def hear(self, io: IO) -> None:
        """Hear from the top that a round begins.

        Raises:
            Break: The top is done.
        """
        message = await io["advise_top"].recv(timeout_s=self.timeout_s)
        if message.value is None:
            raise Break
        self.turn: int = message.value

    async def pair(self, io: IO) -> None:
        """Say to each for this round whom it belongs to."""
        turn, until = self.turn, self.memory["until"]
        middles = sorted(io["advise_middles"].peers(), key=rank_key)
        trainers = sorted(io["advise_trainers"].peers(), key=rank_key)
        if not middles or not trainers:
            io.log("alone", round=turn + 1)
            raise Break
        self.used = [middle for middle in middles if until.get(middle, 0) <= turn] or middles
        mine: dict[str, list[str]] = {middle: [] for middle in middles}
        for number, trainer in enumerate(trainers):
            mine[self.used[(number + turn) % len(self.used)]].append(trainer)
        self.loads = {middle: len(each) for middle, each in mine.items() if each}
        await io["advise_top"].broadcast(Advice(turn, tuple(self.loads)))
        for middle, each in mine.items():
            await io["advise_middles"].send(Advice(turn, tuple(each)), to=middle)
            for trainer in each:
                await io["advise_trainers"].send(Advice(turn, (middle,)), to=trainer)
        io.log("paired", round=turn + 1, loads=self.loads)

    async def learn(self, io: IO) -> None:
        """Hear how long each aggregator took, and decide whom to bypass."""
        message = await io["advise_top"].recv(timeout_s=self.timeout_s)
        turn, until, times = self.turn, self.memory["until"], self.memory["times"]
        each = {middle: seconds / self.loads[middle] for middle, seconds in message.value.items()}
        for middle, seconds in each.items():
            others = [other for name, other in each.items() if name != middle and math.isfinite(other)]
            usual = median(others) if others else times.get("usual", seconds)
            count = len(io["advise_middles"].peers())
            straggles = count > 1 and seconds > usual * count / (count - 1)
            if straggles:
                wait = times[middle] = 2 * times.get(middle, 0) or 1
                until[middle] = turn + 1 + wait
                io.log("bypassed", round=turn + 1, worker=middle, times_as_slow=seconds / usual, rounds=wait)
            else:
                times.pop(middle, None)
                if math.isfinite(seconds):
                    times["usual"] = seconds

    async def dismiss(self, io: IO) -> None:
        """Tell all that there is nothing more to do."""
        for verb in ("advise_trainers", "advise_middles"):
            await io[verb].broadcast(None)


async def advised(io: IO) -> Any:
    """Return the newest advice that has come.

    Raises:
        Break: It is to end.
    """
    message = await io["ask"].recv()
    while (newer := io["ask"].peek()) is not None:
        message = await io["ask"].recv(newer.sender)
    if message.value is None:
        raise Break
    return message.value
