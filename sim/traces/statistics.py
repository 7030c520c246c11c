"""Statistics of a trace, in one pass over its arrivals and constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import DataError
from sim.base.units import NS_PER_S
from sim.traces.trace import check_arrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

WINDOWS = ((1, 12), (1, 1), (60, 1))
"""Lengths of windows in seconds, as fractions: a minute of a day shrunk to 120 s, a second, a minute."""

_MOST_WINDOWS = 50_000_000
"""What `window_counts` may hold: 400 MB; 48 days in windows of 1/12 s."""


@dataclass(frozen=True, slots=True)
class WindowStatistics:
    """Statistics of the counts of arrivals in consecutive windows from 0.

    Attributes:
        window_s: Length of a window in seconds.
        windows: Number of complete windows; an incomplete last one is left out.
        peak_to_mean: Largest count over mean count; NaN without a complete window.
        dispersion: Index of dispersion: variance over mean of the counts (1 for a Poisson process); NaN without one.
    """

    window_s: float
    windows: int
    peak_to_mean: float
    dispersion: float


@dataclass(frozen=True, slots=True)
class TraceStatistics:
    """Statistics of a trace.

    Attributes:
        queries: Number of arrivals.
        duration_s: Length of the observed window in seconds.
        mean_qps: Queries per second over the duration.
        gap_cv2: Squared coefficient of variation of the times between arrivals (1 for a Poisson process); NaN for one
            query, or if all arrive at once.
        windows: Counts in windows of 1/12 s, 1 s and 60 s.
    """

    queries: int
    duration_s: float
    mean_qps: float
    gap_cv2: float
    windows: tuple[WindowStatistics, ...]


def describe(
    chunks: Iterable[npt.NDArray[np.int64]], duration_ns: int | Callable[[int], int] | None = None
) -> TraceStatistics:
    """Return the statistics of a trace.

    Args:
        chunks: Arrival times in nanoseconds, int64, never decreasing.
        duration_ns: Length of the observed window, or what returns it given the last arrival, such as a source's
            `window_ns`; None for the last arrival.

    Raises:
        DataError: There are no arrivals, they are not in order, or the duration ends before the last one.
    """
    windows = [_Windows(*length) for length in WINDOWS]
    queries = last_ns = 0
    gaps = gap_sum = gap_squares = 0.0
    for chunk in chunks:
        check_arrivals(chunk, location="chunks", first_row=queries, after_ns=last_ns)
        steps = np.diff(chunk, prepend=last_ns)[0 if queries else 1 :].astype(np.float64)
        gaps += len(steps)
        gap_sum += float(steps.sum())
        gap_squares += float(steps @ steps)
        for window in windows:
            window.add(chunk)
        queries += len(chunk)
        last_ns = int(chunk[-1])
    if not queries:
        raise DataError("chunks", "have no arrivals", "", "a trace needs at least one query")
    if callable(duration_ns):
        duration_ns = duration_ns(last_ns)
    span_ns = max(last_ns, 1) if duration_ns is None else duration_ns
    if span_ns < last_ns:
        raise DataError("duration_ns", "ends before the last arrival", str(span_ns), f"{last_ns} or more")
    return TraceStatistics(
        queries,
        duration_s=span_ns / NS_PER_S,
        mean_qps=queries * NS_PER_S / span_ns,
        gap_cv2=max(gaps * gap_squares / gap_sum**2 - 1, 0.0) if gap_sum else math.nan,
        windows=tuple(window.statistics(span_ns) for window in windows),
    )


class _Windows:
    """Counts of one window length. Arrivals are in order, so all windows but the last are closed and only summed up."""

    def __init__(self, numerator: int, denominator: int) -> None:
        self.length = (numerator, denominator)
        self.open, self.count = 0, 0  # the last window that had an arrival, and how many
        self.total = self.squares = self.peak = 0  # of the windows before

    def add(self, chunk: npt.NDArray[np.int64]) -> None:
        of_each = _window_of(chunk, self.length)  # in order: equal ones lie together
        starts = np.concatenate([[0], np.flatnonzero(np.diff(of_each)) + 1])
        numbers, counts = of_each[starts], np.diff(starts, append=len(chunk))
        if numbers[0] == self.open:
            counts[0] += self.count
        else:
            self.close()
        self.total += int(counts[:-1].sum())
        self.squares += int(counts[:-1] @ counts[:-1])
        self.peak = max(self.peak, int(counts[:-1].max(initial=0)))
        self.open, self.count = int(numbers[-1]), int(counts[-1])

    def close(self) -> None:
        self.total += self.count
        self.squares += self.count**2
        self.peak = max(self.peak, self.count)

    def statistics(self, span_ns: int) -> WindowStatistics:
        numerator, denominator = self.length
        windows = span_ns * denominator // (numerator * NS_PER_S)
        if self.open < windows:
            self.close()
        peak = dispersion = math.nan
        if self.total:
            mean = self.total / windows
            peak = self.peak / mean
            dispersion = (self.squares / windows - mean**2) / mean
        return WindowStatistics(numerator / denominator, windows, peak, dispersion)


def window_counts(chunks: Iterable[npt.NDArray[np.int64]], length: tuple[int, int] = (1, 1)) -> npt.NDArray[np.int64]:
    """Return the number of arrivals in each window, up to that of the last arrival (which may be incomplete).

    Args:
        chunks: Arrival times in nanoseconds, int64, never decreasing.
        length: Length of a window in seconds as a fraction: numerator and denominator.

    Raises:
        DataError: The trace has too many windows of this length.
    """
    counts = np.zeros(1024, np.int64)
    windows = 0
    for chunk in chunks:
        numbers = _window_of(chunk, length)
        first, windows = int(numbers[0]), int(numbers[-1]) + 1
        if windows > _MOST_WINDOWS:
            raise DataError("window_counts", "the trace has too many windows", str(windows), f"at most {_MOST_WINDOWS}")
        if windows > len(counts):
            counts = np.concatenate([counts, np.zeros(max(windows, len(counts)), np.int64)])
        counts[first:windows] += np.bincount(numbers - first)
    return counts[:windows]


def _window_of(arrival_ns: npt.NDArray[np.int64], length: tuple[int, int]) -> npt.NDArray[np.int64]:
    numerator, denominator = length
    # Whole seconds and the rest apart: times the denominator, a late time would leave int64.
    whole, rest = np.divmod(arrival_ns, numerator * NS_PER_S)
    return np.asarray(whole * denominator + rest * denominator // (numerator * NS_PER_S))
