"""One trial of a cell of the grid: warm up until times no longer fall, then take samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from sim.base.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    State = TypeVar("State")


class Sample(NamedTuple):
    """One run in nanoseconds: wall clock from the call to its result, and device time where the device has a clock."""

    wall_ns: int
    device_ns: int | None = None


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """The lengths of the two parts of a trial.

    Attributes:
        window: Warm-up ends when the median of this many runs is not below that of as many runs before them.
        max_warmup_ns: Warm-up ends after this time in any case.
        min_samples: The fewest samples.
        min_sampling_ns: The least time for which samples are taken.
        max_samples: The most samples.
    """

    window: int = 4
    max_warmup_ns: int = 10_000 * NS_PER_MS
    min_samples: int = 8
    min_sampling_ns: int = 30 * NS_PER_MS
    max_samples: int = 200


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The measurements of a trial.

    Attributes:
        wall_ns: Wall clock of each sample, int64, shape (samples,).
        device_ns: Device time of each, likewise; None where the device has no clock.
        warmups: The number of warm-up runs.
        settled: Whether times had stopped falling before the first sample.
    """

    wall_ns: npt.NDArray[np.int64]
    device_ns: npt.NDArray[np.int64] | None
    warmups: int
    settled: bool


def run_trial(run: Callable[[], Sample], limits: TrialLimits, warm: Callable[[], State]) -> tuple[Trial, State]:
    """Warm up and take samples of a cell; return the trial, and the answer of a call between the two.

    The first runs are slow for many reasons (caches, allocators, rising clocks, compilation), none of which has a fixed
    length; so warm-up ends when the last runs are no faster than those before them.

    Args:
        run: Runs the cell once and returns the time.
        limits: Of warm-up and sampling.
        warm: Called between warm-up and sampling, such as to read the state of the device.
    """
    warmups: list[int] = []
    settled = False
    while not settled and sum(warmups) < limits.max_warmup_ns:
        warmups.append(run().wall_ns)
        last, before = warmups[-limits.window :], warmups[-2 * limits.window : -limits.window]
        settled = len(before) == limits.window and bool(np.median(last) >= np.median(before))
    state = warm()
    samples: list[Sample] = []
    spent = 0
    while len(samples) < limits.min_samples or (spent < limits.min_sampling_ns and len(samples) < limits.max_samples):
        samples.append(run())
        spent += samples[-1].wall_ns
    wall, device = zip(*samples, strict=True)
    device_ns = None if None in device else np.array(device, dtype=np.int64)
    return Trial(np.array(wall, dtype=np.int64), device_ns, len(warmups), settled), state
