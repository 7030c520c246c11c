"""The search for a capacity: the highest rate at which one policy holds an SLO attainment, for one seed.

Rates lie on a grid of equal ratios, start x (1 + precision)^step, so that searches of one experiment meet each other's
rates. From the start the rate is doubled or halved until it holds on one side and misses on the other; then the stretch
between is halved. What lies below is checked at a few rates, since nothing says that attainment only falls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

DOUBLINGS = 10
"""As often is the rate doubled or halved, at most: a factor of a thousand either way."""

CHECKED = (0.5, 0.75, 0.9)
"""Shares of the capacity at which it is checked that the policy holds there, too."""


@dataclass(slots=True)
class Search:
    """Where a search stands.

    Attributes:
        start: The rate at step 0, in whatever unit; positive.
        target: The SLO attainment that is to be held, in (0, 1].
        precision: The ratio of neighbouring rates, less 1; positive.
        attained: The attainment at each step that was tried.
    """

    start: float
    target: float
    precision: float
    attained: dict[int, float] = field(default_factory=dict[int, float])

    def rate(self, step: int) -> float:
        """Return the rate at a step, to 12 digits: equal steps have equal rates."""
        return float(f"{self.start * (1 + self.precision) ** step:.12g}")

    @property
    def holds(self) -> int | None:
        """The highest step below the lowest miss above it, so far: None if all missed."""
        held = [step for step, value in self.attained.items() if value >= self.target]
        return max(held, default=None)

    @property
    def misses(self) -> int | None:
        """The lowest step above `holds` that missed, so far."""
        holds = self.holds
        missed = [s for s, value in self.attained.items() if value < self.target and (holds is None or s > holds)]
        return min(missed, default=None)

    @property
    def lowest(self) -> float:
        """The lowest rate that was tried."""
        return self.rate(min(self.attained))

    @property
    def highest(self) -> float:
        """The highest rate that was tried."""
        return self.rate(max(self.attained))

    @property
    def misses_below(self) -> list[float]:
        """Rates below the capacity at which the target was missed: attainment does not only fall with the rate."""
        holds = self.holds
        missed = (s for s, value in self.attained.items() if value < self.target and holds is not None and s < holds)
        return [self.rate(step) for step in sorted(missed)]

    def wanted(self) -> list[int]:
        """Return the steps to try next; none when the search has ended."""
        if not self.attained:
            return [0]
        holds, misses = self.holds, self.misses
        if holds is None:
            lowest = min(self.attained)
            return [lowest - self._doubling] if lowest > -DOUBLINGS * self._doubling else []
        if misses is None:
            return [holds + self._doubling] if holds < DOUBLINGS * self._doubling else []
        if misses - holds > 1:
            return [(holds + misses) // 2]
        below = {holds + math.floor(math.log(share) / math.log1p(self.precision)) for share in CHECKED}
        return sorted(below - self.attained.keys())

    @property
    def _doubling(self) -> int:
        return max(1, math.ceil(math.log(2) / math.log1p(self.precision)))
