"""Input of the figures: checks of table columns, and means with confidence intervals."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sim.base.errors import DataError, did_you_mean
from sim.base.intervals import mean_and_half_width

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    import pandas as pd


class Estimate(NamedTuple):
    """A mean over seeds and the bounds of its confidence interval; all three are equal if there is no interval."""

    mean: float
    low: float
    high: float


def check_columns(table: pd.DataFrame, needed: Iterable[str], location: str) -> None:
    """Check that a table has the columns that a figure needs.

    Raises:
        DataError: A column is missing.
    """
    for column in needed:
        if column not in table.columns:
            raise DataError(location, "missing column", column, did_you_mean(column, map(str, table.columns)))


def estimate(values: Iterable[float], highest: float) -> Estimate:
    """Return the mean and its 95 % Student-t interval, clipped at 0 and at the highest possible value.

    Args:
        values: One per seed; NaN for a missing value.
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


def values(table: pd.DataFrame, column: str) -> list[Any]:
    """Return the distinct values of a column: numbers in order, others in order of appearance."""
    distinct = table[column].unique().tolist()
    # A swept thing may be a number in one run and a word or nothing in another: those have no order but their own.
    if all(isinstance(value, int | float) for value in distinct):
        return sorted(distinct, key=lambda value: (math.isnan(value), value))
    return distinct


def window_ends(windows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return when each window ends, in s: `end_s`, or where that is missing, when the next one would begin."""
    if "end_s" in windows.columns:
        return windows["end_s"].to_numpy(np.float64)
    starts = windows["start_s"].to_numpy(np.float64)
    distinct = np.unique(starts)
    return starts + (float(np.diff(distinct).min()) if len(distinct) > 1 else 1.0)


_UNITS = {"_ms": "ms", "_gb_per_s": "GB/s", "_gb": "GB", "_per_s": "/s", "_s": "s", "_qps2": "q/s²", "_qps": "q/s"}
_SAID = {"cv2": "CV²", "load_gb_per_s": "loading"}
_ITEMS = {"queues": "queue", "kinds": "kind", "policies": "policy", "faults": "fault"}
"""What an item of a list is called, by the key of the list."""


def setting(name: str, value: object = None) -> str:
    """Return the label of a swept column and its value, or of the column alone.

    The key of an item of a list keeps the item's place in it: several items may be swept at once.

    Example:
        >>> setting("cluster.dispatch_ms", 3.0), setting("trace.cv2", 4), setting("cluster.drop", "never")
        ('dispatch = 3 ms', 'CV² = 4', 'drop = never')
        >>> setting("cluster.dispatch_ms"), setting("cluster.workers")
        ('dispatch (ms)', 'workers')
        >>> setting("trace.variant_qps", 4900), setting("trace.acceleration_qps2", 250)
        ('variant rate = 4900 q/s', 'acceleration = 250 q/s²')
        >>> setting("queues.1.trace.mean_qps", 2000), setting("cluster.kinds.0.workers")
        ('queue 1: mean rate = 2000 q/s', 'kind 0: workers')
    """
    *path, short = name.split(".")
    suffix = next((suffix for suffix in _UNITS if short.endswith(suffix)), "")
    words, unit = _SAID.get(short, short.removesuffix(suffix).replace("_", " ")), _UNITS.get(suffix, "")
    words += " rate" if suffix == "_qps" else ""
    for items, place in pairwise(path):
        if items in _ITEMS and place.isdecimal():
            words = f"{_ITEMS[items]} {place}: {words}"
    if value is None:
        return f"{words} ({unit})" if unit else words
    if isinstance(value, float):
        formatted = "none" if math.isnan(value) else f"{value:g}"
    else:
        formatted = str(value).replace("_", " ")
    return f"{words} = {formatted} {unit}".strip()
