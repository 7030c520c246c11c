"""What a program waits for at a mailbox: the part that all kinds of waits share."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sim.base.errors import DeadlineError
from sim.base.units import ns_from_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from topology.message import Message
    from topology.state import Mailbox
    from topology.transport import Future


class PendingWait:
    """Something that a program waits for at a mailbox.

    Attributes:
        mailbox: The mailbox.
        future: Set when the wait ends.
        since_ns: When it began.
        has_timeout: Whether the program gave it a timeout of its own.
        until_ns: When the message arrived that ended it; None if none did.
    """

    __slots__ = ("_cancel", "future", "has_timeout", "mailbox", "since_ns", "until_ns")

    def __init__(self, mailbox: Mailbox) -> None:
        transport = mailbox.transport
        self.mailbox = mailbox
        self.has_timeout = False
        self.future: Future[Any] = transport.future()
        self.since_ns = transport.now_ns
        self.until_ns: int | None = None
        self._cancel: Callable[[], None] | None = None

    def begin(self, timeout_s: float | None) -> None:
        """Wait for messages and news from now on.

        Args:
            timeout_s: When it expires, in seconds from now; None for the engine's default timeout.
        """
        if timeout_s is not None:
            self.has_timeout = True
            self._cancel = self.mailbox.transport.call_at(self.since_ns + ns_from_s(timeout_s), self.expire)
        self.mailbox.waits.append(self)

    def close(self) -> None:
        """End: the program goes on."""
        if self in self.mailbox.waits:
            self.mailbox.waits.remove(self)
            self.mailbox.owner.record_span("wait", self.since_ns, self.mailbox.channel.name, self.until_ns)
        if self._cancel is not None:
            self._cancel()

    def offer(self, message: Message) -> bool:
        """Take a message if it is awaited; return whether it is."""
        return False

    def peer_left(self, peer: str) -> None:
        """Note that a peer has ended."""

    def peer_joined(self) -> None:
        """Note that a peer has joined."""

    def expire(self) -> None:
        """End at the timeout that the program gave."""
        self.fail()

    def fail(self, died: Mapping[str, int] = MappingProxyType({})) -> None:
        """End with an error.

        Args:
            died: When workers died, in nanoseconds since the run began, by id, as far as it is known.
        """
        awaited = self.awaited()
        dead = [peer for peer in awaited if peer in died]
        whom = f"from {listed(dead or awaited)}"
        if dead:
            whom += f", which died at {died[dead[0]] / 1e9:.6g} s"
        waited_s = (self.mailbox.transport.now_ns - self.since_ns) / 1e9
        role = self.mailbox.owner.worker.role
        advice = f"set timeout_s on the wait (a program may have it in its config: roles.{role}.config.timeout_s)"
        hint = advice if dead else f"a peer may have died or be slow: {advice}, or a longer default timeout"
        self.future.fail(DeadlineError(self.mailbox.location, f"no message within {waited_s:.6g} s", whom, hint))

    def awaited(self) -> tuple[str, ...]:
        """Return the ids of the awaited peers."""
        return self.mailbox.peers()


_LISTED = 5


def listed(peers: Sequence[str]) -> str:
    """Return ids in a short text: the first few, and the number of the others."""
    rest = f" and {len(peers) - _LISTED} more" if len(peers) > _LISTED else ""
    return ", ".join(peers[:_LISTED]) + rest
