"""Traces at another mean rate: all rates of a generator in proportion, or another speed-up of a recording."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.traces.source import TraceSource


def rate_names(source: TraceSource) -> list[str]:
    """Return the parameters that are rates: `speedup`, and those whose name ends in `_qps`."""
    names = [field.name for field in dataclasses.fields(source) if field.init]
    return [name for name in names if name == "speedup" or name.endswith("_qps")]


def mean_rate(source: TraceSource, seed: int) -> float:
    """Return the mean rate over the whole trace in queries/s, in expectation where the source knows it.

    Args:
        source: The trace source.
        seed: The seed of a source whose mean rate is known by its arrivals alone.
    """
    known = getattr(source, "mean_qps", None) or getattr(source, "expected_qps", None)
    return float(known or _measured(source, seed))


def mean_rate_setter(source: TraceSource, seed: int) -> Callable[[float], dict[str, float]]:
    """Return the function from a mean rate, over the whole trace, to the parameters that give a trace this rate.

    A generator has the mean rate in expectation: its other rates, and its `_qps2`, change in proportion, so that a ramp
    takes as long as before. A recording has it exactly, but for the last query.

    Args:
        source: The trace source.
        seed: The seed of a source whose mean rate is known by its arrivals alone.

    Raises:
        SpecError: The source has no rate. The function raises it where a recording is too short for its `duration_s`.
        DataError: A file breaks its rules.

    Examples:
        >>> from sim.traces.synthetic import Bursty
        >>> source = Bursty(base_qps=30, variant_qps=10, cv2=2, duration_s=5, slo_ms=20)
        >>> mean_rate_setter(source, seed=7)(80)
        {'base_qps': 60.0, 'variant_qps': 20.0}
    """
    names = rate_names(source)
    if "mean_qps" in names:
        return lambda mean_qps: {"mean_qps": float(mean_qps)}
    if names == ["speedup"]:
        return _speedup_setter(source, seed)
    rates = {name: value for name, value in _numbers(source) if name.endswith(("_qps", "_qps2"))}
    if not rates:
        right = "a kind with mean_qps, other parameters in _qps, or speedup"
        raise SpecError("trace", f"kind {source.kind} has no rate to set", "", right)
    now_qps = getattr(source, "expected_qps", None) or _measured(source, seed)
    return lambda mean_qps: {name: float(value * mean_qps / now_qps) for name, value in rates.items()}


def _numbers(source: Any) -> list[tuple[str, float]]:
    values = [(field.name, getattr(source, field.name)) for field in dataclasses.fields(source) if field.init]
    return [(name, value) for name, value in values if type(value) in {int, float}]


def _measured(source: TraceSource, seed: int) -> float:
    arrivals = source.arrivals(seed)
    return len(arrivals) * NS_PER_S / source.window_ns(int(arrivals[-1]))


def _speedup_setter(source: Any, seed: int) -> Callable[[float], dict[str, float]]:
    duration_s: float | None = getattr(source, "duration_s", None)
    recorded = dataclasses.replace(source, speedup=1.0, **({} if duration_s is None else {"duration_s": None}))
    arrivals = recorded.arrivals(seed)
    count, window_s = len(arrivals), recorded.window_ns(int(arrivals[-1])) / NS_PER_S

    def within(mean_qps: float, cut_s: float) -> float:
        """Return the speed-up with which as many queries as the rate asks for come before the cut."""
        needed = max(1, round(mean_qps * cut_s))
        if needed > count:
            what = f"has too few queries for {cut_s:g} s at {mean_qps:g} queries per second"
            right = f"a duration_s of at most {math.floor(1000 * count / mean_qps) / 1000:g}"
            raise SpecError(f"trace {source.name}", what, f"{count} of {needed}", right)
        # Up to the middle between the last query that counts and the next.
        last_ns = int(arrivals[needed - 1])
        next_ns = int(arrivals[needed]) if needed < count else last_ns + 2
        return max(1, (last_ns + next_ns) / 2) / NS_PER_S / cut_s

    if duration_s is None:
        return lambda mean_qps: {"speedup": mean_qps * window_s / count}
    return lambda mean_qps: {"speedup": within(mean_qps, duration_s)}
