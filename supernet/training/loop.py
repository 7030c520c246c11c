"""Trains a supernet: the same seed gives the same weights, in one go or in many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from sim.base.errors import DataError, SpecError, TrainingError
from sim.base.streams import stream
from supernet.checkpoint import take
from supernet.extraction import extract
from supernet.layers import is_norm
from supernet.training.progress import Progress
from supernet.training.rewiring import importance, rewire

if TYPE_CHECKING:
    from collections.abc import Callable

    from supernet.data.source import Examples
    from supernet.network import Supernet
    from supernet.training.recipe import Recipe
    from supernet.training.rules import Lesson

REWIRING_BATCHES = 16
"""The importance of units is taken from as many batches."""


@dataclass(slots=True)
class _State:
    """What changes while training goes on."""

    optimizer: torch.optim.Optimizer
    teacher: nn.Module | None
    losses: list[float]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A step that has been done.

    Attributes:
        phase: The phase (index) that it is in.
        number: Its number in this phase, from 0.
        loss: The mean loss of its lessons.
        progress: Gives what is done, on the tensors themselves: to be written before the next step.
    """

    phase: int
    number: int
    loss: float
    progress: Callable[[], Progress]


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """A supernet in training.

    Attributes:
        supernet: Its weights are fitted; it comes back in training mode, without running statistics.
        examples: What is learned.
        recipe: How.
        seed: Decides the order of the examples, the subnets of each step and what is dropped out.
        identity: What decides the training, for its progress.
    """

    supernet: Supernet
    examples: Examples
    recipe: Recipe
    seed: int
    identity: str = ""

    def run(self, on_step: Callable[[Step], None], start: Progress | None = None) -> list[float]:
        """Train to the end, and return the loss of each step.

        Args:
            on_step: Told each step.
            start: What is done already.

        Raises:
            DataError: What is done is that of another layout.
            SpecError: There are too few examples, or a batch is of one.
            TrainingError: A loss is no finite number; names the phase, the step and the subnet.
        """
        steps = self.recipe.steps(len(self.examples))
        self.supernet.forget_statistics()
        self.supernet.train()
        with torch.random.fork_rng(devices=[]):
            self._check_fit()
            state = _State(self.recipe.optimizer.build(self.supernet.model), None, [])
            first, done = (0, 0) if start is None else (start.phase, start.step)
            if start is not None:
                self._restore(start, steps, state)
            for index in range(first, len(steps)):
                begun = done if index == first else 0
                if not begun:
                    self._begin(index, state)
                for number in range(begun, steps[index]):
                    state.losses.append(self._step(index, number, steps[index], state))
                    on_step(Step(index, number, state.losses[-1], self._progress(index, number + 1, state)))
        return state.losses

    def _check_fit(self) -> None:
        """Pass if the network takes the examples, and has a logit for each class.

        Raises:
            SpecError: It does not, or a batch is of one.
        """
        some, largest = self.examples.first(self.recipe.batch), self.supernet.space.largest
        self.supernet.check_batch(some.inputs)
        some, shapes = some.first(2), [tuple(part.shape[1:]) for part in some.inputs]
        try:
            with torch.no_grad():
                logits = self.supernet(some.inputs[0], largest, *some.inputs[1:])
        except (RuntimeError, IndexError, TypeError) as error:
            value = f"shape {', '.join(map(str, shapes))}: {str(error).splitlines()[0]}"
            right = f"a {self.supernet.space.family} with other options, or other data"
            raise SpecError("data", "do not go into the network", value, right) from error
        most = int(self.examples.labels.max())
        if logits.dim() != 2 or logits.shape[1] <= most:  # noqa: PLR2004 - batch and classes
            value = f"labels up to {most}, logits of shape {tuple(logits.shape)}"
            raise SpecError("data", "have more classes than the network", value, f"{most + 1} classes")

    def _begin(self, index: int, state: _State) -> None:
        phase = self.recipe.phases[index]
        if phase.rewire:
            batches = (self._batch(index, number, "rewiring") for number in range(REWIRING_BATCHES))
            self._seed_torch(index)
            rewire(self.supernet, importance(self.supernet, batches))
        if phase.subnets.frozen_teacher and state.teacher is None:
            state.teacher = self._teacher()
        state.optimizer = self.recipe.optimizer.build(self.supernet.model)

    def _teacher(self) -> nn.Module:
        teacher = extract(self.supernet, self.supernet.space.largest).requires_grad_(requires_grad=False)
        for module in teacher.modules():
            module.training = is_norm(module)  # it has no running statistics; but nothing is dropped out
        return teacher

    def _step(self, index: int, number: int, steps: int, state: _State) -> float:
        phase, batch = self.recipe.phases[index], self._batch(index, number, "order")
        self._seed_torch(index, number)
        lessons = phase.subnets.lessons(phase.opened(self.supernet.space), stream(self.seed, "subnets", index, number))
        for group in state.optimizer.param_groups:
            group["lr"] = phase.rate_at(number, steps)
        state.optimizer.zero_grad()
        soft: torch.Tensor | None = None
        if state.teacher is not None and phase.subnets.frozen_teacher:
            with torch.no_grad():
                soft = state.teacher(*batch.inputs).softmax(1)
        losses = []
        for lesson in lessons:
            logits = self.supernet(batch.inputs[0], lesson.subnet, *batch.inputs[1:])
            loss = self._loss(lesson, logits, batch.labels, soft)
            losses.append(loss.item())
            if not loss.isfinite():
                where = f"phase {index}, step {number}"
                right = "a lower rate, a longer warmup, or clip"
                raise TrainingError(where, "the loss is no finite number", f"{loss:g}, {lesson.subnet}", right)
            torch.autograd.backward(loss)
            soft = logits.detach().softmax(1) if soft is None else soft
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.supernet.parameters(), self.recipe.clip)
        state.optimizer.step()
        return sum(losses) / len(losses)

    def _loss(
        self, lesson: Lesson, logits: torch.Tensor, labels: torch.Tensor, soft: torch.Tensor | None
    ) -> torch.Tensor:
        loss = logits.new_zeros(())
        if lesson.labels:
            hard = functional.cross_entropy(logits, labels, label_smoothing=self.recipe.smoothing)
            loss = loss + lesson.labels * hard
        if lesson.teacher and soft is not None:
            loss = loss + lesson.teacher * functional.cross_entropy(logits, soft)
        return loss

    def _batch(self, index: int, number: int, purpose: str) -> Examples:
        """Return the examples of a step: an epoch goes through all in a random order, but for what is left over."""
        epoch, place = divmod(number, len(self.examples) // self.recipe.batch)
        order = stream(self.seed, purpose, index, epoch).permutation(len(self.examples))
        chosen = order[place * self.recipe.batch : (place + 1) * self.recipe.batch]
        return self.examples.take(torch.from_numpy(chosen).to(self.examples.labels.device))

    def _seed_torch(self, *numbers: int) -> None:
        torch.manual_seed(int(stream(self.seed, "torch", *numbers).integers(2**63)))

    def _progress(self, index: int, done: int, state: _State) -> Callable[[], Progress]:
        def progress() -> Progress:
            return Progress(
                self.identity,
                index,
                done,
                self.supernet.model.state_dict(),
                state.optimizer.state_dict(),
                {} if state.teacher is None else state.teacher.state_dict(),
                torch.tensor(state.losses, dtype=torch.float64),
            )

        return progress

    def _restore(self, start: Progress, steps: list[int], state: _State) -> None:
        if not (start.phase < len(steps) and 0 < start.step <= steps[start.phase]):
            place, right = f"phase {start.phase}, step {start.step}", f"phases of {', '.join(map(str, steps))} steps"
            raise DataError("progress", "is at a step that there is not", place, right)
        take(self.supernet.model, start.weights, "progress")
        if start.teacher:
            state.teacher = self._teacher()
            take(state.teacher, start.teacher, "progress, teacher")
        try:
            state.optimizer.load_state_dict(dict(start.optimizer))
        except (ValueError, KeyError) as error:
            raise DataError("progress", "is of another optimizer", str(error)) from error
        state.losses = start.losses.tolist()
