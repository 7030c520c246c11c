"""The arrivals of a stream that wait or are to come, in arrays that are used again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import TooLongError
from sim.traces.source import MAX_ARRIVALS
from sim.traces.trace import are_whole, check_arrivals

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.compiled.loop_run import LoopRun


class ArrivalBuffer:
    """Waiting and upcoming arrivals with their deadlines, in reused arrays."""

    def __init__(self, slack_ns: int) -> None:
        self._slack_ns = slack_ns  # from arrival until a batch is due
        self.arrival_ns, self.deadline_ns = np.empty(0, np.int64), np.empty(0, np.int64)
        self.end = self.last_ns = 0

    def add(self, chunk: npt.NDArray[np.int64], run: LoopRun) -> None:
        """Append arrivals, and discard those that have left the queue if space is needed.

        Args:
            chunk: The arrivals.
            run: The run whose indices are shifted.

        Raises:
            DataError: They decrease, or are not int64.
            TooLongError: More wait than fit into memory.
        """
        if len(chunk) == 0:
            return
        if not are_whole(chunk) or chunk[0] < self.last_ns or (chunk[1:] < chunk[:-1]).any():
            check_arrivals(chunk, location="arrival_ns", after_ns=self.last_ns)
        self.last_ns = int(chunk[-1])
        if self.end + len(chunk) > len(self.arrival_ns):
            head = run.head
            kept = self.end - head
            if kept > MAX_ARRIVALS:
                hint = "use more workers, a lower rate, or drop: expired, which drops late queries"
                raise TooLongError("trace", "too many queries are waiting", f"over {MAX_ARRIVALS}", hint)
            # Twice the need, so that arrivals are moved rarely.
            room = max(len(self.arrival_ns), 2 * (kept + len(chunk)))
            self.arrival_ns, self.deadline_ns = (
                _moved(array, head, self.end, room) for array in (self.arrival_ns, self.deadline_ns)
            )
            run.move(head)
            self.end = kept
        self.arrival_ns[self.end : self.end + len(chunk)] = chunk
        self.deadline_ns[self.end : self.end + len(chunk)] = chunk + self._slack_ns
        self.end += len(chunk)


def _moved(array: npt.NDArray[np.int64], start: int, end: int, room: int) -> npt.NDArray[np.int64]:
    """Return an array with a slice moved to its front, the same array if it is long enough."""
    target = array if len(array) == room else np.empty(room, np.int64)
    target[: end - start] = array[start:end]
    return target
