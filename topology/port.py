"""A program's end of a channel: send to peers, and wait for their messages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sim.base.errors import ClosedError, ProgramError
from topology.deadline import Deadline
from topology.waiting import AnyOf, FirstOf, GatherWait, QuorumWait, RecvWait, closed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable

    from topology.message import Message
    from topology.selection import Selector
    from topology.state import Mailbox
    from topology.tag import Channel


class Port:
    """A worker's end of a channel.

    Waits take a `timeout_s` in seconds; without one, the engine's default timeout ends the run with an error.

    Attributes:
        peer_stats: What the program records of its peers, by id; selectors read it.
    """

    __slots__ = ("_ask", "_mailbox", "peer_stats")

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._ask = mailbox.owner.ask
        self.peer_stats: dict[str, dict[str, Any]] = {}

    @property
    def channel(self) -> Channel:
        """The channel."""
        return self._mailbox.channel

    @property
    def selector(self) -> Selector:
        """How the worker's role chooses among its peers on this channel."""
        return self._mailbox.selector

    @property
    def closed(self) -> bool:
        """Whether no message is left and none can come: all peers have ended."""
        closed: bool = self._ask("closed", self._mailbox.is_closed)
        return closed

    def peers(self, among: Collection[str] | None = None) -> tuple[str, ...]:
        """Return the ids of the peers that are present, in the order of the plan.

        A peer that has died counts as present: a crash is silent.

        Args:
            among: Only these; None for all.
        """
        peers: tuple[str, ...] = self._ask("peers", self._mailbox.peers, among)
        return peers

    def absences(self, peer: str) -> int:
        """Return how many times a peer has left: what was sent to it before the last time is lost."""
        count: int = self._ask("absences", self._mailbox.peer_group.absences, peer)
        return count

    def share(self) -> tuple[str, ...]:
        """Return this worker's share of all peers, present or not, if the replicas of its role in the group share them.

        Peers are dealt out in turn; a single replica has all of them.
        """
        replicas = self._mailbox.own_group.members
        return self._mailbox.peer_group.members[replicas.index(self._mailbox.owner.worker.id) :: len(replicas)]

    def choose(self, among: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return the peers that the channel's selector for this role chooses.

        Args:
            among: The candidates; None for all that are present.
        """
        candidates = self.peers() if among is None else among
        return self.selector.choose(candidates, self.peer_stats, self._mailbox.owner.rng)

    async def send(self, value: Any, to: str | None = None, size_bytes: int | None = None) -> None:
        """Send a value; returns when it is handed over, not when it has arrived.

        Args:
            value: The value. It must not be changed afterwards: the receiver may hold the same object.
            to: The id of a peer; may be left out if there is only one.
            size_bytes: Its size; by default `topology.message.size_of`.

        Raises:
            ProgramError: There is no such peer, or several and none is named; or the size is unknown.
            ClosedError: No peer is named, and all have ended.
        """
        receiver = self._only_peer() if to is None else to
        self._mailbox.post(value, receiver, self._mailbox.size(value, size_bytes))

    async def broadcast(self, value: Any, to: Iterable[str] | None = None, size_bytes: int | None = None) -> None:
        """Send a value to several peers, by default to all that are present; otherwise as `send`."""
        size = self._mailbox.size(value, size_bytes)
        for peer in self.peers() if to is None else to:
            self._mailbox.post(value, peer, size)

    async def recv(self, sender: str | None = None, timeout_s: float | None = None) -> Message:
        """Return the next message, in the order of arrival.

        Args:
            sender: Only from this peer; messages of others stay in the inbox.
            timeout_s: How long to wait, in seconds.

        Raises:
            ProgramError: There is no such peer.
            DeadlineError: None arrived in time.
            ClosedError: None can arrive any more: the peer has ended, or all have.
        """
        mailbox = self._mailbox
        senders = None if sender is None else mailbox.checked((sender,))
        message: Message | None = self._ask("take", mailbox.take, senders)
        if message is not None:
            return message
        waited: Message = await mailbox.wait(partial(self._recv_wait, senders), timeout_s)
        return waited

    def _recv_wait(self, senders: tuple[str, ...] | None) -> RecvWait:
        mailbox = self._mailbox
        if mailbox.peer_group.has_left(senders[0]) if senders else not mailbox.any_remaining():
            raise closed(mailbox, senders[0] if senders else self.channel.name)
        return RecvWait(mailbox, senders[0] if senders else None)

    async def first(
        self, senders: Iterable[str], timeout_s: float | None = None, watched: Iterable[str] | None = None
    ) -> Message | None:
        """Return the next message of some peers; None at the timeout, or as soon as one of them has ended.

        Who waits for several peers calls it again after an end, without the peer that has ended.

        Args:
            senders: The peers; messages of others stay in the inbox.
            timeout_s: How long to wait, in seconds.
            watched: Whose end it tells; by default that of all of them.

        Raises:
            ProgramError: There is no such peer.
            DeadlineError: No timeout was given, and the engine's default timeout has passed.
        """
        mailbox = self._mailbox
        wanted = frozenset(mailbox.checked(tuple(senders)))
        message: Message | None = self._ask("take", mailbox.take, wanted)
        if message is None and wanted:
            ends = wanted if watched is None else frozenset(watched)
            message = await mailbox.wait(partial(FirstOf, mailbox, wanted, ends), timeout_s)
        return message

    async def newest(self, timeout_s: float | None = None) -> Message:
        """Return the newest message and drop those before it; wait for one if none has arrived.

        Args:
            timeout_s: How long to wait, in seconds.

        Raises:
            DeadlineError: None arrived in time.
            ClosedError: None can arrive any more.
        """
        message = await self.recv(timeout_s=timeout_s)
        while (later := self._ask("take", self._mailbox.take, None)) is not None:
            message = later
        return message

    async def gather(
        self, senders: Iterable[str] | None = None, timeout_s: float | None = None, k: int | None = None
    ) -> dict[str, Message]:
        """Return one message from each of some peers, by id, in the order in which they are named.

        Ends when all, or `k` of them, have arrived, or at the timeout, and does not wait for peers that have ended:
        peers that did not send are missing from the result. A second message of a peer, or a late one, stays in the
        inbox.

        Args:
            senders: The peers; by default those that are present or have left a message.
            timeout_s: How long to wait, in seconds.
            k: How many messages are enough; None for all.

        Raises:
            ProgramError: There is no such peer.
            DeadlineError: No timeout was given, and the engine's default timeout has passed.
        """
        mailbox = self._mailbox
        order = self._senders(senders)
        count = len(order) if k is None else k
        received = await mailbox.wait(partial(GatherWait, mailbox, order, count), timeout_s)
        return {peer: received[peer] for peer in order if peer in received}

    def _senders(self, senders: Iterable[str] | None) -> tuple[str, ...]:
        """Return the given peers; by default those that are present or have left a message."""
        mailbox = self._mailbox
        order: tuple[str, ...] = (
            self._ask("senders", mailbox.senders) if senders is None else mailbox.checked(tuple(senders))
        )
        return order

    async def stream(
        self, senders: Iterable[str] | None = None, timeout_s: float | None = None, k: int | None = None
    ) -> AsyncIterator[Message]:
        """Yield one message from each of some peers in the order of arrival; arguments and ends are those of `gather`.

        Raises:
            ProgramError: There is no such peer.
            DeadlineError: No timeout was given, and the engine's default timeout has passed.
        """
        mailbox = self._mailbox
        missing = set(self._senders(senders))
        remaining = len(missing) if k is None else k
        deadline = Deadline(mailbox.owner.now_ns, timeout_s)
        left = self._ask("left", mailbox.left, missing)
        seen = self._ask("departure_count", mailbox.peer_group.departure_count)
        while missing and remaining > 0:
            message = self._ask("take", mailbox.take, missing)
            if message is None:
                departed = self._ask("departures", mailbox.peer_group.departures, seen)
                seen += len(departed)
                missing.difference_update(left, departed)
                left = ()
                if not missing:
                    return
                message = await mailbox.wait(partial(AnyOf, mailbox, missing), deadline.left_s)
                if message is None:
                    return
            missing.discard(message.sender)
            remaining -= 1
            yield message

    def __aiter__(self) -> Port:
        """Iterate over all messages until all peers have ended."""
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.recv()
        except ClosedError:
            raise StopAsyncIteration from None

    def peek(self) -> Message | None:
        """Return the next message and leave it in the inbox; None if there is none."""
        message: Message | None = self._ask("peek", self._mailbox.peek)
        return message

    async def join(
        self, k: int = 1, timeout_s: float | None = None, among: Collection[str] | None = None
    ) -> tuple[str, ...]:
        """Return the peers that are present, once there are `k`, the timeout has passed, or none is left to join.

        Args:
            k: How many peers to wait for.
            timeout_s: How long to wait, in seconds.
            among: Only these peers; None for all.

        Raises:
            DeadlineError: No timeout was given, and the engine's default timeout has passed.
        """
        await self._mailbox.wait(partial(QuorumWait, self._mailbox, k, among), timeout_s)
        return self.peers(among)

    def _only_peer(self) -> str:
        mailbox, peers = self._mailbox, self.peers()
        if not peers and not self._ask("remaining", mailbox.any_remaining):
            raise ClosedError(mailbox.location, "all peers have ended", self.channel.name)
        if len(peers) != 1:
            hint = "name one with to=, or use broadcast" if peers else "await join() first"
            raise ProgramError(mailbox.location, "there must be exactly one peer", f"{len(peers)} present", hint)
        return peers[0]
