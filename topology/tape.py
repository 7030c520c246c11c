"""What a program has seen since its last step or turn of a loop began, to bring it to the same place again.

A coroutine can't be stored. But it is determined by the state of its program when a step began and by what it has seen
of the world since. So the program is copied at the start of each step and of each turn of a loop (its safepoint), and
all answers that it gets through `io` are kept until the next one. To bring a program back, its copy is run again with
the kept answers; what it sends meanwhile is left out, since it was sent before. Computations are done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sim.base.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable

    from topology.copying import Copy
    from topology.transport import Future


class Pending(Protocol):
    """Something that a program waits for."""

    @property
    def future(self) -> Future[Any]:
        """Set when the wait ends."""
        ...

    def close(self) -> None:
        """Note that the program goes on."""
        ...


class Safepoint(NamedTuple):
    """The state of a program when a step, or a turn of a loop, began.

    Attributes:
        position: The index of the step among those of the program.
        state: A copy of what the program can change.
        at_ns: When it was.
    """

    position: int
    state: Copy
    at_ns: int


class End(NamedTuple):
    """The end of a wait.

    Attributes:
        number: The number of the wait since the safepoint.
        at_ns: When it ended.
        value: What the program got.
        error: What was raised instead.
        at_once: Whether there was nothing to wait for.
    """

    number: int
    at_ns: int
    value: Any
    error: Exception | None
    at_once: bool


class Tape:
    """What one program has seen since its safepoint.

    Attributes:
        safepoint: The state of the program then.
        answers: The names of questions that it asked since, and the answers, in order.
        ends: The ends of its waits, in order.
        begun: How many waits it has begun.
        pending: The waits that have not ended, by number.
        replaying: Whether the program is being brought back to where it was.
        now_ns: While it is: what the clock showed.
    """

    __slots__ = ("_awaited", "_read", "answers", "begun", "ends", "now_ns", "pending", "replaying", "safepoint")

    def __init__(self) -> None:
        self.safepoint: Safepoint
        self.answers: list[tuple[str, Any]] = []
        self.ends: list[End] = []
        self.begun = 0
        self.pending: dict[int, Pending] = {}
        self.replaying = False
        self.now_ns = 0
        self._awaited: dict[int, Future[Any]] = {}
        self._read = 0, 0

    def mark(self, safepoint: Safepoint) -> None:
        """Forget all before a safepoint."""
        self.safepoint = safepoint
        self.answers, self.ends, self.begun = [], [], 0

    def ask(self, name: str, question: Callable[..., Any], *args: Any) -> Any:
        """Return the answer to a question about the world."""
        if self.replaying:
            answer, end = self._read
            self._read = answer + 1, end
            if answer == len(self.answers) or self.answers[answer][0] != name:
                raise self._differs(name)
            return self.answers[answer][1]
        value = question(*args)
        self.answers.append((name, value))
        return value

    async def wait(
        self, begin: Callable[[], Pending], now_ns: Callable[[], int], future: Callable[[], Future[Any]]
    ) -> Any:
        """Return what a wait ends with.

        Args:
            begin: Begins it.
            now_ns: The clock.
            future: Makes a future.
        """
        number = self.begun
        self.begun += 1
        if self.replaying:
            return await self._again(number, now_ns, future)
        try:
            self.pending[number] = begin()
        except Exception as error:
            self.ends.append(End(number, now_ns(), None, error, at_once=True))
            raise
        return await self._end_of(number, now_ns)

    async def _end_of(self, number: int, now_ns: Callable[[], int]) -> Any:
        pending = self.pending[number]
        at_once = pending.future.done
        try:
            value = await pending.future
        except Exception as error:
            self.ends.append(End(number, now_ns(), None, error, at_once))
            raise
        else:
            self.ends.append(End(number, now_ns(), value, None, at_once))
            return value
        finally:
            del self.pending[number]
            pending.close()

    async def _again(self, number: int, now_ns: Callable[[], int], future: Callable[[], Future[Any]]) -> Any:
        """Return what a wait has ended with before, or go on with it."""
        if number in self.pending:
            return await self._end_of(number, now_ns)
        answer, read = self._read
        end = self.ends[read] if read < len(self.ends) else None
        if end is not None and end.number == number and end.at_once:
            self._read = answer, read + 1
            if end.error is not None:
                raise end.error
            return end.value
        if all(end.number != number for end in self.ends[read:]):
            raise self._differs("wait")
        self._awaited[number] = future()
        return await self._awaited[number]

    def rewind(self) -> None:
        """Go back to the safepoint: from now on the program is given what it has seen."""
        self.replaying, self.now_ns, self.begun = True, self.safepoint.at_ns, 0

    def replay(self, run: Callable[[], None]) -> None:
        """Give a program that has been started all that it has seen.

        Args:
            run: Lets it go on as far as it can.

        Raises:
            ProgramError: It asks for something else than before.
        """
        run()
        while self._read[1] < len(self.ends):
            answer, read = self._read
            end = self.ends[read]
            self._read = answer, read + 1
            if end.number not in self._awaited:
                raise self._differs("wait")
            self.now_ns = end.at_ns
            awaited = self._awaited.pop(end.number)
            if end.error is None:
                awaited.set(end.value)
            else:
                awaited.fail(end.error)
            run()
        if self._read[0] < len(self.answers):
            raise self._differs("end")
        self.replaying, self._read = False, (0, 0)

    def _differs(self, name: str) -> ProgramError:
        hint = "its steps must depend only on `io` and on its own state; train anew with --force"
        return ProgramError("checkpoint", "the program took another way than before", name, hint)
