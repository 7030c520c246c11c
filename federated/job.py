"""What all programs of a federated training share: the job, and the base class that gives a program access to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from federated.aggregation import needs_losses
from federated.algorithms import Algorithm, FedAvg
from federated.assignment import LargestAssignment, MaxNet, SubnetAssignment
from federated.averaging import Update, UpdateSum
from federated.compression import Compression, compress_delta
from federated.context import TrainingContext, number_of
from federated.local import LocalSettings, mean_loss, train
from federated.pool import LocalTraining
from federated.state import Memory, State, clip_norm, compact, reduce_tensor, split_controls
from federated.vectorized import train_together
from sim.base.errors import SpecError
from sim.base.streams import stream
from topology.checkpoints import Checkpoints
from topology.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from federated.aggregation import AggregationRule
    from federated.costs import CostModel
    from federated.local import LocalResult
    from federated.pool import TrainingPool
    from federated.privacy import Privacy
    from federated.vectorized import VectorizedClients
    from supernet.network import Supernet
    from topology.deferred import Deferred
    from topology.deployment import Dataset
    from topology.io import IO


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class TrainingTask:
    """The model that an aggregator sends for a round.

    Attributes:
        version: Version of the model.
        subnet: Id of the subnet to train; "" for an intermediate aggregator, which assigns subnets itself.
        state: The weights that the subnet uses, and control variates if the algorithm uses them.
        ring: The trainers that take the mean in a ring, if not all of a cluster do.
    """

    version: int
    subnet: str
    state: State
    ring: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how it is pickled: without what its tensors are views of."""
        return TrainingTask, (self.version, self.subnet, compact(self.state), self.ring)


