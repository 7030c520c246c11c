"""Real time: the workers of one process as tasks of asyncio, and what they compute in threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from topology.io import IO
    from topology.message import Message
    from topology.port import Port
    from topology.stage import Stage


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


class RealTime:
    """A carrier in real time, for the stage of one process; made within a running loop.

    Messages arrive at once: links cost what the real ones cost. Functions are computed by `jobs` threads.

    Args:
        clock: Seconds on a clock.
        start: What it showed when the run began.
        jobs: How many functions are computed at once.
    """

    def __init__(self, clock: Callable[[], float], start: float, jobs: int) -> None:
        self.stage: Stage
        self._clock, self._start = clock, start
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="compute")
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] = self._loop.create_future()

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run began."""
        return round((self._clock() - self._start) * NS_PER_S)

    async def perform(self, stage: Stage) -> None:
        """Run the workers of a stage until all have ended.

        Raises:
            SsimError: A program failed, or waited in vain.
        """
        self.stage = stage
        try:
            stage.begin()
            if not stage.waiting_for:
                return
            await self._over
        finally:
            for task in self._tasks:
                task.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def future(self) -> _Future:
        """Return a future of asyncio."""
        return _Future(self._loop)

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call something at a time; return what calls it off."""
        return self._loop.call_later(max(0, when_ns - self.now_ns) / NS_PER_S, callback).cancel

    async def sleep(self, duration_ns: int) -> None:
        """Let time pass."""
        await asyncio.sleep(duration_ns / NS_PER_S)

    def start(self, io: IO, job: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Start a worker; return what ends it on the spot."""
        task = self._loop.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

        def stop() -> None:
            task.cancel()

        return stop

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._over.done():
            self._over.set_exception(error)

    async def compute(
        self, io: IO, function: Callable[..., Any] | None, args: Sequence[Any], seconds: float | None
    ) -> Any:
        """Call a function in a thread and return what it returns; without one let the time pass that is said."""
        factor = io.slowness()
        if function is None:
            speed = self.stage.plan.computes[io.worker.compute].speed
            await asyncio.sleep((seconds or 0.0) / speed * factor)
            return None
        start = self._clock()
        value = await self._loop.run_in_executor(self._threads, function, *args)
        if factor > 1:
            await asyncio.sleep((self._clock() - start) * (factor - 1))
        return value

    async def together(self, io: IO, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Let jobs of one worker run at the same time; return when all have ended."""
        tasks = [self._loop.create_task(job) for job in jobs]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def carry(self, message: Message, port: Port) -> None:
        """Bring a message to its receiver, at once."""
        self.stage.deliver(message)

    def farewell(self, io: IO) -> None:
        """Tell the stage that a worker has ended."""
        self.stage.gone(io.worker)

    def finish(self) -> None:
        """Take note that all workers have ended."""
        if not self._over.done():
            self._over.set_result(None)
