"""Runs the steps of a program."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from topology.program import Break, Continue
from topology.steps import Loop, Par, Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from topology.io import IO
    from topology.program import Program
    from topology.state import WorkerState


class Interpreter:
    """Runs the program of one worker.

    Attributes:
        program: The program.
    """

    __slots__ = ("_io", "_state", "program")

    def __init__(self, program: Program, io: IO, state: WorkerState) -> None:
        self.program, self._io, self._state = program, io, state

    def start(self, step: str | Steps) -> Awaitable[None] | None:
        """Start a step, or a sequence of steps; return what remains to be awaited, if anything."""
        if isinstance(step, Loop):
            return self._loop(step)
        if isinstance(step, Par):
            return self._io.together([self._sequence(Steps(part)) for part in step.body])
        if isinstance(step, Steps):
            return self._sequence(step)
        self._state.step = step
        method: Callable[[IO], Awaitable[None] | None] = getattr(self.program, step)
        return method(self._io)

    async def _sequence(self, steps: Steps) -> None:
        for step in steps.body:
            waiting = self.start(step)
            if waiting is not None:
                await waiting

    async def _loop(self, loop: Loop) -> None:
        while True:
            try:
                for step in loop.body:
                    waiting = self.start(step)
                    if waiting is not None:
                        await waiting
            except Continue:
                pass
            except Break:
                return
            ended = getattr(self.program, loop.until)
            if callable(ended):
                ended = ended(self._io)
            if await ended if isinstance(ended, Awaitable) else ended:
                return
