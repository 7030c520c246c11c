"""Sampling rules: the subnets of a training step and their losses (the sandwich rule, progressive shrinking)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from sim.base.parameters import NonNegative, NonNegativeInt, Parameters, PositiveInt

if TYPE_CHECKING:
    import numpy as np

    from supernet.space import SubnetConfig, SubnetSpace


class TrainedSubnet(NamedTuple):
    """A subnet of a training step. Its loss is a weighted sum of two cross entropies.

    Attributes:
        subnet: The subnet.
        label_weight: The weight of the cross entropy with the labels.
        teacher_weight: The weight of the cross entropy with the teacher's output (distillation).
    """

    subnet: SubnetConfig
    label_weight: float
    teacher_weight: float


class SamplingRule(Protocol):
    """A frozen dataclass whose fields are its parameters; YAML names it by `kind`.

    Attributes:
        frozen_teacher: Whether the teacher is a copy of the largest subnet from before any other was trained; else it
            is the first subnet of the step, with its current weights, whose own loss then has no teacher.
    """

    frozen_teacher: ClassVar[bool]

    def draw(self, space: SubnetSpace, rng: np.random.Generator) -> list[TrainedSubnet]:
        """Return the subnets of one step, from the space that is open in the phase."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SandwichRule(Parameters):
    """The sandwich rule with in-place distillation (BigNAS: Yu et al., ECCV 2020, sections 3.1 and 3.2).

    The largest subnet learns from the labels; the smallest and some random ones from the largest's output.

    Attributes:
        random: The number of random subnets.
    """

    random: NonNegativeInt = 2

    frozen_teacher: ClassVar[bool] = False

    def draw(self, space: SubnetSpace, rng: np.random.Generator) -> list[TrainedSubnet]:
        """Return the subnets of one step without duplicates; a space of one subnet gives ordinary training."""
        others = dict.fromkeys([space.smallest, *(space.sample(rng) for _ in range(self.random))])
        others.pop(space.largest, None)
        return [TrainedSubnet(space.largest, 1.0, 0.0), *(TrainedSubnet(subnet, 0.0, 1.0) for subnet in others)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressiveShrinking(Parameters):
    """A step of progressive shrinking (once-for-all: Cai et al., ICLR 2020, section 3.3).

    Random subnets learn from the labels and from the largest as it was before shrinking began.

    Attributes:
        random: The number of random subnets.
        teacher: The weight of the teacher's output; the labels have weight 1.
    """

    random: PositiveInt = 4
    teacher: NonNegative = 1.0

    frozen_teacher: ClassVar[bool] = True

    def draw(self, space: SubnetSpace, rng: np.random.Generator) -> list[TrainedSubnet]:
        """Return the subnets of one step."""
        return [TrainedSubnet(space.sample(rng), 1.0, self.teacher) for _ in range(self.random)]
