"""How a supernet is trained, as data: phases, each with the subnets that are open in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import annotated_types as at

from sim.base.errors import SpecError
from sim.base.parameters import Parameters, Positive, PositiveInt
from supernet.training.optimizers import Optimizer, Sgd
from supernet.training.rules import Rule, Sandwich

if TYPE_CHECKING:
    from supernet.space import SubNetSpace

_Share = Annotated[float, at.Ge(0), at.Le(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Parameters):
    """A part of the training, with an optimizer and a schedule of rates of its own.

    Attributes:
        epochs: How many times the training examples are gone through; parts of one as well.
        rate: The highest learning rate: it rises to it in a straight line, and falls to 0 along a cosine.
        warmup: The share of the steps in which it rises.
        depths: How many of the choices, counted from the largest, are open in each entry of the control tuple that is
            a depth; None for all.
        expands: The same for expand ratios.
        widths: The same for widths.
        subnets: Which of the open subnets are trained in a step, and on what.
        rewire: Whether units are put in the order of their importance before it (`supernet.training.rewiring`).
    """

    epochs: Positive
    rate: Positive
    warmup: _Share = 0.05
    depths: PositiveInt | None = None
    expands: PositiveInt | None = None
    widths: PositiveInt | None = None
    subnets: Rule = field(default_factory=Sandwich)
    rewire: bool = False

    def opened(self, space: SubNetSpace) -> SubNetSpace:
        """Return the subnets that are open, as a space."""
        return replace(
            space,
            depths=tuple(choices[-(self.depths or 0) :] for choices in space.depths),
            expands=tuple(choices[-(self.expands or 0) :] for choices in space.expands),
            widths=tuple(choices[-(self.widths or 0) :] for choices in space.widths),
        )

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0.

        Example:
            >>> phase = Phase(epochs=1, rate=8.0, warmup=0.5)
            >>> [round(phase.rate_at(step, 8), 2) for step in range(8)]
            [2.0, 4.0, 6.0, 8.0, 8.0, 6.83, 4.0, 1.17]
        """
        rising = self.warmup * steps
        if step < rising:
            return self.rate * min(1.0, (step + 1) / rising)
        return self.rate * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Parameters):
    """How a supernet is trained.

    Attributes:
        batch: Examples in a step.
        phases: One after the other.
        optimizer: Takes the steps.
        smoothing: Of the labels: what share of each goes to all classes equally.
        clip: The longest that a gradient over all weights may be; None for any length.
    """

    batch: PositiveInt
    phases: tuple[Phase, ...]
    optimizer: Optimizer = field(default_factory=Sgd)
    smoothing: _Share = 0.0
    clip: Positive | None = None

    def steps(self, examples: int) -> list[int]:
        """Return how many steps each phase has; what an epoch leaves over of the last batch is not used.

        Raises:
            SpecError: There are fewer examples than make a batch.
        """
        batches = examples // self.batch
        if not batches:
            raise SpecError("batch", "is larger than all examples for training", str(self.batch), f"at most {examples}")
        return [math.ceil(phase.epochs * batches) for phase in self.phases]
