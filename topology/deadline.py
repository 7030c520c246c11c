"""A point in time that several waits share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.units import NS_PER_S, ns_from_s

if TYPE_CHECKING:
    from collections.abc import Callable


class Deadline:
    """The end of a number of waits that together may take so long; or of none, with a timeout of None.

    Args:
        now_ns: The clock.
        timeout_s: Seconds from now on; None for no limit.
    """

    __slots__ = ("_now_ns", "_until_ns")

    def __init__(self, now_ns: Callable[[], int], timeout_s: float | None) -> None:
        self._now_ns = now_ns
        self._until_ns = None if timeout_s is None else now_ns() + ns_from_s(timeout_s)

    @property
    def left_s(self) -> float | None:
        """Seconds left, at least 0, as the `timeout_s` of the next wait; None for no limit."""
        return None if self._until_ns is None else max(0.0, (self._until_ns - self._now_ns()) / NS_PER_S)
