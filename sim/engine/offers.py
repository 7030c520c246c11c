"""The order in which the queues of a cluster are offered a free worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sim.engine.kinds import WorkerPool
    from sim.engine.queues import Queue
    from sim.engine.service_queue import QueueOrder, ServiceQueue


def quanta(queues: Sequence[ServiceQueue], quantum_ns: int) -> list[float]:
    """Return the quantum of each queue under `fair`, in nanoseconds, from that of the largest weight."""
    largest = max((queue.weight for queue in queues), default=1.0)
    return [quantum_ns * (queue.weight / largest) for queue in queues]


class Offers:
    """The order of offers among the queues that some workers serve, with the state that `fair` needs.

    `fair` is deficit round robin (Shreedhar and Varghese, SIGCOMM 1995) on the time of workers. Queues take turns. A
    turn adds a quantum in proportion to the weight to what a queue may use, and lasts while any is left. A batch may
    use more than is left, since its size is decided only then: the queue pays in its next turns. What a queue leaves
    because nothing waits, or because its policy holds, is lost.
    """

    def __init__(self, order: QueueOrder, queues: Sequence[ServiceQueue], quantum_ns: int) -> None:
        """Begin with the turn of the first queue.

        Args:
            order: The order.
            queues: The queues; empty for a single one.
            quantum_ns: The quantum of the queue with the largest weight, above 0.
        """
        self._order = order
        self._rank = [queue.priority for queue in queues]
        self._quantum = quanta(queues, quantum_ns)
        # The work in nanoseconds that each queue may still use, negative where it used more; and whose turn it is.
        self._deficit, self._turn = [0.0] * len(queues), len(queues) - 1
        self._ahead = (self._deficit, self._turn)  # the same where the offer that was made last is taken

    def in_order(self, queues: Sequence[Queue], pools: Sequence[WorkerPool], served: Sequence[int]) -> Iterable[int]:
        """Return the queues in which a query waits, each as a place in the list, the first to be offered first.

        Args:
            queues: All of them.
            pools: The workers that are free, with the table of each queue.
            served: The queues that these workers serve, as places in the list.
        """
        waiting = [place for place in served if queues[place].length]
        if len(queues) == 1:
            return waiting
        if self._order == "fair":
            return self._round_robin(waiting)
        deadline = [queues[place].head_deadline() if queues[place].length else 0 for place in range(len(queues))]
        if self._order == "edf":
            return sorted(waiting, key=lambda place: deadline[place])
        if self._order == "slack":
            alone = [int(pool.table.dense_ns[:, 1].min()) for pool in pools]
            return sorted(waiting, key=lambda place: deadline[place] - alone[place])
        return sorted(waiting, key=lambda place: (self._rank[place], deadline[place]))

    def charge(self, place: int, work_ns: int) -> None:
        """Charge the queue that was offered last with the time of a batch."""
        if self._order == "fair" and len(self._quantum) > 1:
            self._deficit, self._turn = self._ahead
            self._deficit[place] -= work_ns

    def _round_robin(self, waiting: Sequence[int]) -> Iterator[int]:
        deficit, turn, left = list(self._deficit), self._turn, set(waiting)
        while left:
            turn = self._next(deficit, turn, left)
            self._ahead = (deficit, turn)
            yield turn
            left.remove(turn)

    def _next(self, deficit: list[float], turn: int, left: set[int]) -> int:
        """Return the queue whose turn it is among those that are left, and bring what they may use up to date."""
        for place, work in enumerate(deficit):
            if place not in left:
                deficit[place] = min(work, 0.0)
        if turn in left and deficit[turn] > 0:
            return turn
        # Rounds after which no queue has anything to use yet: a light queue may need many.
        rounds = min(-deficit[place] // self._quantum[place] for place in left)
        if rounds > 0:
            for place in left:
                deficit[place] += rounds * self._quantum[place]
        while True:
            turn = (turn + 1) % len(deficit)
            if turn in left:
                deficit[turn] += self._quantum[turn]
                if deficit[turn] > 0:
                    return turn
