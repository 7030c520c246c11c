"""Confidence intervals of medians and percentiles, from the spread of samples and the drift between trials."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import binom

from sim.base.intervals import mean_and_half_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

CONFIDENCE = 0.95
_NORMAL = 1.96
"""The 97.5 % quantile of the standard normal distribution."""

FEWEST_FOR_P99 = math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(0.99))
"""Of fewer samples, the largest is below the 99th percentile with more than 2.5 % probability."""

_MAX_INDEPENDENT = 3
"""The largest number of trials of a cell that counts as independent."""


class Interval(NamedTuple):
    """A median, or another percentile, and its confidence interval, in nanoseconds; unknown ends are infinite."""

    median: float
    low: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """The larger half of the interval relative to the median: 0.01 is one percent either way."""
        return max(self.high - self.median, self.median - self.low) / self.median

    def overlaps(self, other: Interval) -> bool:
        """Return whether the intervals intersect."""
        return self.low <= other.high and other.low <= self.high


def trial_spread(deviations: Iterable[float]) -> float:
    """Return the typical relative standard deviation between trials of one cell: the median over all cells.

    Args:
        deviations: Of each cell with two trials or more, as `trial_deviation` returns them.
    """
    known = list(deviations)
    return float(np.median(known)) if known else 0.0


def trial_deviation(medians: Sequence[float]) -> float:
    """Return the relative standard deviation between the medians of a cell's trials, two or more."""
    return float(np.std(np.log(medians), ddof=1))


def median_interval(trials: Sequence[npt.NDArray[np.int64]], medians: Sequence[float] | None = None) -> Interval:
    """Return the median over all samples of a cell, with its 95 % interval.

    Samples of one trial are correlated: a disturbance of the machine lasts longer than a sample. Pooling them would
    give too narrow an interval, so the interval is the union of two: the distribution-free interval of the median of
    all samples by order statistics, and Student's interval of the mean of the trials' medians. With fewer than two
    trials, or too few samples for an interval, its ends are infinite.

    Args:
        trials: The samples of each trial in nanoseconds, int64, each of shape (samples,), none empty.
        medians: Of each trial, if they are known already.
    """
    samples = np.sort(np.concatenate(trials))
    median = float(np.median(samples))
    ranks = _ranks(len(samples), 0.5)
    if ranks is None or len(trials) < 2:  # noqa: PLR2004 - the spread between trials needs two
        return Interval(median, -math.inf, math.inf)
    center, half = mean_and_half_width(medians or [float(np.median(trial)) for trial in trials], CONFIDENCE)
    return Interval(median, min(float(samples[ranks[0]]), center - half), max(float(samples[ranks[1]]), center + half))


def percentile_interval(samples: npt.NDArray[np.int64], share: float) -> Interval | None:
    """Return a percentile of samples with its distribution-free 95 % interval, or None if they are too few for one.

    Of fewer than `FEWEST_FOR_P99` samples, even the largest may well be below the 99th percentile.

    Args:
        samples: In nanoseconds, int64, shape (samples,).
        share: The share of samples below the percentile, such as 0.99.
    """
    ranks = _ranks(len(samples), share)
    if ranks is None:
        return None
    low, high = (float(end) for end in np.partition(samples, ranks)[list(ranks)])
    return Interval(float(np.quantile(samples, share)), low, high)


def widened(interval: Interval, spread: float) -> Interval:
    """Return an interval that is at least that of three trials of the typical spread.

    Trials that agree by chance give too narrow an interval, the more so as a cell is measured until they do. More than
    three do not narrow this bound, since a disturbance of minutes shifts many trials alike.

    Args:
        interval: Of a median or a percentile.
        spread: The typical relative standard deviation between trials, as `trial_spread` returns it.
    """
    half = _NORMAL * spread * interval.median / math.sqrt(_MAX_INDEPENDENT)
    return Interval(
        interval.median, min(interval.low, interval.median - half), max(interval.high, interval.median + half)
    )


@cache
def _ranks(count: int, share: float) -> tuple[int, int] | None:
    """Return the order statistics (from 0) that enclose a percentile with 95 % confidence, or None for too few samples.

    The number of samples below the percentile is binomial (n, share) for any distribution.
    """
    below = int(binom.ppf((1 - CONFIDENCE) / 2, count, share)) - 1
    above = int(binom.ppf((1 + CONFIDENCE) / 2, count, share))
    return None if below < 0 or above >= count else (below, above)
