"""What a worker can wait for at a port. Each wait ends: with what it waits for, the last peer, or its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.base.errors import ClosedError, DeadlineError

if TYPE_CHECKING:
    from collections.abc import Collection

    from topology.engine import Future
    from topology.message import Message
    from topology.port import Port

_NAMED = 5
"""As many peers as a message names; the others are counted."""


class Wait:
    """Something that a program waits for; `future` is set when the wait ends."""

    __slots__ = ("future", "port", "since_ns", "timed")

    def __init__(self, port: Port) -> None:
        self.port = port
        self.timed = False  # whether the program gave it a time of its own
        self.future: Future[Any] = port.carrier.future()
        self.since_ns = port.carrier.now_ns

    def offer(self, message: Message) -> bool:
        """Take a message, if it is what is waited for; return whether it is."""
        return False

    def lost(self, peer: str) -> None:
        """Take note that a peer has ended."""

    def joined(self) -> None:
        """Take note that a peer has come."""

    def expire(self) -> None:
        """Take note that the time that the program gave is up."""
        self.give_up()

    def give_up(self) -> None:
        """Take note that the engine's patience is at an end."""
        waited_s = (self.port.carrier.now_ns - self.since_ns) / 1e9
        right = "a peer may be dead: give the wait a timeout_s, or the engine more patience_s"
        self.future.fail(
            DeadlineError(self.port.where, f"nothing came for {waited_s:.6g} s", f"from {self.whom()}", right)
        )

    def whom(self) -> str:
        """Return whom this waits for, in words."""
        return _named(self.port.peers())


class One(Wait):
    """Waits for one message."""

    __slots__ = ("sender",)

    def __init__(self, port: Port, sender: str | None) -> None:
        super().__init__(port)
        self.sender = sender

    def offer(self, message: Message) -> bool:
        """Take a message of the sender, or of anybody."""
        if self.future.done or (self.sender is not None and self.sender != message.sender):
            return False
        self.future.set(message)
        return True

    def lost(self, peer: str) -> None:
        """End with an error if nobody is left to send."""
        if peer == self.sender or (self.sender is None and not self.port.possible()):
            self.future.fail(ClosedError(self.port.where, "nobody is left to send anything", peer))

    def whom(self) -> str:
        """Return the sender, or all there are."""
        return self.sender or super().whom()


class Gathered(Wait):
    """Waits for one message from each of some peers; takes them without waking the program for each."""

    __slots__ = ("_k", "_missing", "found")

    def __init__(self, port: Port, senders: tuple[str, ...], k: int) -> None:
        super().__init__(port)
        self.found: dict[str, Message] = {}
        self._missing = set(senders)
        self._k = k

    def complete(self) -> bool:
        """Return whether there is nothing more to wait for."""
        return not self._missing or len(self.found) >= self._k

    def offer(self, message: Message) -> bool:
        """Take the first message of each of the senders."""
        if self.future.done or self.complete() or message.sender not in self._missing:
            return False
        self._missing.discard(message.sender)
        self.found[message.sender] = message
        if self.complete():
            self.future.set(None)
        return True

    def lost(self, peer: str) -> None:
        """Wait no longer for this peer."""
        self._missing.discard(peer)
        if self.complete():
            self.future.set(None)

    def expire(self) -> None:
        """End with what there is."""
        self.future.set(None)

    def whom(self) -> str:
        """Return who has not sent."""
        return _named(sorted(self._missing))


class FirstOf(Wait):
    """Waits for the first message of some peers; ends with None when its time is up or the last of them has ended."""

    __slots__ = ("_senders",)

    def __init__(self, port: Port, senders: set[str]) -> None:
        super().__init__(port)
        self._senders = senders  # the caller's own: whoever ends meanwhile is taken out of it

    def offer(self, message: Message) -> bool:
        """Take a message of one of them."""
        if self.future.done or message.sender not in self._senders:
            return False
        self.future.set(message)
        return True

    def lost(self, peer: str) -> None:
        """Wait no longer for this peer; if the wait is over, it may have left a message, and stays."""
        if not self.future.done:
            self._senders.discard(peer)
            if not self._senders:
                self.future.set(None)

    def expire(self) -> None:
        """End with nothing."""
        self.future.set(None)

    def whom(self) -> str:
        """Return for whom it waits."""
        return _named(sorted(self._senders))


class Crowd(Wait):
    """Waits until some peers are there."""

    __slots__ = ("_among", "_k")

    def __init__(self, port: Port, k: int, among: Collection[str] | None) -> None:
        super().__init__(port)
        self._k = k
        self._among = None if among is None else frozenset(among)

    def complete(self) -> bool:
        """Return whether enough are there."""
        return len(self.port.peers(self._among)) >= self._k

    def possible(self) -> bool:
        """Return whether one of them is there or still to come."""
        return self.port.possible(self._among)

    def joined(self) -> None:
        """End if enough are there."""
        if self.complete():
            self.future.set(None)

    def lost(self, peer: str) -> None:
        """End if nobody is left to come."""
        if not self.possible():
            self.future.set(None)

    def expire(self) -> None:
        """End with what there is."""
        self.future.set(None)

    def whom(self) -> str:
        """Return how many are asked for and there."""
        return f"{self._k} peers of which {len(self.port.peers(self._among))} are there"


def _named(peers: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(peers) - _NAMED} more" if len(peers) > _NAMED else ""
    return ", ".join(peers[:_NAMED]) + more
