"""Who is at one end of a group of a channel, and who is still to come or gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from topology.port import Port


class Circle:
    """The workers of a role in a group of a channel, as their peers see them.

    Attributes:
        members: Their ids, in the order of the plan.
        everybody: The same, to look somebody up.
        watchers: The ports of their peers.
    """

    __slots__ = ("_absent", "_gone", "_order_of_going", "_present", "everybody", "members", "watchers")

    def __init__(self, members: tuple[str, ...], absent: Iterable[str]) -> None:
        self.members = members
        self.watchers: list[Port] = []
        self.everybody = frozenset(members)
        self._absent = self.everybody.intersection(absent)
        self._gone: set[str] = set()
        self._order_of_going: list[str] = []
        self._present: tuple[str, ...] | None = None

    def present(self) -> tuple[str, ...]:
        """Return who is there now."""
        if self._present is None:
            away = self._absent.union(self._gone)
            self._present = tuple(id_ for id_ in self.members if id_ not in away) if away else self.members
        return self._present

    def is_gone(self, id_: str) -> bool:
        """Return whether somebody has ended: nothing will come from there any more."""
        return id_ in self._gone

    def gone_after(self, number: int) -> list[str]:
        """Return who has ended after the first so many that have."""
        return self._order_of_going[number:]

    def possible(self, viewer: str) -> bool:
        """Return whether somebody other than the viewer is there or still to come."""
        open_ = len(self.members) - len(self._gone)
        return open_ > (1 if viewer in self.everybody and viewer not in self._gone else 0)

    def join(self, id_: str) -> None:
        """Note that somebody is there, and tell those who look."""
        if id_ in self._absent:
            self._absent -= {id_}
            self._present = None
            for port in self.watchers:
                port.joined()

    def leave(self, id_: str) -> None:
        """Note that somebody has ended, and tell those who look."""
        if id_ not in self._gone:
            self._gone.add(id_)
            self._order_of_going.append(id_)
            self._present = None
            for port in self.watchers:
                port.lost(id_)
