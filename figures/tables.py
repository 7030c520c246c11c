"""What the figures read: tables with the columns they need, and means with their confidence intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean over seeds and the ends of its confidence interval; the three are equal where there is no interval."""

    mean: float
    low: float
    high: float


def check_columns(table: pd.DataFrame, needed: Iterable[str], where: str) -> None:
    """Pass if a table has the columns that a figure needs.

    Raises:
        DataError: A column is missing.
    """
    for column in needed:
        if column not in table.columns:
            raise DataError(where, "a column is missing", column, did_you_mean(column, map(str, table.columns)))


def estimate(values: Iterable[float], highest: float) -> Estimate:
    """Return the mean and its 95 % Student-t interval, cut at 0 and at the highest possible value.

    Args:
        values: One a seed; NaN for a seed that has none.
        highest: The largest value that the quantity can take.

    Example:
        >>> estimate([1.0, 3.0], highest=10.0)
        Estimate(mean=2.0, low=0.0, high=10.0)
        >>> estimate([2.0, math.nan], highest=100.0)
        Estimate(mean=2.0, low=2.0, high=2.0)
        >>> estimate([math.nan], highest=100.0)
        Estimate(mean=nan, low=nan, high=nan)
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - a slow import that a listing of the figures does not need

    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return Estimate(math.nan, math.nan, math.nan)
    # Rounding must not push the mean of equal values past them: an attainment of exactly 1 has a place of its own.
    mean = float(np.clip(known.mean(), known.min(), known.max()))
    if known.min() == known.max():
        return Estimate(mean, mean, mean)
    half = float(stdtrit(len(known) - 1, (1 + CONFIDENCE) / 2) * known.std(ddof=1) / math.sqrt(len(known)))
    return Estimate(mean, max(0.0, mean - half), min(highest, mean + half))
