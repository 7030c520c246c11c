"""Real time: the workers of one process are tasks of asyncio, and their computations run in threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    from topology.message import Message
    from topology.plan import Worker
    from topology.runtime import WorkerRuntime
    from topology.state import WorkerState


class _Future:
    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[Any] = loop.create_future()

    @property
    def done(self) -> bool:
        return self._future.done()

    def set(self, value: Any) -> None:
        if not self._future.done():
            self._future.set_result(value)

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._future.__await__()


class RealTimeTransport:
    """A transport in real time for the runtime of one process; made within a running event loop.

    Messages arrive at once: links cost what the real ones cost. Functions are computed by `jobs` threads.

    Args:
        clock: A clock, in seconds.
        start: What it showed when the run began.
        jobs: How many functions are computed at once.
    """

    def __init__(self, clock: Callable[[], float], start: float, jobs: int) -> None:
        self.runtime: WorkerRuntime
        self._clock, self._start = clock, start
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="compute")
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: asyncio.Future[None] = self._loop.create_future()

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run began."""
        return round((self._clock() - self._start) * NS_PER_S)

    async def perform(self, runtime: WorkerRuntime, known: Mapping[str, str] | None = None) -> None:
        """Run the workers of a runtime until all have ended.

        Args:
            runtime: The runtime.
            known: What became of the other workers, if those of this runtime join in mid-run.

        Raises:
            SsimError: A program failed, or waited for longer than the default timeout.
        """
        self.runtime = runtime
        try:
            runtime.start(known)
            if runtime.running:
                await self._finished
        finally:
            for task in self._tasks:
                task.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def future(self) -> _Future:
        """Return a future of asyncio."""
        return _Future(self._loop)

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function at a time; return a function that cancels the call."""
        return self._loop.call_later(max(0, when_ns - self.now_ns) / NS_PER_S, callback).cancel

    async def sleep(self, state: WorkerState, duration_ns: int) -> None:
        """Let time pass for a worker."""
        del state
        await asyncio.sleep(duration_ns / NS_PER_S)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Start a worker; return a function that stops it at once."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

        def stop() -> None:
            task.cancel()

        return stop

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._finished.done():
            self._finished.set_exception(error)

    async def compute(
        self, state: WorkerState, function: Callable[..., Any] | None, args: Sequence[Any], seconds: float | None
    ) -> Any:
        """Call a function in a thread and return its value; without one, let the given seconds pass."""
        start_ns, slowdown = self.now_ns, state.slowdown()
        value = None
        if function is None:
            speed = self.runtime.plan.machines[state.worker.compute].speed
            await asyncio.sleep((seconds or 0.0) / speed * slowdown)
        else:
            start = self._clock()
            value = await self._loop.run_in_executor(self._threads, function, *args)
            if slowdown > 1:
                await asyncio.sleep((self._clock() - start) * (slowdown - 1))
        state.record_span("compute", start_ns, state.step)
        return value

    async def together(self, coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run coroutines concurrently; return when all have ended."""
        tasks = [self._loop.create_task(coroutine) for coroutine in coroutines]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def send(self, message: Message) -> None:
        """Deliver a message at once."""
        self.runtime.count_in_round(message)
        self.runtime.deliver(message)

    def notify_left(self, worker: Worker, *, returns: bool) -> None:
        """Notify the runtime that a worker has left."""
        self.runtime.worker_left(worker, returns=returns)

    def notify_joined(self, worker: Worker) -> None:
        """Notify the runtime that a worker has joined."""
        self.runtime.worker_joined(worker)

    def finish(self) -> None:
        """Note that all workers have ended."""
        if not self._finished.done():
            self._finished.set_result(None)
