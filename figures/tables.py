"""What the figures read: tables with the columns they need, and means with their confidence intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from sim.errors import DataError, did_you_mean
from sim.intervals import mean_and_half_width

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd


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
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Estimate(math.nan, math.nan, math.nan)
    mean, half = mean_and_half_width(known)
    if math.isnan(half):
        return Estimate(mean, mean, mean)
    return Estimate(mean, max(0.0, mean - half), min(highest, mean + half))
