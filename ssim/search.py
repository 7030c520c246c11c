"""The search for a capacity: the highest rate at which one policy holds an SLO attainment, for one seed.

Attainment falls with the rate, but not at every step: a finite trace has luck, and a policy may batch better under more
load. So the capacity is taken from all rates that were tried: the highest at which the non-increasing function that
fits them best (isotonic regression) holds the target. From the first rate, it is doubled or halved until the fit
crosses the target, the stretch of the crossing is halved to neighbouring rates, and then rates around it are tried,
nearer ones closer together, until those at the edges agree with the fit. In the end it is checked that a few much lower
rates hold the target, too; a policy that does not is no matter of luck, and is told.

Rates lie on a grid of equal ratios, (1 + precision)^step, the same for all searches, so that they meet each other's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

DOUBLINGS = 10
"""As often is the rate doubled or halved, at most: a factor of a thousand either way."""

NEAR, FAR = 8, 64
"""Around the crossing rates are tried at 1, 2, 4, ... steps: to 8 in any case, to 64 while those at the edge waver."""


CHECKED = (0.5, 0.75)
"""Shares of the capacity at which it is checked that the policy holds the target there, too."""

_HAIR = 1e-12
"""What rounding may take from the mean of equal numbers."""


@dataclass(slots=True)
class Search:
    """Where a search stands.

    Attributes:
        start: The first rate, in whatever unit; positive.
        target: The SLO attainment that is to be held, in (0, 1].
        precision: The ratio of neighbouring rates, less 1; positive.
        attained: The attainment at each step that was tried.
        checks: Those of these steps that were tried as checks, and do not count for the fit.
        barred: Steps that can't be tried, and why: no query comes at such a rate, or the trace does not take it.
    """

    start: float
    target: float
    precision: float
    attained: dict[int, float] = field(default_factory=dict[int, float])
    checks: set[int] = field(default_factory=set[int])
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
    def wavers(self) -> tuple[float, float] | None:
        """From the lowest rate that missed the target to the highest that held it, where these are in this order."""
        missed = min((step for step, value in self.attained.items() if value < self.target), default=None)
        held = max((step for step, value in self.attained.items() if value >= self.target), default=None)
        if missed is None or held is None or held < missed:
            return None
        return self.rate(missed), self.rate(held)

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
        if not self.attained:
            return self._open([self._first])
        holds, misses = self.holds, self.misses
        if holds is None:
            return self._open([min(self.attained) - self._doubling])
        if misses is None:
            return self._open([max(self.attained) + self._doubling])
        if misses - holds > 1:
            return self._open([(holds + misses) // 2])
        above = self._around([misses + distance for distance in _distances()], held=False)
        below = self._around([holds - distance for distance in _distances()], held=True)
        around = self._open(above + below)
        if around:
            return around
        checks = {holds + math.floor(math.log(share) / math.log1p(self.precision)) for share in CHECKED}
        asked = self._open(sorted(checks))
        self.checks |= set(asked)
        return asked

    @property
    def _first(self) -> int:
        return round(math.log(self.start) / math.log1p(self.precision))

    @property
    def _doubling(self) -> int:
        return max(1, math.ceil(math.log(2) / math.log1p(self.precision)))

    def _open(self, steps: list[int]) -> list[int]:
        """Return those of some steps that are in reach, can be tried, and were not."""
        reach = DOUBLINGS * self._doubling
        low = max((step for step in self.barred if step < self._first), default=self._first - reach - 1)
        high = min((step for step in self.barred if step >= self._first), default=self._first + reach + 1)
        return [step for step in steps if low < step < high and step not in self.attained]

    def _around(self, steps: list[int], *, held: bool) -> list[int]:
        """Return the steps on one side of the crossing that are to be tried.

        Args:
            steps: Nearest first.
            held: Whether the target should be held there.
        """
        near = [step for number, step in enumerate(steps) if 2**number <= NEAR]
        untried = self._open(near)
        if untried:
            return untried
        for before, step in zip(steps[len(near) - 1 :], steps[len(near) :], strict=False):
            edge = self.attained.get(before)
            if edge is None or (edge >= self.target) == held:
                return []
            if step not in self.attained:
                return [step]
        return []

    def _fit(self) -> dict[int, float]:
        """Return the attainment of the best non-increasing fit at each step that was tried."""
        counted = self.attained.keys() - self.checks
        if not counted:
            return {}
        from scipy.optimize import isotonic_regression

        steps = sorted(counted)
        fitted = isotonic_regression([self.attained[step] for step in steps], increasing=False).x
        return dict(zip(steps, fitted.tolist(), strict=True))


def _distances() -> list[int]:
    return [2**power for power in range(FAR.bit_length()) if 2**power <= FAR]
