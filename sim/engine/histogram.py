"""Histogram of latencies with buckets of 0.4 %, for quantiles in streaming metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

BITS = 8
"""Logarithm of the number of buckets per power of two: a bucket is 2**-8 of its latency wide."""

COUNT = 62 << BITS
"""Buckets for all latencies of a run, which are below 2**62 ns."""

SHIFT, BEFORE_ONE = 52 - BITS, 1023 << BITS
"""A latency's bucket is made of the upper bits of its float64, exponent first: `(bits >> SHIFT) - BEFORE_ONE`."""

QUANTILE_ERROR = 2.0 ** -(BITS + 1)
"""Maximum relative error of a quantile: half the width of a bucket, 0.2 %."""


def latency_histogram(latency_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the number of latencies in each bucket, int64, shape (`COUNT`,).

    Args:
        latency_ns: int64, shape (n,), positive.
    """
    buckets = (latency_ns.astype(np.float64).view(np.int64) >> SHIFT) - BEFORE_ONE
    return np.bincount(buckets, minlength=COUNT).astype(np.int64)


def quantile_ns(counts: npt.NDArray[np.int64], q: float) -> float:
    """Return the q-quantile of a histogram (linear interpolation), to `QUANTILE_ERROR`; NaN if it is empty.

    Args:
        counts: As from `latency_histogram`.
        q: From 0 to 1.
    """
    reached = np.cumsum(counts)
    answered = int(reached[-1])
    if answered == 0:
        return float("nan")
    place = q * (answered - 1)
    first = int(place)
    below, above = (
        _middle_ns(int(np.searchsorted(reached, nth, side="right"))) for nth in (first, min(first + 1, answered - 1))
    )
    return below + (above - below) * (place - first)


def _middle_ns(bucket: int) -> float:
    edges = np.array([bucket, bucket + 1], dtype=np.int64) + BEFORE_ONE
    below, above = (edges << SHIFT).view(np.float64).tolist()
    return float(below + above) / 2
