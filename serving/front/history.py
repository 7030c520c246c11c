"""The last minutes of a server, a window of one second after the other: what its live page shows."""

from __future__ import annotations

from collections import deque
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.service import Service
    from sim.tables.latency import ProfiledSubnet

WINDOWS = 300
"""Windows that are kept: five minutes."""

PAGE = Path(__file__).with_name("live_page.html")
"""The page, which asks for the history every second."""


class History:
    """Counts of a service, by windows of a second; queries count when they are answered.

    Attributes:
        windows: The last windows, the oldest first.
    """

    def __init__(self, name: str, service: Service, subnets: Sequence[ProfiledSubnet]) -> None:
        """Begin with no window.

        Args:
            name: The name of the experiment.
            service: The service.
            subnets: The subnets of all its queues.
        """
        self._name, self._service, self._subnets = name, service, subnets
        self._before = self._totals()
        self._next_ns = NS_PER_S
        self.windows: deque[dict[str, Any]] = deque(maxlen=WINDOWS)

    def note(self) -> None:
        """Take a window if it is time."""
        now_ns = self._service.router.now_ns()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns - now_ns % NS_PER_S + NS_PER_S
        totals = self._totals()
        received, failed, served, met = (
            [after - before for after, before in zip(new, old, strict=True)]
            for new, old in zip(totals, self._before, strict=True)
        )
        self._before = totals
        accuracy = [subnet.accuracy for subnet in self._subnets]
        answered, in_time = sum(served) + failed[0], sum(met)
        self.windows.append(
            {
                "at_s": round(now_ns / NS_PER_S, 3),
                "received": received[0],
                "answered": answered,
                "attainment": in_time / answered if answered else None,
                "accuracy": sum(map(mul, met, accuracy)) / in_time if in_time else None,
                "served": served,
                "queue": self._service.router.queues.waiting,
                "workers": sum(worker.is_up for worker in self._service.workers),
            }
        )

    def content(self) -> dict[str, Any]:
        """Return all windows, and what they are about."""
        subnets = [{"id": subnet.id, "accuracy": subnet.accuracy} for subnet in self._subnets]
        return {
            "name": self._name,
            "subnets": subnets,
            "workers": len(self._service.workers),
            "windows": list(self.windows),
        }

    def _totals(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Return queries received and not served, and by subnet served and in time, since the start."""
        router = self._service.router
        counts = router.counts
        received, failed = len(router.log.arrival_ns), sum(counts.not_served.values())
        return [received], [failed], list(counts.served), list(counts.met)
