"""Asynchronous training with a buffer: nobody waits for the slowest (FedBuff: Nguyen et al., AISTATS 2022).

Each party that has sent gets the newest model at once. When `buffer` updates have come, their mean moves the model; an
update that began s versions ago counts 1 / sqrt(1 + s) of what it would have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from federated.averaging import Sum, Update
from federated.compression import opened
from federated.programs import Aggregator
from sim.base.errors import DataError, SpecError
from sim.base.parameters import PositiveInt  # noqa: TC001 - programs are built by what their annotations say
from topology.program import Break

if TYPE_CHECKING:
    from topology.io import IO
    from topology.message import Message


@dataclass(eq=False)
class AsyncAggregator(Aggregator):
    """Holds the model, and hands it to whoever is free. Trainers are those of the classical topology, as they are.

    Before it rests or ends, it hands out nothing more and takes all that is under way; what is left in the buffer then
    is kept over a rest. At the end no version is made of it, and it is logged. A party that is silent for `timeout_s`
    is given up, and logged.

    Attributes:
        buffer: As many updates make a version (the paper's K).
        concurrency: As many parties are at work at once; None for all.
    """

    steps = Aggregator.steps.replace("distribute", "hand_out").replace("collect", "receive")

    buffer: PositiveInt = 4
    concurrency: PositiveInt | None = None

    def load(self, io: IO) -> None:
        """Remember.

        Raises:
            SpecError: The job asks for what goes by rounds.
        """
        super().load(io)
        for asked in ("maxnet", "privacy"):
            if getattr(self.job, asked) is not None:
                raise SpecError(asked, "goes by rounds, and an asynchronous training has none", "", "leave it out")
        if self.job.algorithm.controls:
            name = type(self.job.algorithm).__name__
            raise SpecError("algorithm", "goes by rounds, and an asynchronous training has none", name, "fedavg")
        self.working: dict[str, int] = {}
        self.others, self.scales, self.count = Sum(self.job.extents), 0.0, 0
        held = self.memory.pop("buffer", None)
        if held is not None:
            self.others.weights, self.others.total = dict(held["weights"]), dict(held["total"])
            self.others.parties, self.others.loss, self.scales, self.count = held["numbers"]

    def over(self, io: IO) -> bool:
        """Return whether it is time to end, or to rest, and nothing is under way."""
        return self.version >= self.job.end and not self.working

    async def hand_out(self, io: IO) -> None:
        """Give the newest model to those who are free, as many as may work at once.

        Raises:
            Break: Nobody is left.
        """
        if self.version >= self.job.end:
            return
        port = io["distribute"]
        if not self.working:
            await port.join(timeout_s=self.timeout_s, among=self.due(io))
        free = [peer for peer in port.choose(self.own(io)) if peer not in self.working]
        io.rng.shuffle(free)
        room = len(free) if self.concurrency is None else max(0, self.concurrency - len(self.working))
        chosen = set(free[:room])
        for peer, task in self.tasks(io, tuple(peer for peer in port.peers() if peer in chosen)).items():
            self.working[peer] = self.version
            self.sent_ns = io.now_ns
            await port.send(task, to=peer)
        if not self.working:
            io.log("alone", round=self.version + 1)
            raise Break

    async def receive(self, io: IO) -> None:
        """Take the next update into the buffer; give up those from whom nothing more can come."""
        async for message in io["aggregate"].stream(tuple(self.working), timeout_s=self.timeout_s, k=1):
            self.working.pop(message.sender)
            self.put(io, message)
            return
        io.log("missing", round=self.version + 1, peers=list(self.working))
        self.working.clear()

    def put(self, io: IO, message: Message) -> None:
        """Add an update to the buffer, or refuse it."""
        update = message.value
        try:
            stale = self.version - update.base
            scale = 1 / math.sqrt(1 + stale)
            plain = opened(update)
            self.others.add(replace(plain, weights=dict.fromkeys(plain.weights, 1.0)), scale)
        except (DataError, RuntimeError, AttributeError, TypeError, IndexError) as error:
            io.log("refused", sender=message.sender, round=self.version + 1, why=str(error))
            return
        self.scales += scale
        self.count += 1
        io.log("buffered", sender=message.sender, base=update.base, staleness=stale)
        note = io["distribute"].peer_stats.setdefault(message.sender, {})
        note |= {"loss": plain.loss, "utility": plain.weight * plain.energy**0.5, "round": self.version + 1}

    async def average(self, io: IO) -> None:
        """Take the mean when the buffer is full."""
        self.mean: Update | None = None
        if self.count >= self.buffer and self.version < self.job.rounds:
            total = self.others
            total.of = max(total.parties, len(self.own(io)))
            seconds = self.job.averaging_seconds(self.count)
            mean: Update = await io.compute(total.mean, self.state, self.version, seconds=seconds)
            shrink = self.scales / self.count  # the paper divides by how many there are, not by the sum of scales
            change = {name: part * shrink for name, part in mean.change.items()}
            self.mean = Update(change, mean.weights, mean.parties, mean.of, mean.loss, mean.energy, mean.base)
            self.others, self.scales, self.count = Sum(self.job.extents), 0.0, 0

    def step(self, io: IO) -> None:
        """Make the next version, if the buffer was full."""
        if self.mean is not None:
            super().step(io)

    def result(self) -> dict[str, Any]:
        """Return what is remembered, with what is in the buffer."""
        if self.count:
            numbers = [self.others.parties, self.others.loss, self.scales, self.count]
            held: dict[str, Any] = {"weights": self.others.weights, "total": self.others.total, "numbers": numbers}
            return {**self.memory, "buffer": held}
        return self.memory

    async def dismiss(self, io: IO) -> None:
        """Tell all that there is nothing more to do."""
        if self.count and self.version >= self.job.rounds:
            io.log("left over", updates=self.count)
        await super().dismiss(io)
