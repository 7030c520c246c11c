"""QueueFit with a reserve for arrivals, from the rate that it sees (ours; no paper has it).

`docs/queuefit.md` derives the rule. In short, with t the time of a batch of b queries, overhead included, on W workers:

- The most accurate subnet runs that fits the slack of the most urgent query and leaves room for two kinds of trouble.
  The queue left behind, and a reserve of some standard deviations of the arrivals within an SLO, is drained by that
  subnet within the SLO of the youngest query. And the largest excess of arrivals over the fastest drain that is
  likely in the long run, z^2 v / (4 d) for variance v and spare throughput d, is drained by the fastest.
- A batch that is smaller than the queue for lack of slack must at least keep up with the rate.
- Where nothing fits, the fastest drain: the batch that has the queue answered soonest, among those that keep up with
  the rate in time. Once the most urgent query is lost, in time no longer counts.

Rate and variance are means over the last `windows` intervals of one SLO. Before anything is seen, both are 0. SLOs of
their own are taken as the smallest; workers that fail later are not noticed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.parameters import NonNegative, Parameters, PositiveInt
from sim.compiled.step_policy import StepPolicy

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable

_HEAD = 12
"""Numbers in the memory before the batch sizes and the subnets."""


@dataclass(frozen=True)
class QueueFitReserve(StepPolicy, Parameters):
    """The most accurate subnet that fits the slack, and drains the queue and a reserve for arrivals in time.

    The defaults were found on settings other than those that judge them.

    Attributes:
        reserve: For arrivals within an SLO, in their standard deviations.
        excess: For the excess of arrivals in the long run, likewise.
        windows: Intervals of one SLO over which the arrivals are averaged.
    """

    reserve: NonNegative = 0.7
    excess: NonNegative = 2.5
    windows: PositiveInt = 100

    def memory_at(self, table: LatencyTable, dispatch_ns: int, workers: int, slo_ns: int) -> npt.NDArray[np.float64]:
        """Return the estimate of the arrivals, the parameters, the batch sizes, and the Pareto-optimal subnets."""
        sizes, subnets = table.batch_sizes, table.pareto
        most = 0.0  # answered in time per nanosecond by the fastest drain
        for subnet in subnets:
            for column, size in enumerate(sizes):
                busy = int(table.latency_ns[subnet, column]) + dispatch_ns
                most = max(most, size * workers / busy * min(1.0, max(0.0, (slo_ns - busy) * workers / busy)))
        seen = [0] * 5
        given = [dispatch_ns, workers, slo_ns, most, self.reserve, self.excess, self.windows]
        return np.array([*seen, *given, len(sizes), *sizes, *subnets], dtype=np.float64)

    @staticmethod
    def step(  # noqa: C901, PLR0912, PLR0915 - numba compiles one function
        memory: npt.NDArray[np.float64],
        now_ns: int,
        slack_ns: int,
        queue_length: int,
        arrived: int,
        latency_ns: npt.NDArray[np.int64],
    ) -> tuple[int, int]:
        """Return the choice of the rule."""
        dispatch_ns, workers, slo_ns, most = memory[5], memory[6], memory[7], memory[8]
        if slo_ns > 0 and now_ns >= memory[0] + slo_ns:
            passed = (now_ns - memory[0]) // slo_ns
            arrivals = arrived - memory[1]  # in the first of them; none was decided on in the others
            for _ in range(int(min(passed, memory[11]))):
                memory[2] = min(memory[2] + 1, memory[11])
                weight, change = 1 / memory[2], arrivals - memory[3]
                memory[3] += weight * change
                memory[4] = (1 - weight) * (memory[4] + weight * change * change)
                arrivals = 0.0
            memory[0] += passed * slo_ns
            memory[1] = arrived
        rate = memory[3] / slo_ns if slo_ns > 0 else 0.0
        reserve = memory[9] * math.sqrt(memory[4])

        # The fastest drain, while the most urgent query can be in time, and once it is lost.
        columns = int(memory[_HEAD])
        first, last = _HEAD + 1 + columns, len(memory)
        fast = size_of_fast = lost = size_of_lost = 0
        soonest = soonest_lost = math.inf
        least = math.inf
        for place in range(first, last):
            subnet = int(memory[place])
            for column in range(columns):
                size = int(memory[_HEAD + 1 + column])
                busy = latency_ns[subnet, size] + dispatch_ns
                least = min(least, busy - dispatch_ns)
                through = size * workers / busy
                in_time = through * min(1.0, max(0.0, (slo_ns - busy) * workers / busy))
                # What does not keep up comes after all that does, the fastest first.
                ends = busy + (queue_length + reserve) / in_time if in_time > rate else 1e18 * (1 + rate - in_time)
                if ends < soonest:
                    soonest, fast, size_of_fast = ends, subnet, size
                spare = through - rate
                ends = busy + (queue_length + reserve) / spare if spare > 0 else 1e18 * (1 - spare)
                if ends < soonest_lost:
                    soonest_lost, lost, size_of_lost = ends, subnet, size
        if slack_ns < least:
            return lost, size_of_lost

        busy_of_fast = latency_ns[fast, size_of_fast] + dispatch_ns
        excess = 0.0
        if memory[10] > 0 and memory[4] > 0:
            variance = memory[4] / slo_ns
            excess = memory[10] ** 2 * variance / (4 * (most - rate)) if most > rate else math.inf
        for place in range(last - 1, first - 1, -1):
            subnet = int(memory[place])
            size = 0
            for column in range(columns):
                larger = int(memory[_HEAD + 1 + column])
                if latency_ns[subnet, larger] <= slack_ns:
                    keeps_up = larger * workers / (latency_ns[subnet, larger] + dispatch_ns) >= rate
                    if queue_length <= larger or column == columns - 1 or keeps_up:
                        size = larger
                if larger >= queue_length:
                    break
            if size == 0:
                continue
            busy = latency_ns[subnet, size] + dispatch_ns
            left = max(0.0, queue_length - size + reserve)
            drained = math.inf
            for column in range(columns):
                larger = int(memory[_HEAD + 1 + column])
                of_larger = latency_ns[subnet, larger] + dispatch_ns
                drained = min(drained, of_larger * (1 + left / (larger * workers)))
            if busy / workers + drained > slo_ns:
                continue
            burst = max(0.0, queue_length - size + excess) / (size_of_fast * workers)
            if excess == 0 or busy / workers + busy_of_fast * (1 + burst) <= slo_ns:
                return subnet, size
        return fast, size_of_fast


if TYPE_CHECKING:
    _conforms: type[Policy] = QueueFitReserve
