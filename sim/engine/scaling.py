"""Workers that come and go: how far their number may change, and when each of them was there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.engine.run_metrics import NEVER_NS
from sim.traces.trace import LATEST_NS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sim.engine.cluster import WorkerFailure


@dataclass(frozen=True, slots=True)
class Scaling:
    """How far a planner may change the number of workers, and how long a new worker takes to start.

    Attributes:
        max_workers: The most workers that serve or start, failed ones apart.
        min_workers: The fewest.
        startup_ns: The time from the planner's turn until a new worker takes its first batch; it costs as much as any
            other time of a worker.
    """

    max_workers: int
    min_workers: int = 1
    startup_ns: int = 0

    def fault(self, workers: int, most: int) -> tuple[str, str, str, str] | None:
        """Return what is wrong with the bounds of a number of workers: key, problem, value and hint; or None.

        Args:
            workers: Workers at the start.
            most: More are assumed to be a typo.
        """
        for name, low in (("max_workers", 1), ("min_workers", 0)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= most:
                return name, "is out of range", repr(value), f"{low} to {most}"
        if self.min_workers > self.max_workers:
            return "min_workers", "is above max_workers", str(self.min_workers), f"{self.max_workers} at most"
        if not self.min_workers <= workers <= self.max_workers:
            hint = f"{self.min_workers} to {self.max_workers}, as min_workers and max_workers say"
            return "workers", "is outside of its bounds", str(workers), hint
        if type(self.startup_ns) is not int or not 0 <= self.startup_ns < LATEST_NS:
            return "startup_s", "invalid delay", repr(self.startup_ns), "integer nanoseconds, 0 or more"
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """The workers of a run with a planner; all arrays have shape (workers,), int64.

    Attributes:
        kind: The kind of each worker, as an index into the kinds of the cluster; 0 without kinds.
        asked_ns: When the planner asked for it; 0 for those that were there at the start.
        ready_ns: When its start-up ended, or would have.
        gone_ns: When it had finished its last batch after the planner let it go; `NEVER_NS` if it stayed.
        faults: Failures of workers.
    """

    kind: npt.NDArray[np.int64]
    asked_ns: npt.NDArray[np.int64]
    ready_ns: npt.NDArray[np.int64]
    gone_ns: npt.NDArray[np.int64]
    faults: tuple[WorkerFailure, ...] = ()

    def __len__(self) -> int:
        return len(self.kind)

    def started_up_ns(self, until_ns: int, kind: int | None = None) -> int:
        """Return the time of start-ups from the start of the run to an instant, summed over workers.

        Args:
            until_ns: The instant.
            kind: The kind of the workers; None for all.
        """
        mine = self._of(kind)
        end_ns = np.minimum(np.minimum(self.ready_ns, self.gone_ns), until_ns)
        return int(np.maximum(end_ns - self.asked_ns, 0)[mine].sum())

    def available_ns(self, until_ns: int, kind: int | None = None) -> int:
        """Return the time that workers could serve from the start of the run to an instant, summed over workers.

        Neither start-ups nor failures count.

        Args:
            until_ns: The instant.
            kind: The kind of the workers; None for all.
        """
        mine = self._of(kind)
        there_ns = int(np.maximum(np.minimum(self.gone_ns, until_ns) - self.ready_ns, 0)[mine].sum())
        down_ns = 0
        for fault in self.faults:
            if mine[fault.worker]:
                gone_ns = min(int(self.gone_ns[fault.worker]), until_ns)
                back_ns = NEVER_NS if fault.recover_ns is None else fault.recover_ns
                down_ns += max(0, min(back_ns, gone_ns) - fault.at_ns)
        return there_ns - down_ns

    def _of(self, kind: int | None) -> npt.NDArray[np.bool_]:
        return np.ones(len(self), np.bool_) if kind is None else self.kind == kind


def serving_over_time(
    ready_ns: npt.NDArray[np.int64], gone_ns: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the number of workers over time: the instants at which it changes, and the number from each of them on.

    Args:
        ready_ns: When each worker came, int64, shape (workers,).
        gone_ns: When it went; not after it came if it never served.

    Returns:
        Instants, int64, shape (changes,), increasing; numbers, int64, of the same shape.
    """
    came = gone_ns > ready_ns
    at_ns = np.concatenate([ready_ns[came], gone_ns[came]])
    steps = np.repeat([1, -1], np.count_nonzero(came))
    instants, place = np.unique(at_ns, return_inverse=True)
    return instants, np.cumsum(np.bincount(place, steps, len(instants))).astype(np.int64)


def fleet_of(
    kinds: Sequence[int],
    asked_ns: Sequence[int],
    ready_ns: Sequence[int],
    left_ns: Sequence[int],
    last_ns: npt.NDArray[np.int64],
    faults: tuple[WorkerFailure, ...],
) -> Fleet:
    """Return the workers of a run.

    Args:
        kinds: See `Fleet`, as the next two.
        asked_ns: When the planner asked for each.
        ready_ns: When its start-up ended.
        left_ns: When the planner let it go; `NEVER_NS` if it did not.
        last_ns: When it finished its last batch, 0 without any; int64, shape (workers,).
        faults: Failures of workers.
    """
    columns = (np.array(column, dtype=np.int64) for column in (kinds, asked_ns, ready_ns, left_ns))
    kind, asked, ready, left = columns
    gone = np.where(left == NEVER_NS, left, np.maximum(left, last_ns))
    for column in (kind, asked, ready, gone):
        column.flags.writeable = False
    return Fleet(kind, asked, ready, gone, faults)
