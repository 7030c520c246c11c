"""How a batch uses its device: the time without gaps between launches, and the energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.base.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

_AHEAD = (1, 4, 16, 64, 256)
"""The amounts of other work that are queued before a run, until all of its launches are hidden behind it."""

_BUSY_RUNS = 3
_ENERGY_NS = 500 * NS_PER_MS
_PATIENCE_NS = 2 * NS_PER_S


def busy_time(hidden: Callable[[int], float | None]) -> float | None:
    """Return the device time of a run whose launches are all queued before the device gets to it, in nanoseconds.

    Args:
        hidden: Queues an amount of other work and then the run; returns the device time of the run, or None if the
            device had got to it before the last launch.

    Returns:
        The median of three runs; None if the launches can't be hidden, such as those of a run that waits for itself.
    """
    for ahead in _AHEAD:
        times = [hidden(ahead) for _ in range(_BUSY_RUNS)]
        known = [time for time in times if time is not None]
        if len(known) == len(times):
            return float(np.median(known))
    return None


def energy_per_run(
    run: Callable[[], object], counter: Callable[[], float | None], now_ns: Callable[[], int]
) -> float | None:
    """Return the energy of a run in the unit of an energy counter, runs following one another.

    The counter of a GPU moves in steps of up to 100 ms. So runs are counted from one step to another.

    Args:
        run: Runs once, to the end of the work on the device.
        counter: Reads the counter; None if there is none.
        now_ns: The current time.

    Returns:
        The energy; None if there is no counter, or if it does not move for two seconds.
    """
    first, begin_ns = counter(), now_ns()
    if first is None:
        return None
    at_step = first
    while at_step == first:
        if now_ns() - begin_ns > _PATIENCE_NS:
            return None
        run()
        at_step = counter() or first
    runs, last, begin_ns = 0, at_step, now_ns()
    while now_ns() - begin_ns <= _ENERGY_NS + _PATIENCE_NS:
        run()
        runs += 1
        before, last = last, counter() or last
        if last != before and now_ns() - begin_ns >= _ENERGY_NS:
            return (last - at_step) / runs
    return None
