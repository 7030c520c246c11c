"""Training recipes as data: phases, each with its own subspace of subnets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import annotated_types as at

from sim.base.errors import SpecError
from sim.base.parameters import Parameters, Positive, PositiveInt
from supernet.training.optimizers import Optimizer, Sgd
from supernet.training.sampling import SamplingRule, SandwichRule

if TYPE_CHECKING:
    from supernet.space import SubnetSpace

_Share = Annotated[float, at.Ge(0), at.Le(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Parameters):
    """A phase of the training, with its own optimizer and learning-rate schedule.

    Attributes:
        epochs: Passes over the training examples; may be a fraction.
        rate: The peak learning rate: linear warm-up to it, then cosine decay to 0.
        warmup: The share of the steps that is warm-up.
        depths: The number of open choices, from the largest, for each depth of the control tuple; None for all.
        expands: The same for expand ratios.
        widths: The same for widths.
        subnets: The rule that draws the subnets of a step.
        rewire: Whether units are sorted by importance before the phase (`supernet.training.rewiring`).
    """

    epochs: Positive
    rate: Positive
    warmup: _Share = 0.05
    depths: PositiveInt | None = None
    expands: PositiveInt | None = None
    widths: PositiveInt | None = None
    subnets: SamplingRule = field(default_factory=SandwichRule)
    rewire: bool = False

    def subspace(self, space: SubnetSpace) -> SubnetSpace:
        """Return the space of the open subnets."""
        return replace(
            space,
            depths=tuple(choices[-(self.depths or 0) :] for choices in space.depths),
            expands=tuple(choices[-(self.expands or 0) :] for choices in space.expands),
            widths=tuple(choices[-(self.widths or 0) :] for choices in space.widths),
        )

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0.

        Examples:
            >>> phase = Phase(epochs=1, rate=8.0, warmup=0.5)
            >>> [round(phase.rate_at(step, 8), 2) for step in range(8)]
            [2.0, 4.0, 6.0, 8.0, 8.0, 6.83, 4.0, 1.17]
        """
        warmup_steps = self.warmup * steps
        if step < warmup_steps:
            return self.rate * min(1.0, (step + 1) / warmup_steps)
        return self.rate * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Parameters):
    """The recipe of a training.

    Attributes:
        batch: The batch size.
        phases: In order.
        optimizer: Of all phases.
        smoothing: Label smoothing: the share of each label that is spread over all classes.
        clip: The largest norm of the gradient; None for no clipping.
    """

    batch: PositiveInt
    phases: tuple[Phase, ...]
    optimizer: Optimizer = field(default_factory=Sgd)
    smoothing: _Share = 0.0
    clip: Positive | None = None

    def steps(self, examples: int) -> list[int]:
        """Return the number of steps of each phase; an incomplete last batch of an epoch is dropped.

        Raises:
            SpecError: There are fewer examples than a batch.
        """
        batches = examples // self.batch
        if not batches:
            hint = f"at most {examples}, the training examples"
            raise SpecError("batch", "larger than the training set", str(self.batch), hint)
        return [math.ceil(phase.epochs * batches) for phase in self.phases]
