"""A worker's end of a channel: whom it can send to, what has come, and waits that end."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from sim.base.errors import ClosedError, ProgramError, did_you_mean
from sim.base.units import ns_from_s
from topology.message import Message, size_of
from topology.waiting import Crowd, FirstOf, Gathered, One, Wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

    from topology.circle import Circle
    from topology.engine import Carrier
    from topology.io import IO
    from topology.selection import Selector
    from topology.tag import Channel


_NAMED = 1000
"""Among as many peers a name that is meant is looked for."""


class Port:
    """A worker's end of a channel.

    Attributes:
        channel: The channel.
        notes: What the program notes of its peers, by id; selectors look at it.
    """

    __slots__ = (
        "_circle",
        "_colleagues",
        "_inbox",
        "_io",
        "_stage",
        "_traffic",
        "_waits",
        "channel",
        "line_free_ns",
        "notes",
        "selector",
    )

    def __init__(self, io: IO, channel: Channel, circle: Circle, colleagues: Circle, selector: Selector) -> None:
        self.channel = channel
        self.notes: dict[str, dict[str, Any]] = {}
        self.line_free_ns = 0
        self._io = io
        self._stage = io.stage
        self._circle = circle
        self._colleagues = colleagues
        self.selector = selector
        self._traffic = io.stage.report.traffic[channel.name]
        self._inbox: deque[Message] | None = None
        self._waits: list[Wait] = []

    def peers(self, among: Collection[str] | None = None) -> tuple[str, ...]:
        """Return the ids of the peers that are there now, or of those among some, in the order of the plan.

        Who has fallen silent still counts as there: nobody knows.
        """
        present = self._circle.present()
        own = self._io.worker.id
        if own in self._circle.everybody:
            present = tuple(peer for peer in present if peer != own)
        if among is None:
            return present
        meant = frozenset(among)
        return tuple(peer for peer in present if peer in meant)

    def share(self) -> tuple[str, ...]:
        """Return all that fall to this worker, there or not, if those of its role in the group share out their peers.

        They do so in turn; alone it has them all.
        """
        sharing = self._colleagues.members
        return self._circle.members[sharing.index(self._io.worker.id) :: len(sharing)]

    def choose(self, among: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return the peers that the channel's selector for this role chooses among some; among all that are there."""
        return self.selector.choose(self.peers() if among is None else among, self.notes, self._io.rng)

    @property
    def closed(self) -> bool:
        """Whether nothing is there and nothing can come any more: all peers have ended."""
        return not self._inbox and not self._circle.possible(self._io.worker.id)

    async def send(self, value: Any, to: str | None = None, size_bytes: int | None = None) -> None:
        """Send a value; returns when it is handed over, not when it has arrived.

        Args:
            value: What to send. It is not to be changed afterwards: the receiver may hold the same object.
            to: The id of a peer; if there is only one, it need not be named.
            size_bytes: How large it counts; by default what `topology.message.size_of` says.

        Raises:
            ProgramError: There is no such peer, or it is not said which; or the value has no known size.
            ClosedError: It is not said to whom, and all peers have ended.
        """
        self._post(value, self._only() if to is None else to, size_bytes)

    async def broadcast(self, value: Any, to: Iterable[str] | None = None, size_bytes: int | None = None) -> None:
        """Send a value to several peers, to all that are there unless it is said to whom; as `send` otherwise."""
        size = self._size(value) if size_bytes is None else size_bytes
        for peer in self.peers() if to is None else to:
            self._post(value, peer, size)

    async def recv(self, sender: str | None = None, timeout_s: float | None = None) -> Message:
        """Return the next message, in the order of arrival.

        Args:
            sender: From this peer only; others' messages stay where they are.
            timeout_s: How long to wait, in seconds; by default as long as the engine is patient.

        Raises:
            ProgramError: There is no such peer.
            DeadlineError: None came in time.
            ClosedError: None can come any more: the peer has ended, or all have.
        """
        if sender is not None:
            self._check((sender,))
        found = self._take(None if sender is None else (sender,))
        if found is not None:
            return found
        if self._circle.is_gone(sender) if sender is not None else not self._circle.possible(self._io.worker.id):
            raise ClosedError(self.where, "nobody is left to send anything", sender or self.channel.name)
        got: Message = await self._await(One(self, sender), timeout_s)
        return got

    async def newest(self, timeout_s: float | None = None) -> Message:
        """Return the newest message and drop those before it; wait for one if none has arrived.

        Args:
            timeout_s: How long to wait, in seconds; by default as long as the engine is patient.

        Raises:
            DeadlineError: None came in time.
            ClosedError: None can come any more.
        """
        message = await self.recv(timeout_s=timeout_s)
        while self._inbox:
            message = self._inbox.popleft()
        return message

    async def gather(
        self, senders: Iterable[str] | None = None, timeout_s: float | None = None, k: int | None = None
    ) -> dict[str, Message]:
        """Return one message from each of some peers, by id, in the order they were named in.

        It ends when all have come, or `k` of them, or the time is up, and does not wait for peers that have ended: who
        is missing in what comes back did not send. A second message of a peer, and one that comes too late, stays for
        later.

        Args:
            senders: From whom; by default all that are there now, or have left a message here.
            timeout_s: How long to wait, in seconds.
            k: How many are enough.

        Raises:
            ProgramError: There is no such peer.
            DeadlineError: No time was given, and the engine's patience is at an end.
        """
        order = self._callers() if senders is None else self._check(tuple(senders))
        wait = Gathered(self, order, len(order) if k is None else k)
        if self._inbox:
            self._inbox = deque(message for message in self._inbox if not wait.offer(message))
        for peer in order:
            if self._circle.is_gone(peer):
                wait.lost(peer)
        if not wait.complete():
            await self._await(wait, timeout_s)
        return {peer: wait.found[peer] for peer in order if peer in wait.found}

    async def stream(
        self, senders: Iterable[str] | None = None, timeout_s: float | None = None, k: int | None = None
    ) -> AsyncIterator[Message]:
        """Yield one message from each of some peers in the order of arrival; arguments and ends are those of `gather`.

        Raises:
            ProgramError: There is no such peer.
            DeadlineError: No time was given, and the engine's patience is at an end.
        """
        missing = set(self._callers() if senders is None else self._check(tuple(senders)))
        left = len(missing) if k is None else k
        deadline = self._io.deadline(timeout_s)
        seen = 0
        while missing and left > 0:
            message = self._take(missing)
            if message is None:
                gone = self._circle.gone_after(seen)
                missing.difference_update(gone)
                seen += len(gone)
                if not missing:
                    return
                message = await self._await(FirstOf(self, missing), deadline.left_s)
                if message is None:
                    return
            missing.discard(message.sender)
            left -= 1
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
        """Return the next message and leave it there; None, if there is none."""
        return self._inbox[0] if self._inbox else None

    async def join(
        self, k: int = 1, timeout_s: float | None = None, among: Collection[str] | None = None
    ) -> tuple[str, ...]:
        """Return the peers that are there, once there are `k` of them, the time is up, or none is left to come.

        Args:
            k: How many.
            timeout_s: How long to wait, in seconds.
            among: Which peers are meant; None for all.

        Raises:
            DeadlineError: No time was given, and the engine's patience is at an end.
        """
        wait = Crowd(self, k, among)
        if not wait.complete() and wait.possible():
            await self._await(wait, timeout_s)
        return self.peers(among)

    # What follows is for stages and waits, not for programs.

    @property
    def io(self) -> IO:
        """What it belongs to."""
        return self._io

    @property
    def carrier(self) -> Carrier:
        """What carries its messages."""
        return self._stage.carrier

    @property
    def where(self) -> str:
        """What a message says about where something happened."""
        return f"{self._io.worker.id}, step {self._io.step}, channel {self.channel.name}"

    @property
    def waits(self) -> Sequence[Wait]:
        """What the program waits for here."""
        return self._waits

    def put(self, message: Message) -> None:
        """Take a message that has arrived."""
        for wait in self._waits:
            if wait.offer(message):
                return
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.append(message)

    def lost(self, peer: str) -> None:
        """Take note that a peer has ended."""
        for wait in self._waits:
            wait.lost(peer)

    def joined(self) -> None:
        """Take note that a peer has come."""
        for wait in self._waits:
            wait.joined()

    def possible(self, among: Collection[str] | None = None) -> bool:
        """Return whether a peer, or one of some, is there or still to come."""
        if among is None:
            return self._circle.possible(self._io.worker.id)
        return not all(self._circle.is_gone(peer) for peer in among)

    def _callers(self) -> tuple[str, ...]:
        """Return who is there, and who has gone and left a message, in the order of the plan."""
        peers = self.peers()
        left = {message.sender for message in self._inbox or ()}.difference(peers)
        if not left:
            return peers
        left.update(peers)
        return tuple(peer for peer in self._circle.members if peer in left)

    def _take(self, senders: Collection[str] | None) -> Message | None:
        """Return the first message of some senders, or of anybody, and take it out; None, if there is none."""
        if not self._inbox:
            return None
        if senders is None or self._inbox[0].sender in senders:
            return self._inbox.popleft()
        found = next((message for message in self._inbox if message.sender in senders), None)
        if found is not None:
            self._inbox.remove(found)
        return found

    def _check(self, peers: tuple[str, ...]) -> tuple[str, ...]:
        """Return some peers, if they are.

        Raises:
            ProgramError: One of them is not.
        """
        own = self._io.worker.id
        for peer in peers:
            if peer not in self._circle.everybody or peer == own:
                right = did_you_mean(peer, self._circle.members[:_NAMED])
                raise ProgramError(self.where, "there is no such peer", repr(peer), right)
        return peers

    def _post(self, value: Any, to: str, size_bytes: int | None) -> None:
        own = self._io.worker.id
        self._check((to,))
        size = self._size(value) if size_bytes is None else size_bytes
        self._traffic.messages += 1
        self._traffic.bytes += size
        carrier = self._stage.carrier
        carrier.carry(Message(own, to, self.channel.name, value, size, carrier.now_ns), self)

    def _size(self, value: Any) -> int:
        try:
            return size_of(value)
        except TypeError as error:
            right = "say size_bytes when sending"
            raise ProgramError(self.where, "what is sent has no known size", str(error), right) from error

    def _only(self) -> str:
        peers = self.peers()
        if not peers and not self.possible():
            raise ClosedError(self.where, "nobody is left to send to", self.channel.name)
        if len(peers) != 1:
            right = "name one, or use broadcast" if peers else "await join() first"
            raise ProgramError(self.where, "there is not just one peer to send to", f"{len(peers)} are there", right)
        return peers[0]

    async def _await(self, wait: Wait, timeout_s: float | None) -> Any:
        carrier, start_ns = self._stage.carrier, self._io.now_ns
        call_off: Callable[[], None] | None = None
        if timeout_s is not None:
            wait.timed = True
            call_off = carrier.call_at(start_ns + ns_from_s(timeout_s), wait.expire)
        self._waits.append(wait)
        try:
            return await wait.future
        finally:
            self._waits.remove(wait)
            if call_off is not None:
                call_off()
            self._stage.span("wait", self._io, start_ns, self.channel.name)
