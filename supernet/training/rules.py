"""Which subnets are trained in a step, and on what: the sandwich rule and progressive shrinking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from sim.base.parameters import NonNegative, NonNegativeInt, Parameters, PositiveInt

if TYPE_CHECKING:
    import numpy as np

    from supernet.space import SubNet, SubNetSpace


class Lesson(NamedTuple):
    """One subnet's part in a step. Its loss is a sum of two cross entropies.

    Attributes:
        subnet: What is trained.
        labels: The weight of the one with the labels.
        teacher: The weight of the one with the teacher's output.
    """

    subnet: SubNet
    labels: float
    teacher: float


class Rule(Protocol):
    """A frozen dataclass whose fields are its parameters; YAML names it by `kind`.

    Attributes:
        frozen_teacher: Whether the teacher is the largest subnet as it was before any other was trained; else it is the
            subnet of the first lesson, as it is in this step, which then has no weight on the teacher.
    """

    frozen_teacher: ClassVar[bool]

    def lessons(self, space: SubNetSpace, rng: np.random.Generator) -> list[Lesson]:
        """Return what is trained in one step, given the subnets that are open."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandwich(Parameters):
    """The sandwich rule with in-place distillation (BigNAS: Yu et al., ECCV 2020, sections 3.1 and 3.2).

    The largest subnet learns from the labels; the smallest and some random ones from what the largest answers.

    Attributes:
        random: How many random ones.
    """

    random: NonNegativeInt = 2

    frozen_teacher: ClassVar[bool] = False

    def lessons(self, space: SubNetSpace, rng: np.random.Generator) -> list[Lesson]:
        """Return what is trained in one step; no subnet twice, so that with one open this is ordinary training."""
        others = dict.fromkeys([space.smallest, *(space.sample(rng) for _ in range(self.random))])
        others.pop(space.largest, None)
        return [Lesson(space.largest, 1.0, 0.0), *(Lesson(subnet, 0.0, 1.0) for subnet in others)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrinking(Parameters):
    """A step of progressive shrinking (once-for-all: Cai et al., ICLR 2020, section 3.3).

    Some random subnets learn from the labels and from the largest as it was before it began to be shrunk.

    Attributes:
        random: How many.
        teacher: What the teacher's answer counts against the labels.
    """

    random: PositiveInt = 4
    teacher: NonNegative = 1.0

    frozen_teacher: ClassVar[bool] = True

    def lessons(self, space: SubNetSpace, rng: np.random.Generator) -> list[Lesson]:
        """Return what is trained in one step."""
        return [Lesson(space.sample(rng), 1.0, self.teacher) for _ in range(self.random)]
