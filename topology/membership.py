"""Group membership: which workers at one end of a channel's group are present, still to join, or have left."""

from __future__ import annotations

from collections import Counter
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

    A worker is present, absent (still to join, or to come back), or departed (it has ended).

    Attributes:
        members: All ids, in the order of the plan.
        ids: The same as a set.
        subscribers: The mailboxes of their peers.
    """

    __slots__ = (
        "_absent",
        "_counts",
        "_departed",
        "_departures",
        "_paused",
        "_present",
        "ids",
        "members",
        "subscribers",
    )

    def __init__(self, members: tuple[str, ...], absent: Iterable[str]) -> None:
        self.members = members
        self.subscribers: list[Subscriber] = []
        self.ids = frozenset(members)
        self._absent = set(self.ids.intersection(absent))
        self._paused = set[str]()  # those of the absent that were present before
        self._departed = set[str]()
        self._departures: list[str] = []
        self._counts = Counter[str]()
        self._present: tuple[str, ...] | None = None

    def present(self) -> tuple[str, ...]:
        """Return the members that are present."""
        if self._present is None:
            away = self._absent | self._departed
            self._present = tuple(id_ for id_ in self.members if id_ not in away) if away else self.members
        return self._present

    def has_left(self, id_: str) -> bool:
        """Return whether a member has left: no message will come from it, unless it comes back."""
        return id_ in self._departed or id_ in self._paused

    def has_ended(self, id_: str) -> bool:
        """Return whether a member has ended, and won't come back."""
        return id_ in self._departed

    def departures(self, start: int) -> list[str]:
        """Return the members that have left, in that order, without the first `start` of them."""
        return self._departures[start:]

    def departure_count(self) -> int:
        """Return how many times a member has left."""
        return len(self._departures)

    def absences(self, id_: str) -> int:
        """Return how many times this member has left."""
        return self._counts[id_]

    def any_remaining(self, viewer: str) -> bool:
        """Return whether any member other than the viewer is present, or still to join or to come back."""
        remaining = len(self.members) - len(self._departed)
        return remaining > (1 if viewer in self.ids and viewer not in self._departed else 0)

    def join(self, id_: str) -> None:
        """Mark a member as present and notify the subscribers."""
        if id_ in self._absent:
            self._absent.discard(id_)
            self._paused.discard(id_)
            self._present = None
            for subscriber in self.subscribers:
                subscriber.peer_joined()

    def leave(self, id_: str, *, returns: bool = False) -> None:
        """Mark a member as ended and notify the subscribers.

        Args:
            id_: The member.
            returns: Whether it may come back: it is absent until then.
        """
        if id_ in self._departed or (returns and id_ in self._paused):
            return
        if id_ not in self._paused:
            self._departures.append(id_)
            self._counts[id_] += 1
        if returns:
            self._absent.add(id_)
            self._paused.add(id_)
        else:
            self._absent.discard(id_)
            self._paused.discard(id_)
            self._departed.add(id_)
        self._present = None
        for subscriber in self.subscribers:
            subscriber.peer_left(id_)

    def stored(self) -> tuple[set[str], set[str], set[str], list[str]]:
        """Return what has changed: who is absent, paused and departed, and all departures in order."""
        return self._absent, self._paused, self._departed, self._departures

    def restore(self, stored: tuple[set[str], set[str], set[str], list[str]]) -> None:
        """Put back what `stored` returned."""
        self._absent, self._paused, self._departed, self._departures = stored
        self._counts, self._present = Counter(self._departures), None
