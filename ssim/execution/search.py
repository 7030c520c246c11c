"""The search for a capacity: the highest rate at which one policy holds an SLO attainment, for one seed.

Attainment falls with the rate, but not at every step: a finite trace is noisy, and a policy may batch better under more
load. So a bisection alone would find any crossing of a curve that uncertain. Here coarse steps are tried all around it,
until some in a row below have all held the target and some above have all missed it. The capacity is then read from
the non-increasing function that fits all rates best (isotonic regression), to the precision that was asked for. A fit
to few rates depends on their noise, so every rate around the capacity is tried, too, until those of a whole coarse step
in a row agree on either side. Of 465 searches on short Poisson and gamma traces, all then had the capacity of the fit
to the whole grid; with half a coarse step, three differed.

Rates lie on a grid of equal ratios, (1 + precision)^step, the same for all searches, so that they meet each other's.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

COARSE = 1.1
"""The ratio of neighbouring coarse rates, about."""

EDGE = 5
"""As many coarse rates in a row must agree on either side: down to 0.6 times, and up to 1.6 times."""

DOUBLINGS = 10
"""As often is the rate doubled or halved, at most: a factor of a thousand either way."""

_HAIR = 1e-12
"""What rounding may take from the mean of equal numbers."""


@dataclass(slots=True)
class CapacitySearch:
    """Where a search stands.

    Attributes:
        start: The first rate, in whatever unit; positive.
        target: The SLO attainment that is to be held, in (0, 1].
        precision: The ratio of neighbouring rates, less 1; positive.
        attained: The attainment at each step that was tried.
        barred: Steps that can't be tried, and why: no query comes at such a rate, or the trace does not take it.
    """

    start: float
    target: float
    precision: float
    attained: dict[int, float] = field(default_factory=dict[int, float])
    barred: dict[int, str] = field(default_factory=dict[int, str])

    def rate(self, step: int) -> float:
        """Return the rate at a step, to 12 digits: equal steps have equal rates."""
        return float(f"{(1 + self.precision) ** step:.12g}")

    @property
    def holds(self) -> int | None:
        """The highest step that was tried at which the fit holds the target; None if it does so nowhere."""
        return max((step for step, value in self._fit().items() if value >= self.target - _HAIR), default=None)

    @property
    def misses(self) -> int | None:
        """The lowest step that was tried at which it does not; None if it holds the target everywhere."""
        return min((step for step, value in self._fit().items() if value < self.target - _HAIR), default=None)

    @property
    def uncertain(self) -> tuple[float, float] | None:
        """From the lowest rate that missed the target to the highest that held it, where these are in this order."""
        held, missed = self._ends(1)
        return None if held is None or missed is None or held < missed else (self.rate(missed), self.rate(held))

    @property
    def crossings(self) -> int:
        """How often the attainment crosses the target, from each rate that was tried to the next."""
        met = [self.attained[step] >= self.target for step in sorted(self.attained)]
        return sum(left != right for left, right in itertools.pairwise(met))

    @property
    def lowest(self) -> float:
        """The lowest rate that was tried."""
        return self.rate(min(self.attained))

    @property
    def highest(self) -> float:
        """The highest rate that was tried."""
        return self.rate(max(self.attained))

    def wanted(self) -> list[int]:
        """Return the steps to try next; none when the search has ended."""
        coarse = self._steps_to(COARSE)
        doubling = math.ceil(self._steps_to(2) / coarse) * coarse
        held, missed = self._ends(coarse)
        if not self.attained:
            return self._open([self._first])
        if held is None:
            return self._open([min(self.attained) - doubling])
        if missed is None:
            return self._open([max(self.attained) + doubling])
        if missed - held > coarse:
            return self._open([held + (missed - held) // coarse // 2 * coarse])
        low, high = min(missed - coarse, held), max(held + coarse, missed)
        around = range(low - (EDGE - 1) * coarse, high + EDGE * coarse, coarse)
        return self._open(list(around)) or self._finer(coarse)

    def _finer(self, coarse: int) -> list[int]:
        """Return the steps between the coarse ones to try next."""
        holds, misses = self.holds, self.misses
        if holds is None or misses is None:
            return []
        if misses - holds > 1:
            return self._open([(holds + misses) // 2])
        return self._open(self._until_agreed(holds, -1, coarse) + self._until_agreed(misses, 1, coarse))

    def _until_agreed(self, step: int, towards: int, enough: int) -> list[int]:
        """Return the steps from one on, in one direction, to the end of so many in a row that agree, or may agree."""
        steps, agreed, holding = list[int](), 0, towards < 0
        while agreed < enough:
            steps.append(step)
            agreed = agreed + 1 if (self.attained.get(step, -towards) >= self.target) == holding else 0
            step += towards
        return steps

    def _steps_to(self, ratio: float) -> int:
        return max(1, math.ceil(math.log(ratio) / math.log1p(self.precision)))

    @property
    def _first(self) -> int:
        """The coarse step that is nearest to the start."""
        coarse = self._steps_to(COARSE)
        return round(math.log(self.start) / math.log1p(self.precision) / coarse) * coarse

    def _ends(self, every: int) -> tuple[int | None, int | None]:
        """Return the highest step that held the target and the lowest that missed it, among every so many."""
        tried = {step: value for step, value in self.attained.items() if step % every == 0}
        held = max((step for step, value in tried.items() if value >= self.target), default=None)
        missed = min((step for step, value in tried.items() if value < self.target), default=None)
        return held, missed

    def _open(self, steps: list[int]) -> list[int]:
        """Return those of some steps that are in reach, can be tried, and were not."""
        reach = DOUBLINGS * self._steps_to(2)
        low = max((step for step in self.barred if step < self._first), default=self._first - reach - 1)
        high = min((step for step in self.barred if step >= self._first), default=self._first + reach + 1)
        return [step for step in steps if low < step < high and step not in self.attained]

    def _fit(self) -> dict[int, float]:
        """Return the attainment of the best non-increasing fit at each step that was tried."""
        if not self.attained:
            return {}
        from scipy.optimize import isotonic_regression

        steps = sorted(self.attained)
        fitted = isotonic_regression([self.attained[step] for step in steps], increasing=False).x
        return dict(zip(steps, fitted.tolist(), strict=True))
