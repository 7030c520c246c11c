"""Buffered asynchronous training: no round waits for the slowest client (FedBuff: Nguyen et al., AISTATS 2022).

A client that has sent its update receives the newest model at once. Each `buffer` updates make a new version of the
model; an update that began s versions ago has the weight 1 / sqrt(1 + s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from federated.averaging import Update, UpdateSum
from federated.compression import decompress_update
from federated.programs import INVALID, Aggregator
from sim.base.errors import SpecError, TrainingError
from sim.base.parameters import PositiveInt  # noqa: TC001 - programs are built by what their annotations say
from sim.base.units import NS_PER_S
from topology.program import Break

if TYPE_CHECKING:
    from topology.io import IO
    from topology.message import Message

_TRIES = 3
"""After so many updates of each client that were refused in a row, a training ends."""


@dataclass(eq=False)
class AsyncAggregator(Aggregator):
    """A server that sends the model to each client that is free. Its trainers are those of classical training.

    Clients are selected among the free ones; a selector's `k` is how many train at once.
    It ends with the last version: the content of the buffer and outstanding updates are discarded, which is logged. A
    client that does not answer within `timeout_s` is given up, which is logged.

    Attributes:
        buffer: Updates in a version, the paper's K.
        concurrency: Maximum number of clients that train at once; None for all, or for the `k` of the selector.
    """

    steps = Aggregator.steps.replace("distribute", "dispatch").replace("collect", "receive")

    has_participation: ClassVar[bool] = False

    buffer: PositiveInt = 4
    concurrency: PositiveInt | None = None

    def load(self, io: IO) -> None:
        """Begin with the initial model and an empty buffer.

        Raises:
            SpecError: The job has a setting that needs synchronous rounds.
        """
        super().load(io)
        problem = "needs synchronous rounds; this topology is asynchronous"
        for name in ("maxnet", "privacy", "aggregation"):
            if getattr(self.job, name) is not None:
                raise SpecError(name, problem, "", "remove it")
        if self.job.algorithm.uses_control_variates:
            raise SpecError("algorithm", problem, type(self.job.algorithm).__name__, "use fedavg")
        self.outstanding: dict[str, int] = {}  # how many times each client had left when it was sent the model
        self.begun_ns: dict[str, dict[int, int]] = {}  # when each client was sent a version that it has not answered
        self.refusals: dict[str, int] = {}  # since the last update that was used
        self.reset_buffer()

    def reset_buffer(self) -> None:
        """Empty the buffer."""
        self.others, self.scales, self.buffered = UpdateSum(self.job.context.subnet_shapes), 0.0, 0

    async def dispatch(self, io: IO) -> None:
        """Send the newest model to free clients, up to the maximum concurrency.

        Raises:
            Break: No client is left.
        """
        port = io["distribute"]
        for peer in [peer for peer, count in self.outstanding.items() if port.absences(peer) != count]:
            if peer in port.peers():  # it came back without the model
                del self.outstanding[peer], self.begun_ns[peer]
        if not self.outstanding:
            await port.join(timeout_s=self.timeout_s, among=self.assigned_peers(io))
        selected = self.selected_free(io)
        for peer, task in self.tasks(io, tuple(peer for peer in port.peers() if peer in selected)).items():
            self.outstanding[peer] = port.absences(peer)
            self.begun_ns.setdefault(peer, {}).setdefault(task.version, io.now_ns)
            await port.send(task, to=peer)
        if not self.outstanding:
            io.log("no peers", round=self.version + 1)
            raise Break

    def selected_free(self, io: IO) -> set[str]:
        """Return the clients that begin to train, among those that do not."""
        port = io["distribute"]
        selector: Any = port.selector
        free = tuple(peer for peer in self.present_peers(io) if peer not in self.outstanding)
        has_k = isinstance(getattr(selector, "k", None), int)
        limits = [limit for limit in (self.concurrency, selector.k if has_k else None) if limit is not None]
        places = min(limits) - len(port.peers(self.outstanding)) if limits else len(free)
        if has_k:
            return set(replace(selector, k=places).choose(free, port.peer_stats, io.rng)) if places > 0 else set()
        chosen = list(port.choose(free))
        io.rng.shuffle(chosen)
        return set(chosen[: max(0, places)])

    async def receive(self, io: IO) -> None:
        """Add the next update to the buffer; give up all outstanding ones if none arrives."""
        async for message in io["aggregate"].stream(tuple(self.outstanding), timeout_s=self.timeout_s, k=1):
            self.outstanding.pop(message.sender)
            self.add_to_buffer(io, message)
            return
        io.log("missing", round=self.version + 1, peers=list(self.outstanding))
        self.outstanding.clear()

    def add_to_buffer(self, io: IO, message: Message) -> None:
        """Add an update to the buffer, or refuse it."""
        update = message.value
        try:
            staleness = self.version - update.base
            scale = 1 / math.sqrt(1 + staleness)
            plain = decompress_update(update)
            self.others.add(replace(plain, weights=dict.fromkeys(plain.weights, 1.0)), scale)
        except INVALID as error:
            io.log("refused", sender=message.sender, round=self.version + 1, why=str(error))
            self.note_refused(io, message.sender, str(error))
            return
        self.refusals.clear()
        self.scales += scale
        self.buffered += 1
        io.log("buffered", sender=message.sender, base=update.base, staleness=staleness)
        begun_ns = self.begun_ns[message.sender]
        since_ns = begun_ns.pop(update.base, max(begun_ns.values(), default=message.sent_ns))
        seconds = (message.arrived_ns - since_ns) / NS_PER_S
        utility = plain.weight * plain.squared_loss**0.5
        stats = io["distribute"].peer_stats.setdefault(message.sender, {})
        stats |= {"loss": plain.loss, "utility": utility, "seconds": seconds, "round": self.version + 1}
        stats["load"] = stats.get("load", 0) + 1

    def note_refused(self, io: IO, sender: str, why: str) -> None:
        """Count a refused update: there may never be a next version.

        Raises:
            TrainingError: Several in a row of each client were refused.
        """
        self.refusals[sender] = self.refusals.get(sender, 0) + 1
        if all(self.refusals.get(peer, 0) >= _TRIES for peer in self.present_peers(io)):
            problem = f"the last {_TRIES} updates of each client were refused; the newest"
            hint = "if they are not finite: a smaller `rate`, or other data"
            raise TrainingError(f"{io.worker.id}, version {self.version + 1}", problem, f"{sender}: {why}", hint)

    async def average(self, io: IO) -> None:
        """Compute the mean once the buffer is full."""
        self.mean: Update | None = None
        if self.buffered >= self.buffer:
            total = self.others
            total.eligible = max(total.clients, len(self.present_peers(io)))
            seconds = self.job.costs.averaging_s(self.buffered)
            mean: Update = await io.compute(total.mean, self.state, self.version, seconds=seconds)
            ratio = self.scales / self.buffered  # the paper divides by the number of updates, not by the sum of scales
            self.mean = replace(mean, delta={name: part * ratio for name, part in mean.delta.items()})
            self.reset_buffer()

    def step(self, io: IO) -> None:
        """Compute the next version if there is a mean."""
        if self.mean is not None:
            super().step(io)

    async def dismiss(self, io: IO) -> None:
        """Dismiss its peers, and log the updates that are discarded at the end."""
        discarded = self.buffered + len(self.outstanding)
        if discarded and self.version >= self.job.rounds:
            io.log("discarded", updates=discarded)
        await super().dismiss(io)
