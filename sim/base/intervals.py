"""Confidence intervals over repeats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def mean_and_half_width(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the mean of independent repeats and the half-width of its Student-t confidence interval.

    The half-width is NaN for a single value, and 0 if all are equal.

    Args:
        values: One or more numbers.
        confidence: Confidence level, between 0 and 1.

    Examples:
        >>> mean, half = mean_and_half_width([1.0, 2.0, 3.0])
        >>> round(mean, 3), round(half, 3)
        (2.0, 2.484)
    """
    n = len(values)
    # Rounding must not push the mean of equal values past them: an attainment of exactly 1 is special.
    mean = min(max(math.fsum(values) / n, min(values)), max(values))
    if n == 1:
        return mean, math.nan
    from scipy.special import stdtrit  # noqa: PLC0415 - costs 0.1 s, and only repeats need it

    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return mean, float(stdtrit(n - 1, (1 + confidence) / 2)) * spread / math.sqrt(n)
