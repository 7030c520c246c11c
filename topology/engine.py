"""What an engine is, and what comes of a run. The same programs run on each of them, unchanged.

An engine carries messages and lets time pass; what a worker sees (`topology.io`) and who is there (`topology.stage`)
is the same code on all of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    from topology.io import IO
    from topology.message import Message
    from topology.parties import Fault
    from topology.plan import Plan
    from topology.port import Port
    from topology.program import Program

_Value_co = TypeVar("_Value_co", covariant=True)


class Engine(Protocol):
    """Something that runs plans."""

    def run(
        self,
        plan: Plan,
        programs: Mapping[str, Callable[..., Program]],
        *,
        seed: int = 0,
        faults: Sequence[Fault] = (),
    ) -> Report:
        """Run a program on each worker until all have ended; return what came of it.

        Args:
            plan: Who there is.
            programs: The program of each role: its class, or what makes one from the role's `config`.
            seed: What all chance comes from.
            faults: What befalls workers.

        Raises:
            TagError: A program does not fit its role.
            SsimError: A program failed, or waited in vain for longer than the engine's patience.
        """
        ...


class Future(Protocol[_Value_co]):
    """A value that will exist; it is set once, later attempts do nothing."""

    @property
    def done(self) -> bool:
        """Whether it was set."""
        ...

    def set(self, value: Any) -> None:
        """Give it its value."""
        ...

    def fail(self, error: Exception) -> None:
        """Let whoever awaits it raise an error."""
        ...

    def __await__(self) -> Generator[Any, Any, _Value_co]: ...


class Carrier(Protocol):
    """What a stage asks of its engine: to carry messages and to let time pass."""

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run began."""
        ...

    def future(self) -> Future[Any]:
        """Return a future of this engine."""
        ...

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call something at a time, after all else that happens then; return what calls it off."""
        ...

    async def sleep(self, duration_ns: int) -> None:
        """Let time pass."""
        ...

    def carry(self, message: Message, port: Port) -> None:
        """Bring a message from a port to its receiver's stage, in its time; or lose it, if the channel does that."""
        ...

    def farewell(self, io: IO) -> None:
        """Tell the stages that a worker has ended, after all that it sent has arrived."""
        ...

    async def compute(
        self, io: IO, function: Callable[..., Any] | None, args: Sequence[Any], seconds: float | None
    ) -> Any:
        """Call a function on a worker's machine and return what it returns, when it would be done."""
        ...

    async def together(self, io: IO, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Let jobs of one worker run at the same time; return when all have ended."""
        ...

    def finish(self) -> None:
        """Take note that all workers of the stage have ended."""
        ...

    def start(self, io: IO, job: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Start a worker; return what ends it on the spot."""
        ...


@dataclass(slots=True)
class Traffic:
    """What went over a channel.

    Attributes:
        messages: How many were sent.
        bytes: How many bytes they count as.
        lost: How many never arrived: the channel lost them, or nobody was there.
    """

    messages: int = 0
    bytes: int = 0
    lost: int = 0


class Entry(NamedTuple):
    """Something worth telling that happened in a run.

    Attributes:
        at_ns: When.
        worker: To whom.
        kind: What: `joined`, `left`, `died`, `closed`, or a program's own word.
        fields: What a program adds.
    """

    at_ns: int
    worker: str
    kind: str
    fields: dict[str, Any]


class Span(NamedTuple):
    """How a worker spent some time, or how a message did.

    Attributes:
        kind: `compute`, `wait` or `message`.
        worker: Whose time it is; of a message its sender.
        start_ns: From when.
        end_ns: Until when.
        what: The step, or the channel.
        peer: The receiver of a message, or "".
        size_bytes: The size of a message, or 0.
    """

    kind: str
    worker: str
    start_ns: int
    end_ns: int
    what: str
    peer: str = ""
    size_bytes: int = 0


@dataclass(slots=True)
class Report:
    """What came of a run.

    Attributes:
        results: What each worker's program gives as its result, by id, in the order of the plan; of those that ended by
            their last step.
        ended: Who did not end by the last step, by id: `left`, `died`, or `closed` for one whose peers had all ended.
        end_ns: When the last worker ended, in nanoseconds since the run began.
        traffic: What went over each channel, by name.
        log: What happened, in order.
        spans: How workers and messages spent their time, if the engine was to record it.
    """

    results: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    end_ns: int = 0
    traffic: dict[str, Traffic] = field(default_factory=dict)
    log: list[Entry] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    @property
    def end_s(self) -> float:
        """When the last worker ended, in seconds since the run began."""
        return self.end_ns / 1e9

    def fingerprint(self) -> str:
        """Return a hash of all that happened and when: two runs with the same one went the same way."""
        trace = (self.spans, self.log, self.end_ns, self.traffic, self.ended)
        return hashlib.sha256(repr(trace).encode()).hexdigest()
