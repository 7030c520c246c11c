"""Coroutines and futures of virtual time. One thread; whoever empties `ready` is the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Coroutine, Generator, Sequence


class SimFuture:
    """A value to come; the task that awaits it is ready once it is set (`topology.transport.Future`)."""

    __slots__ = ("_error", "_ready", "_task", "_value", "done")

    def __init__(self, ready: deque[SimTask]) -> None:
        self._ready = ready
        self._task: SimTask | None = None
        self._value: Any = None
        self._error: Exception | None = None
        self.done = False

    def __getstate__(self) -> tuple[Any, ...]:
        """Return all but the task that awaits it: a coroutine can't be stored (`topology.tape`)."""
        return self._ready, self._value, self._error, self.done

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._ready, self._value, self._error, self.done = state
        self._task = None

    def set(self, value: Any) -> None:
        """Set the value, unless it is set."""
        if not self.done:
            self.done = True
            self._value = value
            if self._task is not None:
                self._ready.append(self._task)

    def fail(self, error: Exception) -> None:
        """Set an error, unless it is set."""
        if not self.done:
            self._error = error
            self.set(None)

    def __await__(self) -> Generator[SimFuture, None, Any]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value

    def awaited_by(self, task: SimTask) -> None:
        """Make a task ready when the value is set."""
        if self.done:
            self._ready.append(task)
        else:
            self._task = task


class SimTask:
    """A coroutine that runs in virtual time.

    Args:
        coroutine: The coroutine.
        ready: The tasks that can go on, in order.
        on_error: Called with an exception of the coroutine; None to raise it in whoever awaits `finished`.

    Attributes:
        finished: Set when it has ended.
        children: Tasks that are stopped with it.
    """

    __slots__ = ("_coroutine", "_on_error", "children", "finished")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        ready: deque[SimTask],
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self.finished = SimFuture(ready)
        self._on_error = on_error or self.finished.fail
        self.children: Sequence[SimTask] = ()

    def step(self) -> None:
        """Run to the next await, or to the end."""
        if self._coroutine is None:
            return
        try:
            future = self._coroutine.send(None)
        except StopIteration:
            self._coroutine = None
            self.finished.set(None)
        except Exception as error:  # noqa: BLE001  (it is reported elsewhere)
            self._coroutine = None
            self._on_error(error)
        else:
            future.awaited_by(self)

    def stop(self) -> None:
        """End it at once."""
        coroutine, self._coroutine = self._coroutine, None
        for child in self.children:
            child.stop()
        if coroutine is not None:
            coroutine.close()


def together(coroutines: Sequence[Coroutine[Any, Any, None]], ready: deque[SimTask]) -> SimTask:
    """Start coroutines concurrently; return a task that ends when all have."""
    tasks = [SimTask(coroutine, ready) for coroutine in coroutines]
    parent = SimTask(_all_of(tasks), ready)
    parent.children = tasks
    ready.extend([*tasks, parent])
    return parent


async def _all_of(tasks: Sequence[SimTask]) -> None:
    for task in tasks:
        await task.finished
