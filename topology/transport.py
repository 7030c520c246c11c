"""What the worker runtime asks of an engine: to deliver messages, to run coroutines, and to let time pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from topology.message import Message
    from topology.plan import Worker
    from topology.state import WorkerState

_Value_co = TypeVar("_Value_co", covariant=True)


class Future(Protocol[_Value_co]):
    """A value to come; it is set once, later attempts have no effect."""

    @property
    def done(self) -> bool:
        """Whether it is set."""
        ...

    def set(self, value: Any) -> None:
        """Set the value."""
        ...

    def fail(self, error: Exception) -> None:
        """Raise an error in whoever awaits the value."""
        ...

    def __await__(self) -> Generator[Any, Any, _Value_co]: ...


class Transport(Protocol):
    """The engine's side of a run. The same runtime (`topology.runtime`) works on each transport."""

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run began."""
        ...

    def future(self) -> Future[Any]:
        """Return a new future."""
        ...

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function at a time, after all else that happens then; return a function that cancels the call."""
        ...

    async def sleep(self, state: WorkerState, duration_ns: int) -> None:
        """Let time pass for a worker."""
        ...

    def send(self, message: Message) -> None:
        """Deliver a message to its receiver's runtime when it arrives, or lose it if the channel does."""
        ...

    def notify_left(self, worker: Worker, *, returns: bool) -> None:
        """Notify the runtimes that a worker has left, after all of its messages have arrived.

        Args:
            worker: The worker.
            returns: Whether it may come back.
        """
        ...

    def notify_joined(self, worker: Worker) -> None:
        """Notify the runtimes that a worker has joined, after they know of its absence."""
        ...

    async def compute(
        self, state: WorkerState, function: Callable[..., Any] | None, args: Sequence[Any], seconds: float | None
    ) -> Any:
        """Call a function on a worker's machine and return its value when the computation is done.

        Args:
            state: The worker.
            function: The function; None only lets time pass.
            args: Its arguments.
            seconds: Its cost on a machine of speed 1, in virtual time.
        """
        ...

    async def together(self, coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run coroutines concurrently; return when all have ended."""
        ...

    def start(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Start a worker; return a function that stops it at once."""
        ...

    def finish(self) -> None:
        """Note that all workers of the runtime have ended."""
        ...
