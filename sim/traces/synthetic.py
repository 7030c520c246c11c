"""Synthetic arrivals: renewal processes and the bursty and time-varying loads of the paper (SuperServe, section 6.3).

All are made from streams of gamma distributed gaps with mean 1 and a given squared coefficient of variation (CV^2): 0
is constant gaps, 1 a Poisson process, above 1 bursts. A stream starts with a whole gap, which shifts its expected count
by (CV^2 - 1) / 2 queries and has no other effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sim.base.errors import SpecError
from sim.base.parameters import NonNegative, Positive, check_parameters
from sim.base.streams import stream
from sim.base.units import NS_PER_S, ns_from_s
from sim.traces.source import CHUNK, TraceSource, rechunked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Times = Iterator[npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Generated(TraceSource):
    """A generator with a given duration.

    Attributes:
        duration_s: Length of the trace in seconds.
    """

    duration_s: Positive

    @property
    def duration_ns(self) -> int:
        return ns_from_s(self.duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(_Generated):
    """Independent arrivals at a constant mean rate.

    Attributes:
        mean_qps: Mean rate in queries per second.
    """

    mean_qps: Positive

    kind: ClassVar[str] = "poisson"

    def chunks(self, seed: int) -> Times:
        """Yield arrivals whose gaps are exponential."""
        return renewal(stream(seed, "poisson"), self.mean_qps, 1, self.duration_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma(_Generated):
    """Arrivals with gamma distributed gaps.

    Attributes:
        mean_qps: Mean rate in queries per second.
        cv2: Squared coefficient of variation of the gaps: above 1 for bursts, 0 for constant gaps.
    """

    mean_qps: Positive
    cv2: NonNegative

    kind: ClassVar[str] = "gamma"

    @property
    def is_random(self) -> bool:
        """Whether the gaps vary."""
        return self.cv2 > 0

    def chunks(self, seed: int) -> Times:
        """Yield arrivals whose gaps are gamma distributed."""
        return renewal(stream(seed, "gamma"), self.mean_qps, self.cv2, self.duration_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(_Generated):
    """One arrival every 1 / mean_qps seconds, the first at 0; rounding errors do not accumulate.

    Attributes:
        mean_qps: Rate in queries per second.
    """

    mean_qps: Positive

    kind: ClassVar[str] = "constant"

    @property
    def is_random(self) -> bool:
        """False: the gaps are constant."""
        return False

    def chunks(self, seed: int) -> Times:
        """Yield equally spaced arrivals."""
        return clock(self.mean_qps, self.duration_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursty(_Generated):
    """A constant base stream plus a bursty stream (SuperServe, section 6.3.1, after InferLine).

    Attributes:
        base_qps: Rate of the base stream, whose gaps are all equal (CV^2 = 0), in queries per second.
        variant_qps: Mean rate of the bursty stream in queries per second.
        cv2: Squared coefficient of variation of the gaps of the bursty stream.
    """

    base_qps: Positive
    variant_qps: Positive
    cv2: NonNegative

    kind: ClassVar[str] = "bursty"

    @property
    def is_random(self) -> bool:
        """Whether the gaps of the bursty stream vary."""
        return self.cv2 > 0

    @property
    def expected_qps(self) -> float:
        """Expected mean rate over the trace in queries per second."""
        return self.base_qps + self.variant_qps

    def chunks(self, seed: int) -> Times:
        """Yield the arrivals of both streams, merged."""
        bursts = renewal(stream(seed, "bursty"), self.variant_qps, self.cv2, self.duration_ns)
        return rechunked(_merged(clock(self.base_qps, self.duration_ns), bursts))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeVarying(_Generated):
    """A mean rate that changes linearly from one value to another (SuperServe, section 6.3.2).

    A renewal process of rate 1 runs in operational time, the integral of the rate, so that CV^2 stays the same while
    the rate changes.

    Attributes:
        start_qps: Mean rate before the ramp in queries per second.
        end_qps: Mean rate after the ramp; may be lower.
        acceleration_qps2: Slope of the ramp in queries per second per second (the paper's tau); positive.
        cv2: Squared coefficient of variation of the gaps.
        ramp_start_s: Start of the ramp in seconds. The paper does not state it; in its Figure 13b (2,500 to 7,400 q/s
            at 250 q/s^2: a ramp of 19.6 s) the intermediate models appear from about 60 to 80 s, hence 60.

    Raises:
        SpecError: The trace ends before the ramp starts, or a parameter is out of range.
    """

    start_qps: Positive
    end_qps: Positive
    acceleration_qps2: Positive
    cv2: NonNegative
    ramp_start_s: NonNegative = 60.0

    kind: ClassVar[str] = "time_varying"

    @property
    def is_random(self) -> bool:
        """Whether the gaps vary beyond the ramp."""
        return self.cv2 > 0

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.ramp_start_s >= self.duration_s:
            raise SpecError(
                "TimeVarying.ramp_start_s",
                "is after the end of the trace",
                str(self.ramp_start_s),
                f"below {self.duration_s}",
            )

    @property
    def ramp_end_s(self) -> float:
        """End of the ramp in seconds."""
        return self.ramp_start_s + abs(self.end_qps - self.start_qps) / self.acceleration_qps2

    def rate_qps(self, time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the mean rate in queries per second at times in seconds; float64, any shape."""
        return np.interp(time_s, [self.ramp_start_s, self.ramp_end_s], [self.start_qps, self.end_qps])

    @property
    def expected_qps(self) -> float:
        """Expected mean rate over the trace in queries per second."""
        times = np.array([0.0, self.ramp_start_s, min(self.ramp_end_s, self.duration_s), self.duration_s])
        return float(np.trapezoid(self.rate_qps(times), times)) / self.duration_s

    def chunks(self, seed: int) -> Times:
        """Yield the arrivals of the rescaled renewal process."""
        return _arrivals(stream(seed, "time_varying"), self.cv2, self._time_ns, self.duration_ns)

    def _time_ns(self, expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the time by which a given number of queries is expected: the inverse of the integral of the rate."""
        slope = math.copysign(self.acceleration_qps2, self.end_qps - self.start_qps)
        ramp_s = self.ramp_end_s - self.ramp_start_s
        before = self.start_qps * self.ramp_start_s
        within = (self.start_qps + self.end_qps) / 2 * ramp_s
        # The root of start x + slope x^2 / 2 = y, in the form that loses no digits where slope is small.
        risen = np.clip(expected - before, 0, within)
        on_ramp_s = 2 * risen / (self.start_qps + np.sqrt(self.start_qps**2 + 2 * slope * risen))
        time_s = (
            np.minimum(expected, before) / self.start_qps
            + on_ramp_s
            + np.maximum(expected - before - within, 0) / self.end_qps
        )
        return time_s * NS_PER_S


def renewal(rng: np.random.Generator, rate_qps: float, cv2: float, duration_ns: int) -> Times:
    """Yield the arrivals of a renewal process with gamma distributed gaps, up to a time.

    Args:
        rng: Random stream of the gaps.
        rate_qps: Mean rate in queries per second.
        cv2: Squared coefficient of variation of the gaps; 0 for constant gaps.
        duration_ns: Arrivals at or after this time are left out.
    """
    gap_ns = NS_PER_S / rate_qps
    return _arrivals(rng, cv2, lambda expected: expected * gap_ns, duration_ns)


def clock(rate_qps: float, duration_ns: int) -> Times:
    """Yield 0 and the multiples of 1 / rate up to a time, each rounded independently."""
    for first in range(0, math.ceil(duration_ns / NS_PER_S * rate_qps) + 1, CHUNK):
        times = np.rint(np.arange(first, first + CHUNK) * (NS_PER_S / rate_qps)).astype(np.int64)
        kept = times[: np.searchsorted(times, duration_ns)]
        if len(kept):
            yield kept


def _arrivals(
    rng: np.random.Generator,
    cv2: float,
    time_ns: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    duration_ns: int,
) -> Times:
    """Yield the arrivals of a renewal process of rate 1 whose operational time `time_ns` maps to nanoseconds."""
    reached = 0.0
    while True:
        # Shape 1 / CV^2 and scale CV^2 have mean 1 (SuperServe, section 6.3.1).
        expected = rng.gamma(1 / cv2, cv2, CHUNK) if cv2 else np.ones(CHUNK)
        expected[0] += reached
        np.cumsum(expected, out=expected)
        reached = float(expected[-1])
        times = np.rint(time_ns(expected))
        kept = times[: np.searchsorted(times, duration_ns)].astype(np.int64)
        if len(kept):
            yield kept
        if len(kept) < CHUNK:
            return


def _merged(left: Times, right: Times) -> Times:
    """Yield two sorted streams of times as one."""
    none = np.empty(0, np.int64)
    heads = [next(left, none), next(right, none)]
    while len(heads[0]) and len(heads[1]):
        # Times up to the smaller of the two ends are complete: later pieces have none below it.
        end = min(heads[0][-1], heads[1][-1])
        cuts = [int(np.searchsorted(head, end, "right")) for head in heads]
        whole = np.concatenate([head[:cut] for head, cut in zip(heads, cuts, strict=True)])
        whole.sort(kind="stable")  # merges the two sorted runs in linear time
        yield whole
        heads = [head[cut:] for head, cut in zip(heads, cuts, strict=True)]
        heads = [head if len(head) else next(more, none) for head, more in zip(heads, (left, right), strict=True)]
    for head, more in zip(heads, (left, right), strict=True):
        if len(head):
            yield head
            yield from more
