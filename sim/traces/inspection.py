"""What looks wrong with a recording: where it begins, how fine its clock is, and where nothing arrives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

COARSE_NS = 10 * NS_PER_MS
"""Steps of a clock from which on it is said: service times are as short."""

_MOST_GAPS = 1_000_000  # by which a clock is judged
_TICKS = 0.05  # the share of a step by which ticks may be off, and of gaps that may be
_DAY_NS = 86400 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one pass over a recording finds.

    Attributes:
        queries: Number of arrivals.
        distinct: Number of distinct times.
        first_ns: The first arrival, as it stands in the file.
        last_ns: The last one.
        gap_ns: The longest time without arrivals.
        gap_after_ns: The arrival before it.
        clock_ns: The step of the clock, if it is coarse; else 0.
    """

    queries: int
    distinct: int
    first_ns: int
    last_ns: int
    gap_ns: int
    gap_after_ns: int
    clock_ns: int

    @property
    def is_coarse(self) -> bool:
        """Whether arrivals share times because the clock is coarse."""
        return self.clock_ns >= COARSE_NS and self.queries >= 1.1 * self.distinct

    @property
    def has_gap(self) -> bool:
        """Whether the longest gap is a tenth of the recording or a day, and neither chance nor a step of the clock.

        Of n random arrivals the longest gap is about 1 + ln n times the mean.
        """
        span_ns = self.last_ns - self.first_ns
        is_long = 10 * self.gap_ns >= span_ns or self.gap_ns >= _DAY_NS
        mean_ns = span_ns / max(1, self.queries - 1)
        return is_long and self.gap_ns > max(self.clock_ns, 3 * (1 + math.log(self.queries)) * mean_ns)


def inspect(pieces: Iterable[npt.NDArray[np.int64]]) -> Inspection | None:
    """Return what a pass over arrival times in order finds, None if there are none.

    Args:
        pieces: Times in nanoseconds, int64, none empty.
    """
    queries = distinct = gap_ns = gap_after_ns = kept = 0
    first_ns = last_ns = None
    gaps: list[npt.NDArray[np.int64]] = []
    for piece in pieces:
        steps = np.diff(np.concatenate([piece[:1] if last_ns is None else [last_ns], piece]))
        at = int(np.argmax(steps))
        if steps[at] > gap_ns:
            gap_ns, gap_after_ns = int(steps[at]), int(piece[at] - steps[at])
        moved = steps[steps > 0]
        distinct += len(moved)
        if kept < _MOST_GAPS:
            gaps.append(moved)
            kept += len(moved)
        first_ns = int(piece[0]) if first_ns is None else first_ns
        last_ns, queries = int(piece[-1]), queries + len(piece)
    if first_ns is None or last_ns is None:
        return None
    clock_ns = _clock(np.concatenate(gaps))
    return Inspection(queries, distinct + 1, first_ns, last_ns, gap_ns, gap_after_ns, clock_ns)


def step_of(gaps: npt.NDArray[np.int64]) -> int:
    """Return the step of a clock, given the times between distinct arrivals: the smallest but for a few."""
    return int(np.quantile(gaps, _TICKS, method="lower"))


def _clock(gaps: npt.NDArray[np.int64]) -> int:
    """Return the step of a clock if all gaps but a few are multiples of it, else 0."""
    if len(gaps) < 2:  # noqa: PLR2004 - one gap is a multiple of itself
        return 0
    step = step_of(gaps)
    ticks = gaps / step
    off = np.abs(ticks - np.rint(ticks))
    return step if (off > _TICKS).mean() <= _TICKS else 0


def length(time_ns: int) -> str:
    """Return a length of time in a unit that people read.

    Examples:
        >>> length(2 * 86400 * 10**9), length(90 * 10**9), length(3 * 10**6)
        ('2 days', '90 s', '3 ms')
    """
    for name, unit_ns in (("days", _DAY_NS), ("h", 3600 * NS_PER_S), ("s", NS_PER_S)):
        if time_ns >= (2 if name == "h" else 1) * unit_ns:
            return f"{time_ns / unit_ns:.3g} {name}"
    return f"{time_ns / NS_PER_MS:.3g} ms"
