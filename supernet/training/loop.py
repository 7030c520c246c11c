"""Trains a supernet: the same seed gives the same weights, with or without interruptions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from sim.base.errors import DataError, SpecError, SsimError, TrainingError, raised, user_frame
from sim.base.streams import stream
from supernet.calls import logits_of
from supernet.checkpoint import load_state
from supernet.data.source import Draw
from supernet.extraction import extract
from supernet.layers import is_norm
from supernet.training.checkpoint import TrainingCheckpoint
from supernet.training.objective import CLASS_LOSSES, Objective, metric_value
from supernet.training.rewiring import importance, rewire
from supernet.training.scoring import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supernet.data.source import Examples, ExampleSet
    from supernet.network import Supernet
    from supernet.training.objective import Loss, Metric
    from supernet.training.recipe import Recipe
    from supernet.training.sampling import TrainedSubnet

REWIRING_BATCHES = 16
"""The batches from which the importance of units is computed."""


@dataclass(slots=True)
class _State:
    """The mutable state of a training."""

    optimizer: torch.optim.Optimizer
    teacher: nn.Module | None
    losses: list[float]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A completed step.

    Attributes:
        phase: Its phase (index).
        number: Its number in this phase, from 0.
        loss: The mean loss of its subnets.
        checkpoint: Returns the progress, with the tensors themselves: write it before the next step.
    """

    phase: int
    number: int
    loss: float
    checkpoint: Callable[[], TrainingCheckpoint]


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """The training of a supernet.

    Attributes:
        supernet: Its weights are trained; left in training mode, without running statistics.
        examples: The training examples.
        recipe: The phases and hyperparameters.
        seed: Of the order of the examples, the subnets of each step, and dropout.
        identity: Identifies the training in its checkpoints.
        loss: Another one than cross entropy, as `Objective` has it.
        metric: What subnets are scored by afterwards; that it can be computed is checked before training.
    """

    supernet: Supernet
    examples: ExampleSet
    recipe: Recipe
    seed: int
    identity: str = ""
    loss: str | Loss = "cross_entropy"
    metric: Metric | None = None

    @property
    def objective(self) -> Objective:
        """What is minimized."""
        return Objective(self.loss, self.recipe.smoothing)

    def run(self, on_step: Callable[[Step], None], start: TrainingCheckpoint | None = None) -> list[float]:
        """Train to the end, and return the loss of each step.

        Args:
            on_step: Called after each step.
            start: The progress to resume from.

        Raises:
            DataError: The progress does not fit the network or the recipe.
            SpecError: There are too few examples, or a batch has one example.
            TrainingError: A loss is not finite; names the phase, the step and the subnet.
        """
        steps = self.recipe.steps(len(self.examples))
        self.supernet.forget_statistics()
        self.supernet.train()
        with torch.random.fork_rng(devices=[]):
            self._check_fit()
            state = _State(self.recipe.optimizer.build(self.supernet.model), None, [])
            first_phase, first_step = (0, 0) if start is None else (start.phase, start.step)
            if start is not None:
                self._restore(start, steps, state)
            for index in range(first_phase, len(steps)):
                begin = first_step if index == first_phase else 0
                if not begin:
                    self._begin(index, state)
                batches = self.examples.drawn(self._draws(index, range(begin, steps[index]), "order"))
                for number, batch in enumerate(batches, begin):
                    state.losses.append(self._step(index, number, steps[index], batch, state))
                    on_step(Step(index, number, state.losses[-1], self._checkpoint(index, number + 1, state)))
        return state.losses

    def _check_fit(self) -> None:
        """Check that the network accepts the examples, and has a logit for each class.

        Raises:
            SpecError: It does not, or a batch has one example.
        """
        batch, largest = self.examples.first(min(2, self.recipe.batch)).read(), self.supernet.space.largest
        self.supernet.check_batch(batch.inputs)
        shapes = [tuple(part.shape[1:]) for part in batch.inputs]
        try:
            with torch.no_grad():
                logits = logits_of(self.supernet(batch.inputs[0], largest, *batch.inputs[1:]))
        except (RuntimeError, IndexError, TypeError) as error:
            place = "".join(f"; {frame}" for frame in [user_frame(error)] if frame)
            value = f"shape {', '.join(map(str, shapes))}: {str(error).splitlines()[0]}{place}"
            hint = f"a {self.supernet.space.family} with other options, or other data"
            raise SpecError("data", "do not fit the network's input", value, hint) from error
        self.objective.check_labels(batch.labels)
        if self.metric is not None:
            _check_function("metric", partial(metric_value, self.metric), logits, batch.labels)
        if self.loss not in CLASS_LOSSES:
            _check_function("loss", self.objective.of_labels, logits, batch.labels)
            return
        known = self.examples.known_labels
        lowest, top = (int(label) for label in (batch.labels if known is None else known).aminmax())
        if logits.shape[:-1] != batch.labels.shape or logits.shape[-1] <= top:
            value = f"labels up to {top}, logits of shape {tuple(logits.shape)}"
            raise SpecError("data", "have more classes than the network", value, f"{top + 1} classes")
        if lowest < 0 and (lowest != IGNORED or batch.labels.dim() == 1):
            raise SpecError("data", "label out of range", str(lowest), f"0 to {logits.shape[-1] - 1}")
        if known is not None and lowest == top:
            raise SpecError("data", "all training examples have one class", str(top), "two classes or more")

    def _begin(self, index: int, state: _State) -> None:
        phase = self.recipe.phases[index]
        if phase.rewire:
            batches = self.examples.drawn(self._draws(index, range(REWIRING_BATCHES), "rewiring"))
            self._seed_torch(index)
            rewire(self.supernet, importance(self.supernet, batches, self.objective))
        if phase.subnets.frozen_teacher and state.teacher is None:
            state.teacher = self._teacher()
        state.optimizer = self.recipe.optimizer.build(self.supernet.model)

    def _teacher(self) -> nn.Module:
        teacher = extract(self.supernet, self.supernet.space.largest).requires_grad_(requires_grad=False)
        for module in teacher.modules():
            module.training = is_norm(module)  # norms use the statistics of the batch; dropout is off
        return teacher

    def _step(self, index: int, number: int, steps: int, batch: Examples, state: _State) -> float:
        phase = self.recipe.phases[index]
        self._seed_torch(index, number)
        rng = stream(self.seed, "subnets", index, number)
        for group in state.optimizer.param_groups:
            group["lr"] = phase.rate_at(number, steps)
        state.optimizer.zero_grad()
        teacher: torch.Tensor | None = None
        if state.teacher is not None and phase.subnets.frozen_teacher:
            with torch.no_grad():
                teacher = logits_of(state.teacher(*batch.inputs))
        losses = []
        for trained in phase.subnets.draw(phase.subspace(self.supernet.space), rng):
            result = self.supernet(batch.inputs[0], trained.subnet, *batch.inputs[1:])
            outputs = logits_of(result)
            loss = self._loss(trained, outputs, batch.labels, teacher)
            losses.append(loss.item())
            if not loss.isfinite():
                where = f"phase {index}, step {number}"
                hint = "a lower rate, a longer warmup, or clip"
                raise TrainingError(where, "the loss is not finite", f"{loss:g}, {trained.subnet}", hint)
            torch.autograd.backward(loss)
            teacher = outputs.detach() if teacher is None else teacher
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.supernet.parameters(), self.recipe.clip)
        state.optimizer.step()
        return sum(losses) / len(losses)

    def _loss(
        self, trained: TrainedSubnet, outputs: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor | None
    ) -> torch.Tensor:
        loss = outputs.new_zeros(())
        if trained.label_weight:
            loss = loss + trained.label_weight * self.objective.of_labels(outputs, labels)
        if trained.teacher_weight and teacher is not None:
            loss = loss + trained.teacher_weight * self.objective.of_teacher(outputs, teacher, labels)
        return loss

    def _draws(self, index: int, numbers: range, purpose: str) -> Iterator[Draw]:
        """Yield the examples of steps: an epoch is all examples in random order, without an incomplete last batch."""
        steps, current, order = len(self.examples) // self.recipe.batch, -1, torch.empty(0)
        for number in numbers:
            epoch, place = divmod(number, steps)
            if epoch != current:
                permutation = stream(self.seed, purpose, index, epoch).permutation(len(self.examples))
                current, order = epoch, torch.from_numpy(permutation)
            chosen = order[place * self.recipe.batch : (place + 1) * self.recipe.batch]
            yield Draw(chosen, int(stream(self.seed, "augmentation", index, epoch).integers(2**63)), epoch, place)

    def _seed_torch(self, *numbers: int) -> None:
        torch.manual_seed(int(stream(self.seed, "torch", *numbers).integers(2**63)))

    def _checkpoint(self, index: int, done: int, state: _State) -> Callable[[], TrainingCheckpoint]:
        def checkpoint() -> TrainingCheckpoint:
            return TrainingCheckpoint(
                self.identity,
                index,
                done,
                self.supernet.model.state_dict(),
                state.optimizer.state_dict(),
                {} if state.teacher is None else state.teacher.state_dict(),
                torch.tensor(state.losses, dtype=torch.float64),
            )

        return checkpoint

    def _restore(self, start: TrainingCheckpoint, steps: list[int], state: _State) -> None:
        if not (start.phase < len(steps) and 0 < start.step <= steps[start.phase]):
            value, hint = f"phase {start.phase}, step {start.step}", f"phases of {', '.join(map(str, steps))} steps"
            raise DataError("progress", "step out of range", value, hint)
        load_state(self.supernet.model, start.weights, "progress")
        if start.teacher:
            state.teacher = self._teacher()
            load_state(state.teacher, start.teacher, "progress, teacher")
        try:
            state.optimizer.load_state_dict(dict(start.optimizer))
        except (ValueError, KeyError) as error:
            raise DataError("progress", "belongs to another optimizer", str(error)) from error
        state.losses = start.losses.tolist()


def _check_function(
    noun: str, function: Callable[[torch.Tensor, torch.Tensor], object], outputs: torch.Tensor, labels: torch.Tensor
) -> None:
    """Check that a loss or a metric can be computed.

    Raises:
        SsimError: It can't.
    """
    try:
        function(outputs, labels)
    except SsimError:
        raise
    except Exception as error:
        problem, place = raised(error)
        shapes = f"outputs of shape {tuple(outputs.shape)}, labels of shape {tuple(labels.shape)}"
        raise SpecError(noun, problem, "; ".join(filter(None, (place, shapes)))) from error
