"""One visit to a cell of the grid: warm up until times no longer fall, then take samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.base.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


class Sample(NamedTuple):
    """One run: wall clock from the call to its result, and the device's own time where it has a clock; nanoseconds."""

    wall_ns: int
    device_ns: int | None = None


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """When a visit goes on and when it ends.

    Attributes:
        window: Runs that are compared with as many before them: warm-up ends when their median is not lower.
        max_warmup_ns: Warm-up ends after this long in any case.
        samples: Samples of a visit, at least.
        min_duration_ns: Samples are taken for this long, at least.
        most: Samples of a visit, at most.
    """

    window: int = 4
    max_warmup_ns: int = 10_000 * NS_PER_MS
    samples: int = 8
    min_duration_ns: int = 30 * NS_PER_MS
    most: int = 200


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a visit gave.

    Attributes:
        wall_ns: Wall clock of each sample, int64, shape (samples,).
        device_ns: The device's own time of each, likewise; None where it has no clock.
        warmups: Runs before them.
        settled: Whether times had stopped falling before the first sample.
    """

    wall_ns: npt.NDArray[np.int64]
    device_ns: npt.NDArray[np.int64] | None
    warmups: int
    settled: bool


def visit(run: Callable[[], Sample], rule: TrialLimits) -> Trial:
    """Warm up and take samples of a cell.

    The first runs are slow for many reasons (caches, allocators, clocks that rise, code that is compiled), none of
    which has a fixed length; so warm-up ends when the last runs are no faster than those before them.

    Args:
        run: Runs the cell once and returns how long it took.
        rule: When to go on and when to end.
    """
    warm: list[int] = []
    settled = False
    while not settled and sum(warm) < rule.max_warmup_ns:
        warm.append(run().wall_ns)
        last, before = warm[-rule.window :], warm[-2 * rule.window : -rule.window]
        settled = len(before) == rule.window and bool(np.median(last) >= np.median(before))
    samples: list[Sample] = []
    spent = 0
    while len(samples) < rule.samples or (spent < rule.min_duration_ns and len(samples) < rule.most):
        samples.append(run())
        spent += samples[-1].wall_ns
    wall, device = zip(*samples, strict=True)
    own = None if None in device else np.array(device, dtype=np.int64)
    return Trial(np.array(wall, dtype=np.int64), own, len(warm), settled)
