"""A day of Azure Functions without its files: a calibrated generator, and the shrink of a day to a short run.

SuperServe (section 6.2) replays 24 hours of the Azure Functions trace of 2019 ("Serverless in the Wild", ATC 2020) in
120 s at 6,400 q/s and does not say how it was shrunk. The 32,700 functions that it used make 7,400 q/s in real time, so
the rate is kept and only the time axis is compressed: one minute of the trace becomes 1/12 s, and one arrival in 720 is
kept. `shrunk` implements this; the trace has no information below a minute, so arrivals are placed at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sim.base.parameters import NonNegative, Positive  # noqa: TC001 - the bounds are read at run time
from sim.base.streams import stream
from sim.base.units import NS_PER_S, ns_from_s
from sim.traces.source import TraceSource, rechunked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

MINUTES_A_DAY = 1440

HOURLY = (
    0.873, 0.873, 0.900, 0.893, 0.916, 0.943, 0.970, 0.990, 1.009, 1.021, 1.021, 1.034,
    1.060, 1.098, 1.118, 1.114, 1.100, 1.093, 1.088, 1.057, 1.015, 0.975, 0.931, 0.906,
)  # fmt: skip
"""Invocations of all functions of the released data in each hour of day 1 (Monday 15 July 2019), relative to its mean.

Read off the figure of hourly totals that comes with the data set (Azure/AzurePublicDataset), to about 0.01; hour 0 was
hidden by the axis and is taken equal to hour 1.
"""

RESIDUAL_PHI = 0.78
"""Correlation of the residual from one minute to the next, from 500 verbatim functions of day 7, 08:00 to 16:00."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Azure(TraceSource):
    """A synthetic day after the first of Azure Functions 2019, compressed: day profile times a correlated residual.

    Attributes:
        mean_qps: Mean rate of the run in queries per second, exactly the mean of its minutes' rates. The paper's: 6,400
            for vision, 1,150 for language models. The whole data set in real time is 10,533 on day 1.
        duration_s: Length of the compressed day in seconds; 86,400 is real time.
        residual_cv2: Squared coefficient of variation of the residual. With 0.0066 the peak minute has 1.38 times the
            mean rate (the paper's spikes: 1.37); 500 verbatim functions have 0.0091.
    """

    mean_qps: Positive = 6400.0
    duration_s: Positive = 120.0
    residual_cv2: NonNegative = 0.0066

    kind: ClassVar[str] = "azure"

    @property
    def duration_ns(self) -> int:
        """The length of the run in nanoseconds."""
        return ns_from_s(self.duration_s)

    def minute_qps(self, seed: int) -> npt.NDArray[np.float64]:
        """Return the rate of each minute of the day in queries per second, float64, shape (1440,).

        The residual is log-normal; its logarithm is a stationary autoregressive process of order 1.
        """
        minutes = np.arange(MINUTES_A_DAY)
        profile = np.interp(minutes + 0.5, (np.arange(24) + 0.5) * 60, HOURLY, period=MINUTES_A_DAY)
        shocks = stream(seed, "azure.residual").standard_normal(MINUTES_A_DAY)
        shocks[1:] *= math.sqrt(1 - RESIDUAL_PHI**2)
        for minute in minutes[1:]:
            shocks[minute] += RESIDUAL_PHI * shocks[minute - 1]
        rates = profile * np.exp(math.sqrt(math.log1p(self.residual_cv2)) * shocks)
        return np.asarray(rates * (self.mean_qps / rates.mean()))

    def chunks(self, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the arrivals of the compressed day."""
        return shrunk(self.minute_qps(seed), self.duration_ns, seed)


def shrunk(rate_qps: npt.NDArray[np.float64], duration_ns: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the arrivals of a run with the rates of a trace in compressed time.

    Each bin gets a Poisson number of arrivals, placed uniformly at random in it: a Poisson process with a piecewise
    constant rate. (Evenly spaced arrivals would have gaps far more regular than any real total.) Each bin
    has its own random stream, so that it does not depend on earlier bins.

    Args:
        rate_qps: The rate of each bin in queries per second of the run, float64, shape (bins,).
        duration_ns: The length of the run in nanoseconds; the bins share it equally, to the nanosecond.
        seed: The seed of the run.
    """
    bins = len(rate_qps)

    def arrivals(number: int) -> npt.NDArray[np.int64]:
        start, end = number * duration_ns // bins, (number + 1) * duration_ns // bins
        rng = stream(seed, "shrink", number)
        return start + placed(rng, rng.poisson(rate_qps[number] * (end - start) / NS_PER_S), end - start)

    return rechunked(arrivals(number) for number in range(bins))


def unshrunk(counts: npt.NDArray[np.int64], bin_ns: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the arrivals of a trace in real time: each bin has exactly its count, placed uniformly at random in it.

    Args:
        counts: Arrivals in each bin, int64, shape (bins,).
        bin_ns: The length of a bin in nanoseconds.
        seed: The seed of the run.
    """
    return rechunked(
        number * bin_ns + placed(stream(seed, "shrink", number), count, bin_ns)
        for number, count in enumerate(counts.tolist())
    )


def placed(
    rng: np.random.Generator,
    count: int,
    length_ns: int,
    draw: Callable[[int], npt.NDArray[np.float64]] | None = None,
) -> npt.NDArray[np.int64]:
    """Return `count` sorted times in [0, length); int64, shape (count,).

    They come from gaps scaled to the length. Those of a Poisson process have the distribution of sorted uniform numbers
    and take a fifth of the time.

    Args:
        rng: Random stream of the gaps.
        count: Number of times.
        length_ns: Length of the bin in nanoseconds.
        draw: Returns so many gaps of another law; None for a Poisson process.
    """
    gaps = rng.standard_exponential(count + 1) if draw is None else draw(count + 1)
    np.cumsum(gaps, out=gaps)
    gaps *= length_ns / gaps[-1]
    times = gaps[:-1].astype(np.int64)
    return times if draw is None else np.minimum(times, length_ns - 1)  # the last gap of another law may be nothing
