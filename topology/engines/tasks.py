"""Coroutines that are stepped by hand: what goes on in virtual time. One thread, no loop but who takes from `ready`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Coroutine, Generator, Sequence


class Future:
    """Something to come; whoever awaits it is ready once it is set (`topology.engine.Future`)."""

    __slots__ = ("_error", "_ready", "_task", "_value", "done")

    def __init__(self, ready: deque[Task]) -> None:
        self._ready = ready
        self._task: Task | None = None
        self._value: Any = None
        self._error: Exception | None = None
        self.done = False

    def set(self, value: Any) -> None:
        """Give it a value, unless it has one."""
        if not self.done:
            self.done = True
            self._value = value
            if self._task is not None:
                self._ready.append(self._task)

    def fail(self, error: Exception) -> None:
        """Give it an error, unless it has a value."""
        if not self.done:
            self._error = error
            self.set(None)

    def __await__(self) -> Generator[Future, None, Any]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value

    def awaited_by(self, task: Task) -> None:
        """Let a task go on when there is a value."""
        if self.done:
            self._ready.append(task)
        else:
            self._task = task


class Task:
    """A coroutine that is under way.

    Attributes:
        finished: Set when it has ended; failed, if it has and nobody else is told.
        children: What ends with it when it is stopped.
    """

    __slots__ = ("_coroutine", "_failed", "children", "finished")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        ready: deque[Task],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Args: what to do, where to wait for one's turn, and who is told of an error in place of who awaits it."""
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self.finished = Future(ready)
        self._failed = failed or self.finished.fail
        self.children: Sequence[Task] = ()

    def step(self) -> None:
        """Go on to what is awaited next, or to the end."""
        if self._coroutine is None:
            return
        try:
            future = self._coroutine.send(None)
        except StopIteration:
            self._coroutine = None
            self.finished.set(None)
        except Exception as error:  # noqa: BLE001  (it is told elsewhere)
            self._coroutine = None
            self._failed(error)
        else:
            future.awaited_by(self)

    def stop(self) -> None:
        """End it on the spot."""
        coroutine, self._coroutine = self._coroutine, None
        for child in self.children:
            child.stop()
        if coroutine is not None:
            coroutine.close()


def together(jobs: Sequence[Coroutine[Any, Any, None]], ready: deque[Task]) -> Task:
    """Begin coroutines side by side; return what ends when all have."""
    tasks = [Task(job, ready) for job in jobs]
    parent = Task(_all_of(tasks), ready)
    parent.children = tasks
    ready.extend([*tasks, parent])
    return parent


async def _all_of(tasks: Sequence[Task]) -> None:
    for task in tasks:
        await task.finished
