"""Classical federated learning: trainers, a server, and intermediate aggregators, which form trees of any depth.

The programs of all other topologies derive from these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import annotated_types as at
import torch

from federated.aggregation import combined
from federated.averaging import Update, UpdateSum
from federated.compression import decompress_update
from federated.job import FederatedProgram, ModelProgram, TrainingTask
from federated.privacy import add_round
from federated.state import State, as_controls, split_controls
from federated.trainer import Trainer, receive_newest
from sim.base.errors import DataError, SpecError
from sim.base.parameters import Parameters, Positive, PositiveInt
from sim.base.units import NS_PER_S
from topology.program import Break
from topology.selection import RandomPeers
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from topology.io import IO
    from topology.message import Message

__all__ = ["Aggregator", "EagerAggregator", "EagerIntermediateAggregator", "IntermediateAggregator", "Trainer"]

INVALID = (DataError, RuntimeError, AttributeError, TypeError, IndexError)
"""What adding a damaged update may raise."""


@dataclass(eq=False)
class Aggregator(Parameters, ModelProgram):
    """The server: in each round it sends the model to the selected clients and takes the mean of their updates.

    The mean is over the updates that arrive. Damaged updates are refused, and updates that arrive after their round are
    discarded; both are logged, and so are clients that do not answer.

    Attributes:
        timeout_s: Seconds to wait for the updates of a round; None for the default timeout of the engine.
        overcommit: The selector's `k` times this is the number of peers that are asked; the first `k` updates are used
            (Bonawitz et al., MLSys 2019: 1.3).
        min_updates: A round with fewer updates leaves the model unchanged.
        if_fewer: What is done at the timeout with fewer than `min_updates`: `skip` the round, or `wait` for them.
    """

    steps = Steps("load", Loop("distribute", "collect", "average", "step", until="finished"), "dismiss")
    function_tags: ClassVar[tuple[str, ...]] = ("distribute", "aggregate")

    has_participation: ClassVar[bool] = True  # each peer answers for itself, as `overcommit` requires
    has_stats: ClassVar[bool] = True  # each peer sends an update of its own, whose statistics selectors may use
    selects: ClassVar[bool] = True  # otherwise it needs all peers

    timeout_s: Positive | None = None
    overcommit: Annotated[float, at.Ge(1)] = 1.0
    min_updates: PositiveInt = 1
    if_fewer: Literal["skip", "wait"] = "skip"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.if_fewer == "wait" and (self.min_updates == 1 or self.timeout_s is None):
            raise SpecError("if_fewer", "not used without timeout_s and min_updates", "wait", "set both")
        given = {"overcommit": self.overcommit > 1, "min_updates": self.min_updates > 1}
        for name in (name for name, is_given in given.items() if is_given and not self.has_participation):
            problem = f"not used by {type(self).__name__}, whose clients do not answer one by one in rounds"
            raise SpecError(name, problem, f"{getattr(self, name):g}", "remove it")

    def load(self, io: IO) -> None:
        """Begin with the initial model.

        Raises:
            SpecError: `overcommit` or `min_updates` does not fit the selector.
        """
        super().load(io)
        self.begin(io)

    def begin(self, io: IO) -> None:
        """Begin without updates; otherwise as `load`."""
        self.sent_ns: dict[int, int] = {}
        selector, count = io["distribute"].selector, len(io["distribute"].share())
        k = getattr(selector, "k", None)
        if self.overcommit > 1 and not isinstance(k, int):
            problem = f"needs a selector with k, which {type(selector).__name__} does not have"
            hint = "select `random`, or remove overcommit"
            raise SpecError(f"{io.worker.id}, overcommit", problem, f"{self.overcommit:g}", hint)
        most = min(k, count) if isinstance(k, int) else count
        if self.min_updates > max(1, most):
            place, value = f"{io.worker.id}, min_updates", str(self.min_updates)
            raise SpecError(place, "more than the updates of a round", value, f"at most {most}")

    async def distribute(self, io: IO) -> None:
        """Send the model.

        Raises:
            Break: No client is left.
        """
        port = io["distribute"]
        present = await port.join(timeout_s=self.timeout_s, among=self.assigned_peers(io))
        await self.discard_late(io)
        self.select(io, present)
        if not self.selected:
            io.log("no peers", round=self.version + 1)
            raise Break
        sampled = isinstance(port.selector, RandomPeers) and self.serves_clients(io)
        self.sampled_share = len(self.selected) / len(present) if sampled else 1.0
        self.sent_ns[self.version] = io.now_ns
        io.log("selected", round=self.version + 1, peers=self.selected)
        for task, group in groupby(self.tasks(io, self.selected).items(), itemgetter(1)):
            await port.broadcast(task, to=[peer for peer, _ in group])

    def select(self, io: IO, present: tuple[str, ...]) -> None:
        """Select peers, and say how many updates are enough."""
        port = io["distribute"]
        selector: Any = port.selector
        if self.overcommit == 1:
            self.selected = port.choose(present)
            self.enough = len(self.selected)
        else:
            asked = math.ceil(round(self.overcommit * selector.k, 9))  # 1.1 * 10 is 11.000000000000002
            self.selected = replace(selector, k=asked).choose(present, port.peer_stats, io.rng)
            self.enough = min(selector.k, len(self.selected))

    def serves_clients(self, io: IO) -> bool:
        """Return whether its peers are clients, not further aggregators."""
        return io["distribute"].channel.peer_of(io.worker.role) in self.job.context.data_roles

    def assigned_peers(self, io: IO) -> tuple[str, ...]:
        """Return its peers, present or not; replicas share them."""
        return io["distribute"].share()

    def present_peers(self, io: IO) -> tuple[str, ...]:
        """Return its peers that are present."""
        return io["distribute"].peers(self.assigned_peers(io))

    def tasks(self, io: IO, peers: tuple[str, ...]) -> dict[str, TrainingTask]:
        """Return the task of each peer."""
        if not self.serves_clients(io):
            full = {**self.state, **as_controls(self.control_variates())}
            return dict.fromkeys(peers, TrainingTask(self.version, "", full))
        memory, rng = self.memory.setdefault("assignment", {}), self.job.rng("assignment", io.worker.id, self.version)
        subnets = self.job.assignment.assign(peers, self.job.context.space, memory, rng)
        tasks = {subnet: self.task_for(subnet) for subnet in set(subnets.values())}
        return {peer: tasks[subnet] for peer, subnet in subnets.items()}

    def task_for(self, subnet: str) -> TrainingTask:
        """Return the task to train a subnet."""
        shapes, controls = self.job.context.subnet_shapes, self.control_variates()
        state = shapes.slice(self.state, subnet)
        if controls:
            state |= as_controls(shapes.slice(controls, subnet))
        return TrainingTask(self.version, subnet, state)

    def control_variates(self) -> State:
        """Return the server's control variates; empty if the algorithm uses none."""
        if not self.job.algorithm.uses_control_variates:
            return {}
        controls: State = self.memory.setdefault("algorithm", {}).setdefault(
            "control", {name: torch.zeros_like(part) for name, part in self.state.items()}
        )
        return controls

    async def collect(self, io: IO) -> None:
        """Receive the updates of this round, and add them in the order of the selected peers."""
        received = {message.sender: message async for message in self.answers(io, self.selected)}
        self.reset_sums()
        for peer in self.selected:
            if peer in received:
                self.add_update(io, received[peer])
        self.log_missing(io, received)

    def reset_sums(self) -> None:
        """Reset the sums of the updates of the largest subnet and of all others."""
        self.largest, self.others = (UpdateSum(self.job.context.subnet_shapes) for _ in range(2))
        self.largest_id = self.job.context.space.largest.id
        self.plain, self.added = list[Update](), 0

    async def answers(self, io: IO, peers: tuple[str, ...]) -> AsyncIterator[Message]:
        """Yield updates of this round in the order of arrival until there are enough; log those of earlier rounds."""
        missing, deadline, valid = set(peers), io.deadline(self.timeout_s), 0
        again, waits_on = True, False
        while again and missing:
            again = False
            senders = tuple(peer for peer in peers if peer in missing)
            timeout_s = None if waits_on else deadline.left_s
            async for message in io["aggregate"].stream(senders, timeout_s=timeout_s):
                if self.is_late(io, message):
                    again = True  # the peer's update of this round is still to come
                    continue
                missing.discard(message.sender)
                yield message
                valid += self.counts(message)
                if valid == (self.min_updates if waits_on else self.enough):
                    return
            if not again and not waits_on and self.if_fewer == "wait" and valid < self.min_updates:
                again = waits_on = True

    def counts(self, message: Message) -> bool:
        """Return whether an update is one of those that are enough: it would not be refused."""
        if self.enough == len(self.selected) and self.min_updates == 1:
            return True  # all are waited for
        try:
            UpdateSum(self.job.context.subnet_shapes).check(decompress_update(message.value))
        except INVALID:
            return False
        return True

    def is_late(self, io: IO, message: Message) -> bool:
        """Return whether an update belongs to an earlier round, and log it if so."""
        base = getattr(message.value, "base", self.version)
        if base != self.version:
            seconds = (message.arrived_ns - self.sent_ns.get(base, message.sent_ns)) / NS_PER_S
            facts = {"seconds": seconds, "bytes": message.size_bytes}
            self.note_late(io, message, seconds)
            io.log("late", sender=message.sender, base=base, round=self.version + 1, **facts)
        return bool(base != self.version)

    def note_late(self, io: IO, message: Message, seconds: float) -> None:
        """Record what selectors use of an update that came too late: Oort penalizes clients that are slow."""
        update = message.value
        stats = io["distribute"].peer_stats.setdefault(message.sender, {})
        if isinstance(update, Update) and update.base + 1 > stats.get("round", 0):
            utility = update.weight * update.squared_loss**0.5
            stats |= {"loss": update.loss, "utility": utility, "seconds": seconds, "round": update.base + 1}

    async def discard_late(self, io: IO) -> None:
        """Discard the updates of earlier rounds that have arrived."""
        port = io["aggregate"]
        while (message := port.peek()) is not None and self.is_late(io, message):
            await port.recv()

    def log_missing(self, io: IO, received: Mapping[str, Any]) -> None:
        """Log the peers that did not answer, unless enough others did."""
        missing = [peer for peer in self.selected if peer not in received]
        if missing and len(received) < self.enough:
            io.log("missing", round=self.version + 1, peers=missing)

    def add_update(self, io: IO, message: Message) -> None:
        """Add an update to its sum, or refuse it; record what selectors use."""
        update = message.value
        stats = io["distribute"].peer_stats.setdefault(message.sender, {})
        try:
            if not isinstance(update, Update):
                raise DataError("update", "wrong type", type(update).__name__)
            plain = decompress_update(update)
            largest = set(plain.weights) == {self.largest_id}
            (self.largest if largest else self.others).add(plain)
        except INVALID as error:
            io.log("refused", sender=message.sender, round=self.version + 1, why=str(error))
            return
        self.added += 1
        if self.job.aggregation is not None:
            self.plain.append(plain)
        seconds = (message.arrived_ns - self.sent_ns[self.version]) / NS_PER_S
        facts = {"loss": plain.loss, "weight": plain.weight, "seconds": seconds, "bytes": message.size_bytes}
        io.log("update", round=self.version + 1, sender=message.sender, **facts)
        stats |= {"loss": plain.loss, "utility": plain.weight * plain.squared_loss**0.5, "seconds": seconds}
        stats |= {"eligible": plain.eligible, "round": self.version + 1, "load": stats.get("load", 0) + 1}

    async def average(self, io: IO) -> None:
        """Compute the mean for the duration that the machine takes; with too few updates there is none."""
        self.mean: Update | None = None
        if 0 < self.added < self.min_updates:
            io.log("too few updates", round=self.version + 1, updates=self.added, min_updates=self.min_updates)
            return
        seconds = self.job.costs.averaging_s(self.added)
        self.mean = await io.compute(self.compute_mean, io, seconds=seconds)

    def compute_mean(self, io: IO) -> Update | None:
        """Return the mean of the added updates; None if there are none."""
        total = self.job.total(self.largest, self.others, self.version)
        if not total.weights:
            return None
        stats = io["distribute"].peer_stats
        eligible = sum(stats.get(peer, {}).get("eligible", 1) for peer in self.present_peers(io))
        total.eligible = max(total.clients, eligible)
        mean = total.mean(self.state, self.version)
        rule = self.job.aggregation
        return mean if rule is None else combined(rule, self.plain, mean)

    def step(self, io: IO) -> None:
        """Compute the next model from the mean; without updates the model is unchanged.

        The shares of the weight of the smallest and the largest subnet are logged: they show which one is starved.
        """
        loss, fields = float("nan"), dict[str, Any]()
        if self.mean is None:
            if not self.added:
                io.log("no updates", round=self.version + 1)
        else:
            mean = self.mean
            loss = mean.loss
            if self.job.privacy is not None:
                rng = self.job.rng("privacy", io.worker.id, self.version)
                self.memory["privacy"] = add_round(self.memory.get("privacy", []), self.sampled_share)
                mean = self.job.privacy.add_noise(mean, self.job.context.subnet_shapes, rng)
                fields["epsilon"] = self.job.privacy.epsilon(self.memory["privacy"])
            self.apply_mean(mean)
            space = self.job.context.space
            fields["parties"] = mean.clients
            for end, subnet in (("smallest", space.smallest.id), ("largest", space.largest.id)):
                fields[end] = mean.weights.get(subnet, 0.0) / mean.weight
        self.memory["round"] = self.version + 1
        self.report_round(io, self.state, self.version, loss=loss, **fields)

    def apply_mean(self, mean: Update) -> None:
        """Replace the model by the result of the algorithm's server step."""
        shapes = self.job.context.subnet_shapes
        mask = {name: shapes.element_weights(name, mean.weights, part.shape) > 0 for name, part in mean.delta.items()}
        memory = self.memory.setdefault("algorithm", {})
        self.memory["state"] = self.job.algorithm.server_step(memory, self.state, mean, mask)

    async def dismiss(self, io: IO) -> None:
        """Dismiss its peers."""
        await io["distribute"].broadcast(None, to=self.present_peers(io))


