"""Runs the steps of a program."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from topology.copying import fields_of, set_fields
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
        io: What it sees of the world.
        on_safepoint: Called when a step of the program, or a turn of a loop of it, begins; None for no call.
    """

    __slots__ = ("_state", "io", "on_safepoint", "program")

    def __init__(self, program: Program, io: IO, state: WorkerState) -> None:
        self.program, self.io, self._state = program, io, state
        self.on_safepoint: Callable[[Interpreter, WorkerState, int], None] | None = None

    async def run(self, begin: int = 0) -> None:
        """Run the program.

        Args:
            begin: The index of its first step.
        """
        steps = self.program.steps
        body = steps.body if type(steps) is Steps else (steps,)
        for position, step in enumerate(body[begin:], begin):
            if isinstance(step, Loop):
                await self._loop(step, position)
                continue
            self._safepoint(position)
            waiting = self.start(step)
            if waiting is not None:
                await waiting

    def renew(self, fresh: Program) -> None:
        """Put the program back to its beginning, but for what survives an absence.

        Args:
            fresh: A program that has not run.
        """
        own = fields_of(self.program)
        kept = {name: own[name] for name in self.program.kept if name in own}
        set_fields(self.program, {**fields_of(fresh), **kept})
        self._safepoint(0)

    def _safepoint(self, position: int) -> None:
        if self.on_safepoint is not None:
            self.on_safepoint(self, self._state, position)

    def start(self, step: str | Steps) -> Awaitable[None] | None:
        """Start a step, or a sequence of steps; return what remains to be awaited, if anything."""
        if isinstance(step, Loop):
            return self._loop(step)
        if isinstance(step, Par):
            return self.io.together([self._sequence(Steps(part)) for part in step.body])
        if isinstance(step, Steps):
            return self._sequence(step)
        self._state.step = step
        method: Callable[[IO], Awaitable[None] | None] = getattr(self.program, step)
        return method(self.io)

    async def _sequence(self, steps: Steps) -> None:
        for step in steps.body:
            waiting = self.start(step)
            if waiting is not None:
                await waiting

    async def _loop(self, loop: Loop, position: int | None = None) -> None:
        while True:
            if position is not None:
                self._safepoint(position)
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
                ended = ended(self.io)
            if await ended if isinstance(ended, Awaitable) else ended:
                return
