"""Confidence intervals of medians, from the spread of samples and the drift between trials."""

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

_MAX_INDEPENDENT = 3
"""The largest number of trials of a cell that counts as independent."""


class Interval(NamedTuple):
    """A median and its confidence interval, in nanoseconds; ends that can't be estimated are infinite."""

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


def trial_spread(trials: Iterable[Sequence[npt.NDArray[np.int64]]]) -> float:
    """Return the typical relative standard deviation between trials of one cell: the median over all cells.

    Args:
        trials: For each cell, the samples of each trial; cells of one trial are ignored.
    """
    logarithms = ([math.log(float(np.median(samples))) for samples in cell] for cell in trials)
    deviations = [float(np.std(times, ddof=1)) for times in logarithms if len(times) > 1]
    return float(np.median(deviations)) if deviations else 0.0


def median_interval(trials: Sequence[npt.NDArray[np.int64]], spread: float = 0.0) -> Interval:
    """Return the median over all samples of a cell, with its 95 % interval.

    Samples of one trial are correlated: a disturbance of the machine lasts longer than a sample. Pooling them would
    give too narrow an interval, so the interval is the union of two: the distribution-free interval of the median of
    all samples by order statistics, and Student's interval of the mean of the trials' medians. With fewer than two
    trials, or too few samples for an interval, its ends are infinite.

    Trials that agree by chance give too narrow an interval as well, the more so as a cell is measured until they do.
    So the interval is at least that of three trials of the typical spread. More than three do not narrow this bound,
    since a disturbance of minutes shifts many trials alike.

    Args:
        trials: The samples of each trial in nanoseconds, int64, each of shape (samples,), none empty.
        spread: The typical relative standard deviation between trials, as `trial_spread` returns it.
    """
    samples = np.sort(np.concatenate(trials))
    median = float(np.median(samples))
    ranks = _ranks(len(samples))
    if ranks is None or len(trials) < 2:  # noqa: PLR2004 - the spread between trials needs two
        return Interval(median, -math.inf, math.inf)
    center, half = mean_and_half_width([float(np.median(trial)) for trial in trials], CONFIDENCE)
    low, high = float(samples[ranks[0]]), float(samples[ranks[1]])
    min_half = _NORMAL * spread * median / math.sqrt(_MAX_INDEPENDENT)
    return Interval(median, min(low, center - half, median - min_half), max(high, center + half, median + min_half))


@cache
def _ranks(count: int) -> tuple[int, int] | None:
    """Return the order statistics (from 0) that enclose the median with 95 % confidence, or None for too few samples.

    The number of samples below the median is binomial (n, 1/2) for any distribution.
    """
    below = int(binom.ppf((1 - CONFIDENCE) / 2, count, 0.5)) - 1
    return None if below < 0 else (below, count - 1 - below)
