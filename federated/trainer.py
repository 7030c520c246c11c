"""The client: it receives a model, trains it on its own examples, and sends what has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from federated.context import examples_by_class
from federated.job import FederatedProgram, TrainingTask
from federated.local import LocalSettings, Momentum, OptimizerName, Schedule
from sim.base.errors import SpecError
from sim.base.parameters import NonNegative, Parameters, Positive, PositiveInt, Share
from supernet.calls import logits_of
from supernet.training.objective import CROSS_ENTROPY, Objective
from topology.program import Break
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    import torch
    from torch import nn

    from federated.averaging import Update
    from supernet.data.source import Examples
    from topology.deployment import Dataset
    from topology.io import IO
    from topology.message import Message


@dataclass(eq=False)
class Trainer(Parameters, FederatedProgram):
    """Receives a model, trains it on its own examples, and sends the delta, until it is dismissed.

    Attributes:
        epochs: Passes over its examples in a round.
        batch: Examples in a step.
        rate: Learning rate.
        momentum: Momentum of SGD.
        decay: Weight decay; of AdamW decoupled from the gradient.
        optimizer: `sgd`, `adam` or `adamw`; begins anew in each round.
        rate_decay: Factor of the learning rate from each round to the next.
        schedule: `constant`, or `cosine` from `rate` in the first round towards 0 after the last.
        loss: Loss of `torch.nn.functional` for labels that are classes, of this role only; that of the training if left
            out.
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
    optimizer: OptimizerName = "sgd"
    rate_decay: Share = 1.0
    schedule: Schedule = "constant"
    loss: Literal["cross_entropy", "multi_margin_loss", "nll_loss"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum and self.optimizer != "sgd":
            raise SpecError("momentum", f"not used by {self.optimizer}", f"{self.momentum:g}", "remove it")

    @property
    def current_round(self) -> int:
        """The round of its task."""
        return self.task.version + 1 if hasattr(self, "task") else 0

    @property
    def settings(self) -> LocalSettings:
        """Its hyperparameters."""
        is_own = type(self).objective is not Trainer.objective or self.losses != CROSS_ENTROPY
        objective = self.objective if is_own else None
        return LocalSettings(self.epochs, self.batch, self.rate, self.momentum, self.decay, self.optimizer, objective)

    @property
    def losses(self) -> Objective:
        """The loss that it minimizes; cross entropy, if it belongs to no training."""
        job = getattr(self, "job", None)
        return Objective(self.loss or ("cross_entropy" if job is None else job.context.loss))

    def objective(self, network: nn.Module, batch: Examples) -> torch.Tensor:
        """Return the loss of each example; override it for a training step of your own.

        Args:
            network: The subnet, in training mode.
            batch: Inputs and labels.

        Returns:
            Shape (examples,).
        """
        return self.losses.of_each(logits_of(network(*batch.inputs)), batch.labels)

    def load(self, io: IO) -> None:
        """Begin, and check the configuration.

        Raises:
            SpecError: It has no data, or it has momentum or another optimizer and the algorithm requires plain SGD.
        """
        super().load(io)
        dataset = self.dataset(io)
        if dataset.id in self.job.context.own:
            io.log("holds", party=dataset.id, examples=examples_by_class(self.job.context.shards[dataset.id].labels))
        if self.loss and self.job.context.has_numbers:
            raise SpecError(f"{io.worker.id}, loss", "is for labels that are classes", self.loss, "remove it")
        if self.job.algorithm.requires_plain_sgd and (self.momentum or self.optimizer != "sgd"):
            name, value = ("momentum", f"{self.momentum:g}") if self.momentum else ("optimizer", self.optimizer)
            problem = f"{type(self.job.algorithm).__name__} requires SGD without momentum"
            raise SpecError(f"{io.worker.id}, {name}", problem, value, "remove it")

    def dataset(self, io: IO, of: str | None = None) -> Dataset:
        """Return its data, or those of another trainer by its id.

        Raises:
            SpecError: It has no data.
        """
        worker = io.worker if of is None else io.plan.worker(of)
        if worker.dataset is None:
            hint = "give the role `data: true` and datasets"
            raise SpecError(worker.id, "a trainer without data", worker.role, hint)
        return worker.dataset

    async def fetch(self, io: IO) -> None:
        """Receive the newest model.

        Raises:
            Break: It is dismissed.
        """
        self.message = await receive_newest(io, "fetch")
        self.task: TrainingTask = self.message.value

    async def train(self, io: IO) -> None:
        """Train for the duration that the machine takes."""
        dataset = self.dataset(io)
        accuracy = self.job.client_accuracy(dataset, self.task, self.memory)
        if accuracy is not None:
            count = len(self.job.context.held[dataset.id])
            io.log("client", round=self.task.version, party=dataset.id, examples=count, accuracy=accuracy)
        settings = self.settings.at_round(self.task.version, self.job.rounds, self.schedule, self.rate_decay)
        seconds = self.job.costs.training_s(self.task.subnet, self.job.processed(dataset, settings))
        self.update: Update = await io.compute(
            self.job.begin, dataset, self.task, self.memory, settings, seconds=seconds
        )

    async def upload(self, io: IO) -> None:
        """Send the update to the sender of the model."""
        await io["upload"].send(self.update, to=self.message.sender)


async def receive_newest(io: IO, tag: str) -> Message:
    """Return the newest message on the channel of a function tag.

    Raises:
        Break: The worker is dismissed.
    """
    message = await io[tag].newest()
    if message.value is None:
        raise Break
    return message
