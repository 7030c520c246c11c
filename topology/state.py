"""The runtime state of each worker and of its end of each channel. Programs see `topology.io` and `topology.port`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim.base.errors import ProgramError, did_you_mean
from sim.base.streams import stream
from topology.message import Message, size_of
from topology.report import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy as np

    from topology.deployment import InjectedFault
    from topology.membership import Membership
    from topology.pending import PendingWait
    from topology.plan import Plan, Worker
    from topology.report import RunReport
    from topology.selection import Selector
    from topology.tag import Channel
    from topology.tape import Pending, Tape
    from topology.transport import Transport

AWAY = "away"
_SEARCHED = 1000
"""Among at most this many peers a hint looks for the name that was meant."""


@dataclass(slots=True, eq=False)
class RunContext:
    """What all workers of a process share.

    Attributes:
        transport: The engine's side.
        report: The report so far.
        plan: All workers of the run, those of other processes included.
        seed: The seed of all random numbers.
        watch: Called with the report after each entry of a program in its log.
        faults: Injected faults by worker id.
        variants: The variants of the workers that run one, by worker id.
    """

    transport: Transport
    report: RunReport
    plan: Plan
    seed: int
    watch: Callable[[RunReport], None] | None = None
    faults: Mapping[str, InjectedFault] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)


class WorkerState:
    """A worker while it runs.

    Attributes:
        worker: Its id, role, groups, dataset and machine.
        context: What it shares with the others.
        transport: The engine's side, as in the context.
        mailboxes: Its end of each channel, by name.
        step: The name of the current step.
        ended: How it ended; "" while it has not, `AWAY` while it has left and is to come back.
        idle_channels: The channels on which its program waits for work before it sends anything.
        joined_late: Whether it joined after the run began.
        slow: A slowdown: factor, start and end in nanoseconds; an end of None is that of the run.
        stop: Stops it at once; None before it has started.
        tape: What its program has seen, if the run can be stored.
    """

    __slots__ = (
        "_rng",
        "context",
        "ended",
        "idle_channels",
        "joined_late",
        "mailboxes",
        "slow",
        "step",
        "stop",
        "tape",
        "transport",
        "worker",
    )

    def __init__(self, worker: Worker, context: RunContext, idle_channels: frozenset[str]) -> None:
        self.worker = worker
        self.context = context
        self.idle_channels = idle_channels
        self.joined_late = False
        self.transport = context.transport
        self.mailboxes: dict[str, Mailbox] = {}
        self.step = ""
        self.ended = ""
        self.slow: tuple[float, int, int | None] = (1.0, 0, None)
        self.stop: Callable[[], None] | None = None
        self.tape: Tape | None = None
        self._rng: np.random.Generator | None = None

    def waits(self) -> list[PendingWait]:
        """Return what it waits for, on all channels."""
        return [wait for mailbox in self.mailboxes.values() for wait in mailbox.waits]

    def now_ns(self) -> int:
        """Return the nanoseconds since the run began."""
        return self.tape.now_ns if self.replaying and self.tape else self.transport.now_ns

    @property
    def replaying(self) -> bool:
        """Whether its program is being brought back to where it was: what it does has been done."""
        return self.tape is not None and self.tape.replaying

    def ask(self, name: str, question: Callable[..., Any], *args: Any) -> Any:
        """Return the answer to a question about the world that the program asks."""
        return question(*args) if self.tape is None else self.tape.ask(name, question, *args)

    async def wait(self, begin: Callable[[], Pending]) -> Any:
        """Return the value of a wait of the program when it ends.

        Args:
            begin: Begins it.
        """
        if self.tape is not None:
            return await self.tape.wait(begin, self.now_ns, self.transport.future)
        pending = begin()
        try:
            return await pending.future
        finally:
            pending.close()

    @property
    def rng(self) -> np.random.Generator:
        """Its random numbers: determined by the run's seed and its id."""
        if self._rng is None:
            role, _, number = self.worker.id.rpartition("/")
            self._rng = stream(self.context.seed, f"worker {role}", int(number))
        return self._rng

    @property
    def rng_state(self) -> Any:
        """The state of its random numbers; None if it has used none."""
        return None if self._rng is None else self._rng.bit_generator.state

    @rng_state.setter
    def rng_state(self, state: Any) -> None:
        self._rng = None
        if state is not None:
            self.rng.bit_generator.state = state

    def slowdown(self) -> float:
        """Return how many times as long as usual a computation that starts now takes."""
        factor, from_ns, until_ns = self.slow
        if factor == 1:
            return factor
        now_ns = self.now_ns()
        return factor if from_ns <= now_ns and (until_ns is None or now_ns < until_ns) else 1.0

    def record_span(self, kind: str, start_ns: int, what: str) -> None:
        """Record a span that ends now."""
        if self.context.report.recording and not self.ended:
            self.context.report.spans.append(Span(kind, self.worker.id, start_ns, self.transport.now_ns, what))


