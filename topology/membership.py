"""Group membership: which workers at one end of a channel's group are present, still to join, or have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Subscriber(Protocol):
    """Something that is notified when the membership changes."""

    def peer_joined(self) -> None:
        """Note that a peer has joined."""
        ...

    def peer_left(self, peer: str) -> None:
        """Note that a peer has ended."""
        ...


class Membership:
    """The workers of a role in a group of a channel, as their peers see them.

    Attributes:
        members: All ids, in the order of the plan.
        ids: The same as a set.
        subscribers: The mailboxes of their peers.
    """

    __slots__ = ("_absent", "_departed", "_departures", "_present", "ids", "members", "subscribers")

    def __init__(self, members: tuple[str, ...], absent: Iterable[str]) -> None:
        self.members = members
        self.subscribers: list[Subscriber] = []
        self.ids = frozenset(members)
        self._absent = self.ids.intersection(absent)
        self._departed: set[str] = set()
        self._departures: list[str] = []
        self._present: tuple[str, ...] | None = None

    def present(self) -> tuple[str, ...]:
        """Return the members that are present."""
        if self._present is None:
            away = self._absent.union(self._departed)
            self._present = tuple(id_ for id_ in self.members if id_ not in away) if away else self.members
        return self._present

    def has_left(self, id_: str) -> bool:
        """Return whether a member has ended: no more messages will come from it."""
        return id_ in self._departed

    def departures(self, start: int) -> list[str]:
        """Return the members that have ended, in that order, without the first `start` of them."""
        return self._departures[start:]

    def any_remaining(self, viewer: str) -> bool:
        """Return whether any member other than the viewer is present or still to join."""
        remaining = len(self.members) - len(self._departed)
        return remaining > (1 if viewer in self.ids and viewer not in self._departed else 0)

    def join(self, id_: str) -> None:
        """Mark a member as present and notify the subscribers."""
        if id_ in self._absent:
            self._absent -= {id_}
            self._present = None
            for subscriber in self.subscribers:
                subscriber.peer_joined()

    def leave(self, id_: str) -> None:
        """Mark a member as ended and notify the subscribers."""
        if id_ not in self._departed:
            self._departed.add(id_)
            self._departures.append(id_)
            self._present = None
            for subscriber in self.subscribers:
                subscriber.peer_left(id_)

    def stored(self) -> tuple[frozenset[str], list[str]]:
        """Return what has changed: the members that have not joined yet, and those that have ended, in order."""
        return self._absent, self._departures

    def restore(self, stored: tuple[frozenset[str], list[str]]) -> None:
        """Put back what `stored` returned."""
        self._absent, self._departures = stored
        self._departed, self._present = set(self._departures), None
