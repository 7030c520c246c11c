"""Which choices are compatible with the paper: the rule, fixed before the search was run.

- A statement *holds* at a point if its distance is at most 1, which is where its claim is reproduced.
- The *misfit* of a point on some figures is the sum, over their statements, of the part of the distance above 1, capped
  at `CAP`: 0 if all hold, and `CAP - 1` for one that is far off.
- The *region* is all points whose misfit is within `TOLERANCE` of the least: a quarter of one statement far off. It
  *fits* only if the least misfit is 0; otherwise it is the nearest, and is called that.
- A figure is *predicted* by the region of all other figures. What is said of it is the range over that region; of a
  large region over its `MOST` nearest points. These are simulated again in full length with all seeds.
- The verdict on a claim is the middle one of its verdicts at these points; of two, the worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from ssim.paper.claims.claim import Verdict
from ssim.paper.inference.statements import CAP, FIGURES, STATEMENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ssim.paper.inference.space import Choices

TOLERANCE = 0.5
MOST = 24


class SearchPoint(NamedTuple):
    """A point of the space: a setting, and what the scheduler does."""

    setting: Choices
    scheduler: str


@dataclass(frozen=True, slots=True)
class Searched:
    """A point and what came of it.

    Attributes:
        point: The point.
        values: The number of each statement.
        distances: Its distance from the paper.
    """

    point: SearchPoint
    values: tuple[float, ...]
    distances: tuple[float, ...]

    def misfit(self, figures: Collection[str]) -> float:
        """Return the misfit on some figures."""
        pairs = zip(STATEMENTS, self.distances, strict=True)
        return sum(max(0.0, min(distance, CAP) - 1) for statement, distance in pairs if statement.figure in figures)

    def held(self) -> set[int]:
        """Return the numbers of the statements that hold."""
        return {number for number, distance in enumerate(self.distances) if distance <= 1}

    def holding(self, figures: Collection[str]) -> int:
        """Return how many statements of some figures hold."""
        return sum(STATEMENTS[number].figure in figures for number in self.held())


@dataclass(frozen=True, slots=True)
class Region:
    """What is compatible with some figures.

    Attributes:
        figures: The figures.
        least: The least misfit.
        points: All points of the region, the nearest first.
    """

    figures: tuple[str, ...]
    least: float
    points: tuple[Searched, ...]

    @property
    def fits(self) -> bool:
        """Whether all statements of the figures hold at some point."""
        return self.least == 0

    @property
    def shown(self) -> tuple[Searched, ...]:
        """The points over which ranges are taken."""
        return self.points[:MOST]


def region(searched: Sequence[Searched], figures: Iterable[str]) -> Region:
    """Return the region of some figures; of equal misfits, points come in the order of the search."""
    chosen = tuple(figures)
    misfits = {id(each): each.misfit(chosen) for each in searched}
    least = min(misfits.values())
    near = [each for each in searched if misfits[id(each)] <= least + TOLERANCE]
    return Region(chosen, least, tuple(sorted(near, key=lambda each: misfits[id(each)])))


def without(figure: str) -> tuple[str, ...]:
    """Return all figures but one."""
    return tuple(each for each in FIGURES if each != figure)


def hold_nowhere(searched: Sequence[Searched]) -> list[tuple[int, float]]:
    """Return the statements that hold at no point, each with its least distance."""
    least = [min(each.distances[number] for each in searched) for number in range(len(STATEMENTS))]
    return [(number, distance) for number, distance in enumerate(least) if distance > 1]


def contradictions(searched: Sequence[Searched]) -> list[tuple[int, int]]:
    """Return the pairs of statements of which each holds somewhere, and both nowhere."""
    nowhere = {number for number, _ in hold_nowhere(searched)}
    somewhere = [number for number in range(len(STATEMENTS)) if number not in nowhere]
    holds = [[each.distances[number] <= 1 for each in searched] for number in range(len(STATEMENTS))]
    return [
        (one, other)
        for one, other in combinations(somewhere, 2)
        if not any(a and b for a, b in zip(holds[one], holds[other], strict=True))
    ]


_ORDER = (Verdict.REPRODUCED, Verdict.DIRECTION, Verdict.NOT_REPRODUCED, Verdict.NOT_TESTABLE)


def middle(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the middle one of some verdicts; of two, the worse."""
    return sorted(verdicts, key=_ORDER.index)[len(verdicts) // 2]