class Mailbox:
    """A worker's end of a channel: messages that have arrived, and what the program waits for.

    Attributes:
        owner: The worker.
        transport: The engine's side.
        channel: The channel.
        peer_group: The workers at the other end.
        own_group: The workers at this end, the owner included.
        selector: How the owner's role chooses among its peers.
        waits: What the program waits for here.
        inbox: Messages that have arrived and were not received yet, in order.
    """

    __slots__ = (
        "_id",
        "_traffic",
        "channel",
        "inbox",
        "own_group",
        "owner",
        "peer_group",
        "selector",
        "transport",
        "waits",
    )

    def __init__(
        self, owner: WorkerState, channel: Channel, peer_group: Membership, own_group: Membership, selector: Selector
    ) -> None:
        self.owner = owner
        self._id = owner.worker.id
        self.transport = owner.transport
        self.channel = channel
        self.peer_group = peer_group
        self.own_group = own_group
        self.selector = selector
        self.waits: list[PendingWait] = []
        self.inbox: deque[Message] | None = None  # most workers of a large run never have one
        self._traffic = owner.context.report.traffic[channel.name]

    @property
    def location(self) -> str:
        """The worker, step and channel, for messages."""
        return f"{self.owner.worker.id}, step {self.owner.step}, channel {self.channel.name}"

    def peers(self, among: Collection[str] | None = None) -> tuple[str, ...]:
        """Return the ids of the peers that are present, in the order of the plan.

        Args:
            among: Only these; None for all.
        """
        present = self.peer_group.present()
        if self._id in self.peer_group.ids:
            present = tuple(peer for peer in present if peer != self._id)
        if among is None:
            return present
        wanted = frozenset(among)
        return tuple(peer for peer in present if peer in wanted)

    def any_remaining(self, among: Collection[str] | None = None) -> bool:
        """Return whether any peer, or any of some, is present, or still to join or to come back."""
        if among is None:
            return self.peer_group.any_remaining(self._id)
        return not all(self.peer_group.has_ended(peer) for peer in among)

    def left(self, among: Collection[str]) -> list[str]:
        """Return those of some peers that have left."""
        return [peer for peer in among if self.peer_group.has_left(peer)]

    def senders(self) -> tuple[str, ...]:
        """Return the peers that are present or have left a message here, in the order of the plan."""
        peers = self.peers()
        departed = {message.sender for message in self.inbox or ()}.difference(peers)
        if not departed:
            return peers
        departed.update(peers)
        return tuple(peer for peer in self.peer_group.members if peer in departed)

    def checked(self, peers: tuple[str, ...]) -> tuple[str, ...]:
        """Return the ids if all are peers.

        Raises:
            ProgramError: One is not.
        """
        for peer in peers:
            if peer not in self.peer_group.ids or peer == self._id:
                hint = did_you_mean(peer, self.peer_group.members[:_SEARCHED])
                raise ProgramError(self.location, "unknown peer", repr(peer), hint)
        return peers

    def peek(self) -> Message | None:
        """Return the first message; None if there is none."""
        return self.inbox[0] if self.inbox else None

    def is_closed(self) -> bool:
        """Return whether no message is left and none can come."""
        return not self.inbox and not self.any_remaining()

    def put(self, message: Message) -> None:
        """Take in a message that has arrived."""
        for wait in self.waits:
            if wait.offer(message):
                return
        if self.inbox is None:
            self.inbox = deque()
        self.inbox.append(message)

    def peer_left(self, peer: str) -> None:
        """Note that a peer has ended."""
        for wait in self.waits:
            wait.peer_left(peer)

    def peer_joined(self) -> None:
        """Note that a peer has joined."""
        for wait in self.waits:
            wait.peer_joined()

    def take(self, senders: Collection[str] | None) -> Message | None:
        """Remove and return the first message from some senders, or from any; None if there is none."""
        if not self.inbox:
            return None
        if senders is None or self.inbox[0].sender in senders:
            return self.inbox.popleft()
        message = next((message for message in self.inbox if message.sender in senders), None)
        if message is not None:
            self.inbox.remove(message)
        return message

    def size(self, value: Any, size_bytes: int | None) -> int:
        """Return the size of a value in bytes.

        Raises:
            ProgramError: It is not given and cannot be determined.
        """
        if size_bytes is not None:
            return size_bytes
        try:
            return size_of(value)
        except TypeError as error:
            hint = "pass size_bytes"
            raise ProgramError(self.location, "the size of the value is unknown", str(error), hint) from error

    def post(self, value: Any, to: str, size_bytes: int) -> None:
        """Send a value to a peer.

        Raises:
            ProgramError: There is no such peer.
        """
        self.checked((to,))
        if self.owner.replaying:
            return
        self._traffic.messages += 1
        self._traffic.bytes += size_bytes
        transport = self.transport
        transport.send(Message(self._id, to, self.channel.name, value, size_bytes, transport.now_ns))

    async def wait(self, make: Callable[[], PendingWait], timeout_s: float | None) -> Any:
        """Return the value of a wait when it ends.

        Args:
            make: Makes the wait; its future is set if it has ended already.
            timeout_s: When it expires, in seconds from now; None for the engine's default timeout.
        """

        def begin() -> PendingWait:
            wait = make()
            if not wait.future.done:
                wait.begin(timeout_s)
            return wait

        return await self.owner.wait(begin)
