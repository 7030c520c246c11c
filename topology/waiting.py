"""The kinds of waits at a mailbox. Each ends: with what it waits for, with the last peer, or at its timeout."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sim.base.errors import ClosedError
from topology.pending import PendingWait

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Set as AbstractSet

    from topology.message import Message
    from topology.state import Mailbox


class RecvWait(PendingWait):
    """Waits for one message."""

    __slots__ = ("sender",)

    def __init__(self, mailbox: Mailbox, sender: str | None) -> None:
        super().__init__(mailbox)
        self.sender = sender

    def offer(self, message: Message) -> bool:
        """Take a message of the sender, or of any."""
        if self.future.done or (self.sender is not None and self.sender != message.sender):
            return False
        self.future.set(message)
        return True

    def peer_left(self, peer: str) -> None:
        """End with an error if no sender remains."""
        if peer == self.sender or (self.sender is None and not self.mailbox.any_remaining()):
            self.future.fail(closed(self.mailbox, peer))

    def awaited(self) -> tuple[str, ...]:
        """Return the sender, or all peers."""
        return (self.sender,) if self.sender else super().awaited()


def closed(mailbox: Mailbox, value: str) -> ClosedError:
    """Return the error for a wait that no remaining peer can end."""
    return ClosedError(mailbox.location, "every possible sender has ended", value)


class GatherWait(PendingWait):
    """Waits for one message from each of some peers, without waking the program for each.

    Attributes:
        received: The messages so far, by sender.
    """

    __slots__ = ("_k", "_missing", "received")

    def __init__(self, mailbox: Mailbox, senders: tuple[str, ...], k: int) -> None:
        super().__init__(mailbox)
        self.received: dict[str, Message] = {}
        self._missing = set(senders)
        self._k = k
        if mailbox.inbox:
            mailbox.inbox = deque(message for message in mailbox.inbox if not self.offer(message))
        self._missing.difference_update(peer for peer in senders if mailbox.peer_group.has_left(peer))
        if self.complete():
            self.future.set(self.received)

    def complete(self) -> bool:
        """Return whether there is nothing more to wait for."""
        return not self._missing or len(self.received) >= self._k

    def offer(self, message: Message) -> bool:
        """Take the first message of each sender."""
        if self.future.done or self.complete() or message.sender not in self._missing:
            return False
        self._missing.discard(message.sender)
        self.received[message.sender] = message
        if self.complete():
            self.future.set(self.received)
        return True

    def peer_left(self, peer: str) -> None:
        """Stop waiting for this peer."""
        self._missing.discard(peer)
        if self.complete():
            self.future.set(self.received)

    def expire(self) -> None:
        """End with the messages so far."""
        self.future.set(self.received)

    def awaited(self) -> tuple[str, ...]:
        """Return the senders that are missing."""
        return tuple(sorted(self._missing))


class _OneOf(PendingWait):
    """Waits for the first message of some peers; ends with None at its timeout."""

    __slots__ = ("_senders",)

    def __init__(self, mailbox: Mailbox, senders: AbstractSet[str]) -> None:
        super().__init__(mailbox)
        self._senders = senders

    def offer(self, message: Message) -> bool:
        """Take a message of one of them."""
        if self.future.done or message.sender not in self._senders:
            return False
        self.future.set(message)
        return True

    def expire(self) -> None:
        """End without a message."""
        self.future.set(None)

    def awaited(self) -> tuple[str, ...]:
        """Return the senders."""
        return tuple(sorted(self._senders))


class AnyOf(_OneOf):
    """Ends with None when the last of the peers has ended, too. The senders are the caller's own set, left as it is."""

    __slots__ = ("_gone",)

    def __init__(self, mailbox: Mailbox, senders: AbstractSet[str]) -> None:
        super().__init__(mailbox, senders)
        self._gone = set[str]()

    def awaited(self) -> tuple[str, ...]:
        """Return the senders that have not ended."""
        return tuple(sorted(self._senders - self._gone))

    def peer_left(self, peer: str) -> None:
        """Stop waiting for this peer."""
        if not self.future.done and peer in self._senders:
            self._gone.add(peer)
            if len(self._gone) == len(self._senders):
                self.future.set(None)


class FirstOf(_OneOf):
    """Ends with None at the end of a peer that it watches, too."""

    __slots__ = ("_watched",)

    def __init__(self, mailbox: Mailbox, senders: frozenset[str], watched: frozenset[str]) -> None:
        super().__init__(mailbox, senders)
        self._watched = watched
        if any(map(mailbox.peer_group.has_left, watched)):
            self.future.set(None)

    def peer_left(self, peer: str) -> None:
        """End without a message if this was one of those watched."""
        if peer in self._watched:
            self.future.set(None)


class QuorumWait(PendingWait):
    """Waits until a number of peers is present."""

    __slots__ = ("_among", "_k")

    def __init__(self, mailbox: Mailbox, k: int, among: Collection[str] | None) -> None:
        super().__init__(mailbox)
        self._k = k
        self._among = None if among is None else frozenset(among)
        if self.complete() or not self.any_remaining():
            self.future.set(None)

    def complete(self) -> bool:
        """Return whether enough peers are present."""
        return len(self.mailbox.peers(self._among)) >= self._k

    def any_remaining(self) -> bool:
        """Return whether any of the peers is present or still to join."""
        return self.mailbox.any_remaining(self._among)

    def peer_joined(self) -> None:
        """End if enough peers are present."""
        if self.complete():
            self.future.set(None)

    def peer_left(self, peer: str) -> None:
        """End if no peer remains."""
        if not self.any_remaining():
            self.future.set(None)

    def expire(self) -> None:
        """End with the peers that are present."""
        self.future.set(None)

    def awaited(self) -> tuple[str, ...]:
        """Return those of the peers that are not present."""
        members = self.mailbox.peer_group.members if self._among is None else sorted(self._among)
        return tuple(peer for peer in members if peer not in self.mailbox.peers(self._among))
