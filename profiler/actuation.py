"""What a switch to another subnet costs on a device: the first run after it against the next run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from profiler.confidence import percentile_interval
from profiler.grid import Cell
from sim.base.streams import stream
from sim.base.units import NS_PER_S, ms_from_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from profiler.confidence import Interval
    from profiler.trial import Sample

_ROUNDS = 40
_LIMIT_NS = 3 * NS_PER_S
_WARMUPS = 3


class SwitchingMeter(Protocol):
    """A device whose runs begin with the choice of their subnet."""

    def prepare_switch(self, cell: Cell) -> Callable[[], Sample]:
        """Return a call that actuates the subnet of a cell, runs it once, and returns the time of both."""
        ...

    def now_ns(self) -> int:
        """Return the current time."""
        ...


class SwitchCost(NamedTuple):
    """The cost of a switch.

    Attributes:
        cost: The median time of the first run of a subnet beyond that of its next run, and its interval, in
            nanoseconds.
        switches: The number of switches measured.
        batch_size: The batch size of the runs.
    """

    cost: Interval
    switches: int
    batch_size: int

    def __str__(self) -> str:
        median, low, high = (f"{ms_from_ns(round(ns)):.3f}" for ns in self.cost)
        return (
            f"{median} ms ({low} to {high} at 95 %), the first run of a subnet beyond its next one, median of "
            f"{self.switches} switches at batch {self.batch_size}"
        )


def measure_actuation(
    meter: SwitchingMeter, subnets: Sequence[str], batch_size: int, seed: int = 0
) -> SwitchCost | None:
    """Return the cost of a switch between subnets; None for fewer than two of them, or too few switches in the time.

    Subnets follow one another in random order. Each runs twice: both runs look the subnet up, but only the first finds
    what another subnet left in the caches. Differences of two runs in a row are not biased by drift.

    Args:
        meter: The device.
        subnets: The ids.
        batch_size: Of all runs.
        seed: Of the order.

    Raises:
        CellError: A subnet can't be run.
        DeviceError: The device was lost.
    """
    if len(subnets) < 2:  # noqa: PLR2004 - a switch needs two
        return None
    runs = {name: meter.prepare_switch(Cell(name, batch_size)) for name in subnets}
    for run in runs.values():
        for _ in range(_WARMUPS):
            run()
    costs: list[int] = []
    begin_ns, last = meter.now_ns(), ""
    for number in range(_ROUNDS):
        order = list(runs)
        stream(seed, "profile.actuation", number).shuffle(order)
        for name in order:
            first, again = runs[name](), runs[name]()
            if name != last:
                costs.append(first.wall_ns - again.wall_ns)
            last = name
        if meter.now_ns() - begin_ns > _LIMIT_NS:
            break
    cost = percentile_interval(np.array(costs, dtype=np.int64), 0.5)
    return cost and SwitchCost(cost, len(costs), batch_size)