@dataclass(frozen=True, eq=False)
class FederatedJob:
    """A federated training, independent of its topology.

    Attributes:
        context: Data and networks.
        costs: Virtual cost of training and averaging.
        rounds: Number of rounds; of an asynchronous training, number of model versions.
        algorithm: Corrections of the clients and step of the server.
        assignment: Subnet of each client in a round.
        maxnet: Weight of the largest subnet; None for no special weight.
        privacy: Clipping and noise; None for neither.
        compression: Compression of client updates; None for none.
        aggregation: Rule that replaces the mean; None for the mean.
        evaluated: Ids of the subnets whose accuracy is measured during training.
        every: Rounds between two evaluations; the last round is always evaluated.
        pool: How clients train in virtual time: in processes or as one computation; None for one after the other.
    """

    context: TrainingContext
    costs: CostModel
    rounds: int
    algorithm: Algorithm = field(default_factory=FedAvg)
    assignment: SubnetAssignment = field(default_factory=LargestAssignment)
    maxnet: MaxNet | None = None
    privacy: Privacy | None = None
    compression: Compression | None = None
    evaluated: tuple[str, ...] = ()
    every: int = 1
    aggregation: AggregationRule | None = None
    pool: TrainingPool | VectorizedClients | None = None

    def __post_init__(self) -> None:
        check_privacy(self.algorithm, self.privacy, self.compression)
        check_aggregation(self.aggregation, self.algorithm, self.privacy, self.maxnet)

    def programs(self, owners: Mapping[str, type[Program]]) -> dict[str, ProgramFactory]:
        """Return factories of the roles' programs, given their classes."""
        return {role: ProgramFactory(owner, self) for role, owner in owners.items()}

    def checkpoints(self, store: Callable[[bytes], None], resume: bytes | None = None, every: int = 1) -> Checkpoints:
        """Return how an engine stores this training.

        Args:
            store: Called with the training as bytes.
            resume: A stored training to go on with; None to begin.
            every: In real time: rounds from one time to the next.
        """
        return Checkpoints(store, resume, self.shared, {torch.Tensor: reduce_tensor}, every=every)

    def shared(self) -> dict[str, Any]:
        """Return what programs refer to and is not stored with them, by name."""
        return {"job": self, "context": self.context, "shapes": self.context.subnet_shapes}

    def rng(self, purpose: str, id_: str, number: int) -> np.random.Generator:
        """Return a random generator that does not depend on the engine."""
        return stream(self.context.seed, purpose, number_of(id_), number)

    def weight(self, dataset: Dataset) -> float:
        """Return the weight of a client in a mean."""
        if self.algorithm.uniform_weights or self.privacy is not None:
            return 1.0
        return float(len(self.context.shards[dataset.id]))

    def begin(self, dataset: Dataset, task: TrainingTask, memory: Memory, settings: LocalSettings) -> Update | Deferred:
        """Begin a training as the pool does it, or train at once. The arguments are those of `train`."""
        training = LocalTraining(dataset, task, memory, settings)
        return self.train(*training) if self.pool is None else self.pool.begin(self, training)

    def train(self, dataset: Dataset, task: TrainingTask, memory: Memory, settings: LocalSettings) -> Update:
        """Train on a client's data, and return its update.

        Args:
            dataset: The client's data.
            task: The model, and the subnet to train.
            memory: The client's memory; changed in place.
            settings: Hyperparameters of local training.
        """
        seeds = self._seeds(dataset, memory)
        weights, received = split_controls(task.state)
        own, shapes = memory.setdefault("algorithm", {}), self.context.subnet_shapes.of(task.subnet)
        network, parameters = self.load_client(weights, memory), self.context.parameters
        personal = {name: parameters[name] for name in self.context.personal_names}
        shard = self.context.shards[dataset.id]
        received_loss = None
        if needs_losses(self.aggregation):
            received_loss = mean_loss(network, task.subnet, shard, settings, seeds)
        result = train(
            network,
            task.subnet,
            {name: parameters[name] for name in shapes} | personal,
            shapes,
            shard,
            settings,
            self.algorithm.proximal_mu,
            self.algorithm.gradient_correction(own, received),
            seeds,
        )
        if personal:
            memory["personal"] = {name: part.detach().clone() for name, part in personal.items()}
        return self._update(dataset, task, memory, result, received_loss)

    def train_together(self, trainings: Sequence[LocalTraining]) -> list[Update]:
        """Train clients with the same model, settings and number of examples as one computation."""
        _, task, _, settings = trainings[0]
        shapes, parameters = self.context.subnet_shapes.of(task.subnet), self.context.parameters
        weights, received = split_controls(task.state)
        network = self.context.load_state(weights)
        shards = [self.context.shards[training.dataset.id] for training in trainings]
        seeds = [self._seeds(training.dataset, training.memory) for training in trainings]
        received_losses: list[float | None] = [None] * len(trainings)
        if needs_losses(self.aggregation):
            received_losses = [
                mean_loss(network, task.subnet, shard, settings, own) for shard, own in zip(shards, seeds, strict=True)
            ]
        used, mu = {name: parameters[name] for name in shapes}, self.algorithm.proximal_mu
        memories = [training.memory.setdefault("algorithm", {}) for training in trainings]
        corrections = [self.algorithm.gradient_correction(memory, received) for memory in memories]
        results = train_together(network, task.subnet, used, shards, settings, mu, corrections, seeds)
        return [
            self._update(training.dataset, task, training.memory, result, loss)
            for training, result, loss in zip(trainings, results, received_losses, strict=True)
        ]

    def _seeds(self, dataset: Dataset, memory: Memory) -> tuple[int, ...]:
        """Return what decides all chance of a client's next training, which is counted."""
        count = memory["trained"] = memory.get("trained", 0) + 1
        return self.context.seed, number_of(dataset.id), count

    def _update(
        self, dataset: Dataset, task: TrainingTask, memory: Memory, result: LocalResult, received_loss: float | None
    ) -> Update:
        """Return what a client sends after its training."""
        own, received = memory.setdefault("algorithm", {}), split_controls(task.state)[1]
        delta, normalizes = result.delta, getattr(self.algorithm, "normalizes_steps", False)
        if normalizes:
            delta = {name: part / result.steps for name, part in delta.items()}
        delta = delta if self.privacy is None else clip_norm(delta, self.privacy.clip)
        extra = self.algorithm.after_training(own, received, delta, result.summed_rate)
        sent: Any = delta if self.compression is None else compress_delta(delta, self.compression, memory)
        weights_by_subnet = {task.subnet: self.weight(dataset)}
        return Update(
            {**sent, **extra},
            weights_by_subnet,
            loss=result.loss if received_loss is None else received_loss,
            squared_loss=result.squared_loss,
            base=task.version,
            steps=result.steps if normalizes else math.nan,
        )

    def load_client(self, weights: State, memory: Memory) -> Supernet:
        """Return the network with the weights of a model and those that stay with a client."""
        personal: State = memory.get("personal", {})
        if self.context.personal_names and not personal:
            initial = self.context.once("initial", self.context.initial_state)
            personal = {name: initial[name] for name in self.context.personal_names}
        return self.context.load_state({**weights, **personal})

    def client_accuracy(self, dataset: Dataset, task: TrainingTask, memory: Memory) -> float | None:
        """Return the accuracy of a received model on a client's own examples in percent; None if it is not measured.

        Args:
            dataset: The client's data.
            task: The model; that of the first round is not measured.
            memory: The client's memory.
        """
        if not task.version or task.version % self.every or dataset.id not in self.context.held:
            return None
        network = self.load_client(split_controls(task.state)[0], memory)
        return self.context.client_accuracy(dataset.id, network, task.subnet)

    def processed(self, dataset: Dataset, settings: LocalSettings) -> int:
        """Return the number of examples that a client's training takes the time of, three passes each."""
        count = len(self.context.shards[dataset.id])
        return settings.processed(count) + (-(-count // 3) if needs_losses(self.aggregation) else 0)

    def total(self, largest: UpdateSum, others: UpdateSum, completed: int) -> UpdateSum:
        """Return the sum of all updates, in which `maxnet` sets the weight of the largest subnet.

        Args:
            largest: Sum of the updates of the largest subnet.
            others: Sum of all other updates.
            completed: Number of completed rounds.
        """
        if self.maxnet is None or not largest.weights or not others.weights:
            return largest.merge(others)
        share = self.maxnet.share(completed, self.rounds)
        own, rest = sum(largest.weights.values()), sum(others.weights.values())
        return largest.merge(others, share * (own + rest) / own, (1 - share) * (own + rest) / rest)

    def accuracies(self, state: State, completed: int) -> dict[str, float]:
        """Return the accuracy of the evaluated subnets in percent, by id; empty in rounds without an evaluation."""
        if completed % self.every and completed != self.rounds:
            return {}
        return self.context.accuracies(state, self.evaluated)


@dataclass(frozen=True, slots=True)
class ProgramFactory:
    """Creates the programs of a role, with access to the job."""

    owner: type[Program]
    job: FederatedJob

    def __call__(self, **config: Any) -> Program:
        """Return a program."""
        program = self.owner(**config)
        vars(program)["job"] = self.job
        return program


class FederatedProgram(Program):
    """A program of a federated training.

    Attributes:
        job: The job.
        memory: What it keeps from round to round: plain values and tensors.
    """

    job: FederatedJob
    memory: Memory
    kept: ClassVar[tuple[str, ...]] = ("memory",)
    rests: ClassVar[bool] = True

    def load(self, io: IO) -> None:
        """Begin with an empty memory, or after an absence with that from before."""
        self.memory = getattr(self, "memory", {})

    def report_round(self, io: IO, state: State, completed: int, **fields: Any) -> None:
        """Log the end of a round, with the accuracies of the evaluated subnets."""
        io.log("round", round=completed, accuracy=self.job.accuracies(state, completed), **fields)

    def result(self) -> Memory:
        """Return the memory."""
        return self.memory


class ModelProgram(FederatedProgram):
    """A program with a model of its own, in its memory."""

    def load(self, io: IO) -> None:
        """Begin with the initial model."""
        super().load(io)
        self.memory |= {"state": self.job.context.initial_state(), "round": 0}

    @property
    def state(self) -> State:
        """The model."""
        state: State = self.memory["state"]
        return state

    @property
    def version(self) -> int:
        """The number of completed rounds."""
        completed: int = self.memory["round"]
        return completed

    @property
    def current_round(self) -> int:
        """The round after the completed ones."""
        return self.version + 1

    def finished(self, io: IO) -> bool:
        """Return whether the last round is completed."""
        return self.version >= self.job.rounds


def check_privacy(algorithm: Algorithm, privacy: Privacy | None, compression: Compression | None) -> None:
    """Check that clipping and noise cover all that is sent.

    Raises:
        SpecError: They do not.
    """
    if privacy is not None and compression is not None:
        problem = "cannot be combined with compression: the compression error is sent later, beyond the clipping norm"
        raise SpecError("privacy", problem, "", "remove one of them")
    if privacy is not None and algorithm.uses_control_variates:
        problem, hint = "control variates would be sent without noise", "use an algorithm without control variates"
        raise SpecError("privacy", problem, type(algorithm).__name__, hint)


def check_aggregation(
    rule: AggregationRule | None, algorithm: Algorithm, privacy: Privacy | None, maxnet: MaxNet | None
) -> None:
    """Check that nothing else relies on the weighted mean that a rule replaces.

    Raises:
        SpecError: Something does.
    """
    problem = "relies on the mean, which the rule replaces"
    if rule is not None and algorithm.uses_control_variates:
        raise SpecError("aggregation", f"{type(algorithm).__name__} {problem}", "", "use fedavg, fedprox or fedopt")
    for name, given in (("privacy", privacy), ("maxnet", maxnet)):
        if rule is not None and given is not None:
            raise SpecError("aggregation", f"{name} {problem}", "", f"remove {name} or aggregation")


def check_ring(job: FederatedJob) -> None:
    """Check that rings within clusters can average the updates: only deltas and weights are.

    Raises:
        SpecError: They are compressed, or something else of each client counts.
    """
    algorithm, rule = job.algorithm, job.aggregation
    problem = "not possible where rings average the updates"
    if job.compression is not None:
        raise SpecError("compression", problem, type(job.compression).__name__, "remove it")
    if algorithm.uses_control_variates or getattr(algorithm, "normalizes_steps", False):
        raise SpecError("algorithm", problem, type(algorithm).__name__, "use fedavg, fedprox or fedopt")
    if needs_losses(rule):
        raise SpecError("aggregation", problem, type(rule).__name__, "a rule without losses, or none")