@dataclass(eq=False)
class EagerAggregator(Aggregator):
    """Adds each update on arrival instead of holding all of them in memory; the mean is the same."""

    async def collect(self, io: IO) -> None:
        """Receive and add the updates of this round in the order of arrival."""
        self.reset_sums()
        received: dict[str, bool] = {}
        async for message in self.answers(io, self.selected):
            self.add_update(io, message)
            received[message.sender] = True
        self.log_missing(io, received)


@dataclass(eq=False)
class IntermediateAggregator(Aggregator):
    """An aggregator between the server and the clients: it passes the model down and the mean of the updates up."""

    steps = Aggregator.steps.before("distribute", "fetch").replace("step", "upload")
    function_tags: ClassVar[tuple[str, ...]] = (*Aggregator.function_tags, "fetch", "upload")
    receives_first: ClassVar[tuple[str, ...]] = ("fetch",)

    @property
    def current_round(self) -> int:
        """The round of its task."""
        return self.task.version + 1 if hasattr(self, "task") else 0

    def load(self, io: IO) -> None:
        """Begin without a model of its own."""
        FederatedProgram.load(self, io)
        self.begin(io)

    @property
    def state(self) -> State:
        """The model that it received."""
        return split_controls(self.task.state)[0]

    @property
    def version(self) -> int:
        """The version of the model that it received."""
        return self.task.version

    def control_variates(self) -> State:
        """Return the control variates that it received."""
        return split_controls(self.task.state)[1]

    def finished(self, io: IO) -> bool:
        """Return False: it ends when it is dismissed."""
        return False

    async def fetch(self, io: IO) -> None:
        """Receive the newest model.

        Raises:
            Break: It is dismissed.
        """
        self.message = await receive_newest(io, "fetch")
        self.task: TrainingTask = self.message.value

    async def upload(self, io: IO) -> None:
        """Send the mean to the sender of the model; without a mean, send an update of zero clients."""
        empty = Update({}, {}, 0, 0, base=self.version)
        await io["upload"].send(empty if self.mean is None else self.mean, to=self.message.sender)


@dataclass(eq=False)
class EagerIntermediateAggregator(IntermediateAggregator):
    """An intermediate aggregator that adds each update on arrival."""

    collect = EagerAggregator.collect
