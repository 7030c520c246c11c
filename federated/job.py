"""What all programs of a federated training have in common: the job, and how a program comes to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from federated.algorithms import Algorithm, FedAvg
from federated.assignment import Largest, MaxNet, Rule
from federated.averaging import CONTROL, Sum, Update, split
from federated.compression import Compression, compressed
from federated.local import Memory, Settings, clipped, steps_of, train
from federated.workshop import Workshop, number_of
from sim.base.errors import SpecError
from sim.base.streams import stream
from topology.program import Program

if TYPE_CHECKING:
    import numpy as np

    from federated.averaging import State
    from federated.extents import Extents
    from federated.privacy import Privacy
    from supernet.space import SubNetSpace
    from topology.deployment import Dataset
    from topology.io import IO

Told = Callable[["IO", dict[str, Any]], None]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What a party is to do.

    Attributes:
        version: The version of the model that it gets.
        subnet: The id of the subnet to train; "" for one in the middle of a tree, which says itself who trains what.
        state: The weights that the subnet uses, and control variates if the algorithm has any.
    """

    version: int
    subnet: str
    state: State


@dataclass(frozen=True, eq=False)
class Job:
    """A federated training, apart from its topology.

    Attributes:
        workshop: Data and networks.
        rounds: How many rounds there are in all; of an asynchronous training, versions of the model.
        algorithm: What parties and the holder of the model do beside gradient steps and means.
        rule: Who trains which subnet.
        maxnet: How much the largest subnet counts; None for as much as any other.
        privacy: Clipping and noise; None for neither.
        compression: Of what parties send; None for none.
        data_roles: The roles that hold data.
        watched: The subnets whose accuracy is measured on the way.
        every: After every how many rounds it is measured, and in the end.
        stop: The round after which programs come to rest, for what they remember to be stored.
        memory: What each worker remembered at the last rest, by its id.
        told: Called when a round is done, in the process in which it is; None for nobody.
    """

    workshop: Workshop
    rounds: int
    algorithm: Algorithm = field(default_factory=FedAvg)
    rule: Rule = field(default_factory=Largest)
    maxnet: MaxNet | None = None
    privacy: Privacy | None = None
    compression: Compression | None = None
    data_roles: frozenset[str] = frozenset({"trainer"})
    watched: tuple[str, ...] = ()
    every: int = 1
    stop: int | None = None
    memory: Mapping[str, Memory] = field(default_factory=dict)
    told: Told | None = None

    def __post_init__(self) -> None:
        if self.privacy is not None and self.compression is not None:
            what = "do not go together: what compression leaves out comes later, beyond the clipping"
            raise SpecError("privacy and compression", what, hint="one of them")
        if self.privacy is not None and self.algorithm.controls:
            what = "control variates would travel without noise"
            raise SpecError("privacy", what, type(self.algorithm).__name__, "an algorithm without them")

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels: nobody is told in other processes."""
        return {**vars(self), "told": None}

    def programs(self, owners: Mapping[str, type[Program]]) -> dict[str, Maker]:
        """Return what makes the programs of roles, given their classes."""
        return {role: Maker(owner, self) for role, owner in owners.items()}

    def rested(self, memory: Mapping[str, Memory], stop: int) -> Job:
        """Return the job as it goes on from a rest to the next."""
        return replace(self, memory={**self.memory, **memory}, stop=stop)

    @property
    def end(self) -> int:
        """The round after which programs end or come to rest."""
        return self.rounds if self.stop is None else min(self.stop, self.rounds)

    @property
    def space(self) -> SubNetSpace:
        """The subnets."""
        return self.workshop.space

    @property
    def extents(self) -> Extents:
        """Which part of each parameter a subnet uses."""
        return self.workshop.extents

    def initial(self) -> State:
        """Return the weights that all begin with."""
        return self.workshop.initial()

    def chance(self, purpose: str, id_: str, number: int) -> np.random.Generator:
        """Return random numbers for a purpose of somebody, the same on all engines and however often it rested."""
        return stream(self.workshop.seed, purpose, number_of(id_), number)

    def cut(self, state: State, subnet: str, prefix: str = "") -> State:
        """Return what a subnet uses of a state."""
        found: State = {}
        for name, shape in self.extents.of(subnet).items():
            whole = state[name]
            found[prefix + name] = whole if tuple(whole.shape) == shape else whole[tuple(map(slice, shape))].clone()
        return found

    def weight(self, dataset: Dataset) -> float:
        """Return how much a party counts in a mean."""
        if self.algorithm.uniform or self.privacy is not None:
            return 1.0
        return float(self.examples(dataset))

    def examples(self, dataset: Dataset) -> int:
        """Return how many examples a party has."""
        return len(self.workshop.shards[dataset.id])

    def seconds(self, dataset: Dataset, subnet: str, settings: Settings) -> float:
        """Return what a training costs a party on a machine of speed 1."""
        return self.workshop.seconds(subnet, steps_of(self.examples(dataset), settings))

    def averaging_seconds(self, updates: int) -> float:
        """Return what it costs to take the mean of so many updates on a machine of speed 1."""
        return self.workshop.averaging_seconds(updates)

    def train(self, dataset: Dataset, task: Task, memory: Memory, settings: Settings) -> Update:
        """Train for a party, and return what it sends; its memory is changed.

        Args:
            dataset: The party's data.
            task: What it is to do.
            memory: The party's.
            settings: How it trains.
        """
        count = memory["trained"] = memory.get("trained", 0) + 1
        weights, sent = split(task.state)
        own, extents = memory.setdefault("algorithm", {}), self.extents.of(task.subnet)
        network, parameters = self.workshop.write(weights), self.workshop.parameters
        done = train(
            network,
            task.subnet,
            {name: parameters[name] for name in extents},
            extents,
            self.workshop.shards[dataset.id],
            settings,
            self.algorithm.pull,
            self.algorithm.shift(own, sent),
            (self.workshop.seed, number_of(dataset.id), count),
        )
        change = done.change if self.privacy is None else clipped(done.change, self.privacy.clip)
        beside = self.algorithm.trained(own, sent, change, done.travelled)
        packed: Any = change if self.compression is None else compressed(change, self.compression, memory)
        weighed = {task.subnet: self.weight(dataset)}
        return Update({**packed, **beside}, weighed, loss=done.loss, energy=done.energy, base=task.version)

    def weighed(self, largest: Sum, others: Sum, done: int) -> Sum:
        """Return the sum of all updates, in which the largest subnet counts as much as it should.

        Args:
            largest: The sum of the updates of parties that trained it.
            others: That of the others.
            done: How many rounds are done.
        """
        if self.maxnet is None or not largest.weights or not others.weights:
            return largest.merge(others)
        share = self.maxnet.share(done, self.rounds)
        own, rest = sum(largest.weights.values()), sum(others.weights.values())
        return largest.merge(others, own=share * (own + rest) / own, scale=(1 - share) * (own + rest) / rest)

    def accuracies(self, state: State, done: int) -> dict[str, float]:
        """Return how accurate the watched subnets are after a round, in percent; none if they are not measured then."""
        if done % self.every and done != self.rounds:
            return {}
        return self.workshop.accuracies(state, self.watched)


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the programs of a role and lets them know the job."""

    owner: type[Program]
    job: Job

    def __call__(self, **config: Any) -> Program:
        """Return a program."""
        program = self.owner(**config)
        vars(program)["job"] = self.job
        return program


class Member(Program):
    """A program that takes part in a job. What it is to remember over a rest is in its memory, and nowhere else.

    Attributes:
        job: The job.
        memory: Plain values and tensors.
    """

    job: Job
    memory: Memory

    def load(self, io: IO) -> None:
        """Remember."""
        self.memory = dict(self.job.memory.get(io.worker.id, {}))

    def dataset(self, io: IO) -> Dataset:
        """Return this worker's data.

        Raises:
            SpecError: It has none.
        """
        if io.worker.dataset is None:
            right = "data: true for the role, and datasets"
            raise SpecError(io.worker.id, "is to train and has no data", io.worker.role, right)
        return io.worker.dataset

    def note(self, io: IO, state: State, done: int, **more: Any) -> None:
        """Note that a round is done, with the accuracy of the watched subnets if it is to be measured."""
        entry = {"round": done, "accuracy": self.job.accuracies(state, done), **more}
        io.log("round", **entry)
        if self.job.told is not None:
            self.job.told(io, entry)

    def result(self) -> Memory:
        """Return what is remembered."""
        return self.memory


def controls(state: State) -> State:
    """Return control variates as they travel."""
    return {CONTROL + name: part for name, part in state.items()}


Peers = Sequence[str]
