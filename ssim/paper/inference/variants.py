"""Arrivals and a policy that stand for choices which the toolkit has no key for: used by the search alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from sim.base.streams import stream
from sim.base.units import NS_PER_S
from sim.engine.policy import Dispatch
from sim.traces.azure import Azure
from sim.traces.source import rechunked
from sim.traces.synthetic import Bursty, clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from sim.engine.policy import View
    from sim.traces.source import TraceSource
    from ssim.paper.inference.space import Choices


@dataclass(frozen=True, slots=True)
class AllThatWait:
    """Clipper+ that never looks at the slack: all that wait, up to the largest batch.

    Attributes:
        accuracy: Accuracy of its subnet in percent.
    """

    accuracy: float

    def decide(self, view: View) -> Dispatch:
        """Return the largest batch of the subnet."""
        return Dispatch(view.table.subnet_of_accuracy(self.accuracy), view.table.max_batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvenAzure(Azure):
    """The day of Azure Functions with evenly spaced arrivals in each of its bins."""

    def chunks(self, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the arrivals: the times at which the accumulated rate passes a whole number."""
        rates = self.minute_qps(seed)
        edges = np.arange(len(rates) + 1) * self.duration_ns // len(rates)
        expected = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges) / NS_PER_S)])
        times = np.interp(np.arange(int(expected[-1])) + 0.5, expected, edges)
        return rechunked(iter([np.floor(times).astype(np.int64)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalBursty(Bursty):
    """A bursty trace whose variant stream has log-normal gaps of the same mean and CV^2."""

    def chunks(self, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the arrivals of both streams, merged."""
        spread = math.log1p(self.cv2)
        rng = stream(seed, "lognormal")
        mean_ns = NS_PER_S / self.variant_qps
        count = int(1.5 * self.duration_ns / mean_ns) + 10_000
        gaps = rng.lognormal(math.log(mean_ns) - spread / 2, math.sqrt(spread), count)
        bursts = np.rint(np.cumsum(gaps)).astype(np.int64)
        steady = np.concatenate(list(clock(self.base_qps, self.duration_ns)))
        merged = np.concatenate([steady, bursts[: np.searchsorted(bursts, self.duration_ns)]])
        return rechunked(iter([np.sort(merged, kind="stable")]))


def source_of(source: TraceSource, setting: Choices, experiment: str) -> TraceSource:
    """Return the source of an experiment's arrivals in a setting."""
    if isinstance(source, Azure):
        if experiment == "azure_ideal":
            source = replace(source, slo_ms=setting.maf_slo_ms)
        return _as(EvenAzure, source) if setting.placement == "even" else source
    if isinstance(source, Bursty) and setting.gaps == "lognormal":
        return _as(LognormalBursty, source)
    return source


def _as(kind: type[TraceSource], source: TraceSource) -> TraceSource:
    return kind(**{item.name: getattr(source, item.name) for item in fields(source) if item.init})
