"""What trainers without an aggregator have in common: each has a model of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from federated.job import Task
from federated.programs import Trainer
from sim.base.errors import DataError, SpecError
from sim.base.parameters import Positive  # noqa: TC001 - programs are built by what their annotations say
from sim.base.units import NS_PER_S
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from federated.averaging import State
    from topology.io import IO
    from topology.message import Message
    from topology.port import Port


@dataclass(eq=False)
class Speaker(Trainer):
    """A trainer that speaks with other trainers, over the first of its verbs.

    Attributes:
        timeout_s: How long it waits for a peer, in seconds; None for as long as the engine is patient.
    """

    timeout_s: Positive | None = None

    def port(self, io: IO) -> Port:
        """Return the port to the other trainers."""
        return io[self.function_tags[0]]

    async def expect(
        self, io: IO, wanted: Callable[[Message], bool], stale: Callable[[Message], bool], timeout_s: float | None
    ) -> Message | None:
        """Return the first message that is wanted; None if it does not come in time.

        Args:
            io: The world.
            wanted: Says what is waited for.
            stale: Says what nobody will want any more; everything else is kept for later.
            timeout_s: How long to wait.

        Raises:
            ClosedError: Nobody is left.
            DeadlineError: No time was given, and the engine's patience is at an end.
        """
        kept: list[Message] = vars(self).setdefault("kept", [])
        kept[:] = [message for message in kept if not stale(message)]
        found = next((message for message in kept if wanted(message)), None)
        if found is not None:
            kept.remove(found)
            return found
        until_ns = None if timeout_s is None else io.now_ns + round(timeout_s * NS_PER_S)
        while True:
            left_s = None if until_ns is None else max(0.0, (until_ns - io.now_ns) / NS_PER_S)
            try:
                message = await self.port(io).recv(timeout_s=left_s)
            except TimeoutError:
                if timeout_s is None:
                    raise
                return None
            if wanted(message):
                return message
            if not stale(message):
                kept.append(message)


@dataclass(eq=False)
class Peer(Speaker):
    """A trainer that holds a model itself; derived ones say what it does with those of others."""

    steps = Steps("load", Loop("choose", "train", "adopt", "note_round", until="over"))
    function_tags: ClassVar[tuple[str, ...]] = ()
    receives_first: ClassVar[tuple[str, ...]] = ()

    def load(self, io: IO) -> None:
        """Remember; the first time, begin with the initial model.

        Raises:
            SpecError: The job asks for what needs somebody who holds the model of all.
        """
        super().load(io)
        name = type(self.job.algorithm).__name__
        if name not in {"FedAvg", "FedProx"}:
            right = "fedavg or fedprox"
            raise SpecError("algorithm", "needs somebody who holds the model; here each party has its own", name, right)
        for asked in ("privacy", "compression", "maxnet"):
            if getattr(self.job, asked) is not None:
                right = "a topology with an aggregator"
                raise SpecError(asked, "needs somebody who holds the model; here each party has its own", "", right)
        if "state" not in self.memory:
            self.memory |= {"state": self.job.initial(), "round": 0}

    @property
    def state(self) -> State:
        """Its model."""
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

    def choose(self, io: IO) -> None:
        """Choose the subnet to train: its own part of what is dealt out to all, as everybody works it out."""
        self.task = self.own_task(io, ranked(io, self.port(io)))

    def own_task(self, io: IO, parties: tuple[str, ...]) -> Task:
        """Return its own task, when the subnets of a round are dealt out to some parties."""
        rule = self.memory.setdefault("rule", {})
        subnets = self.job.rule.assign(parties, self.job.space, rule, self.job.chance("assignment", "", self.version))
        subnet = subnets[io.worker.id]
        return Task(self.version, subnet, self.job.cut(self.state, subnet))

    def adopt(self, io: IO) -> None:
        """Take over what training has changed."""
        self.memory["state"] = added(self.state, self.update.change)

    def note_round(self, io: IO) -> None:
        """Count the round; one of all measures its model."""
        self.memory["round"] = self.version + 1
        present = ranked(io, self.port(io))
        if io.worker.id == present[0]:
            self.note(io, self.state, self.version, loss=self.update.loss)


def ranked(io: IO, port: Port) -> tuple[str, ...]:
    """Return a worker and its peers that are there, in the order of the plan: the same for all of them."""
    return tuple(sorted((io.worker.id, *port.peers()), key=rank_key))


def rank_key(id_: str) -> tuple[str, int]:
    """Return what workers are ordered by."""
    role, _, number = id_.rpartition("/")
    return role, int(number)


def added(state: State, change: Mapping[str, torch.Tensor]) -> State:
    """Return a state with a change added to its leading parts; the state stays as it is."""
    new = dict(state)
    for name, part in change.items():
        whole = state[name].clone()
        whole[tuple(map(slice, part.shape))] += part
        new[name] = whole
    return new


def checked(state: Any, like: Mapping[str, torch.Tensor]) -> State:
    """Return a state that was received, if it is one.

    Raises:
        DataError: It has other names or shapes, or holds what is no finite number.
    """
    if not isinstance(state, dict) or set(state) != set(like):
        raise DataError("model", "has other parameters", type(state).__name__, f"{len(like)} parameters")
    for name, part in state.items():
        if tuple(part.shape) != tuple(like[name].shape):
            right = str(tuple(like[name].shape))
            raise DataError(f"model, {name}", "has the wrong shape", str(tuple(part.shape)), right)
        if not torch.isfinite(part).all():
            raise DataError(f"model, {name}", "is not all finite")
    return state


def mixed(states: Iterable[tuple[float, Mapping[str, torch.Tensor]]], like: Mapping[str, torch.Tensor]) -> State:
    """Return a sum of whole states by weight, in float64."""
    total = {name: torch.zeros(part.shape, dtype=torch.float64) for name, part in like.items()}
    for weight, state in states:
        for name, part in total.items():
            part.add_(state[name].to(torch.float64), alpha=weight)
    return {name: part.to(like[name].dtype) for name, part in total.items()}
