"""How sure a median is: intervals that take in both the spread of samples and the drift from visit to visit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.base.intervals import mean_and_half_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

CONFIDENCE = 0.95
_NORMAL = 1.96
"""Standard deviations to either side that hold 95 % of a normal law."""

_BELIEVED = 3
"""As many visits to a cell count as independent ones, at most, where they agree."""


class Interval(NamedTuple):
    """A median and its confidence interval, in nanoseconds; without an end that is known, infinite."""

    median: float
    low: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """The larger half of the interval relative to the median: 0.01 is one percent either way."""
        return max(self.high - self.median, self.median - self.low) / self.median

    def overlaps(self, other: Interval) -> bool:
        """Return whether the two have a value in common."""
        return self.low <= other.high and other.low <= self.high


def spread_of(visits: Iterable[Sequence[npt.NDArray[np.int64]]]) -> float:
    """Return the usual relative standard deviation of visits to one cell: the median over all cells.

    Args:
        visits: For each cell, the samples of each visit; cells of one visit say nothing.
    """
    logarithms = ([math.log(float(np.median(samples))) for samples in cell] for cell in visits)
    found = [float(np.std(times, ddof=1)) for times in logarithms if len(times) > 1]
    return float(np.median(found)) if found else 0.0


def median_interval(visits: Sequence[npt.NDArray[np.int64]], spread: float = 0.0) -> Interval:
    """Return the median over all samples of a cell, with its 95 % interval.

    Samples of one visit are alike: what disturbs a machine lasts longer than a sample. Pooled, they would promise too
    much, so that the interval is the union of two: that of the median of all samples by order statistics, which assumes
    nothing of their law, and Student's around the mean of the visits' medians. With fewer than two visits, or too few
    samples for an interval, its ends are infinite.

    Visits that happen to agree promise too much as well, the more so as a cell is visited until they do. So the
    interval is no width_divisor than that of three visits of the usual spread; of more no more is believed, since what
    disturbs a machine for minutes moves many of them alike.

    Args:
        visits: The samples of each visit in nanoseconds, int64, each of shape (samples,), none empty.
        spread: The usual relative standard deviation of visits, as `spread_of` returns it.
    """
    samples = np.sort(np.concatenate(visits))
    median = float(np.median(samples))
    ranks = _ranks(len(samples))
    if ranks is None or len(visits) < 2:  # noqa: PLR2004 - the spread of visits needs two
        return Interval(median, -math.inf, math.inf)
    center, half = mean_and_half_width([float(np.median(visit)) for visit in visits], CONFIDENCE)
    low, high = float(samples[ranks[0]]), float(samples[ranks[1]])
    least = _NORMAL * spread * median / math.sqrt(_BELIEVED)
    return Interval(median, min(low, center - half, median - least), max(high, center + half, median + least))


def _ranks(count: int) -> tuple[int, int] | None:
    """Return the order statistics (from 0) between which the median lies with 95 % confidence, or None without any.

    The number of samples below the median is binomial (n, 1/2), whatever their law.
    """
    below, outside = -1, 0.0
    while below + 1 < count / 2:
        outside += math.comb(count, below + 1) / 2**count
        if outside > (1 - CONFIDENCE) / 2:
            break
        below += 1
    return None if below < 0 else (below, count - 1 - below)
