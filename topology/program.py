"""A role program: one class, whose steps are data and whose methods say what each step does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from topology.checks import Flaw
from topology.steps import Loop, Par, Steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topology.io import IO


class Continue(Exception):  # noqa: N818  (it is no error: it is what `continue` is in a loop)
    """Raised by a step: the rest of the innermost loop's round is left out."""


class Break(Exception):  # noqa: N818  (the same)
    """Raised by a step: the innermost loop ends."""


@dataclass(eq=False)
class Program:
    """What the workers of a role do. Derive from it; a step `fetch` is a method `async def fetch(self, io)`.

    A program with parameters is a dataclass: its fields are the role's `config`. It never looks at a clock, draws at
    random or speaks with anybody except through `io`, so that it runs on all engines unchanged. What is received is
    shared with who sent it: make a new value instead of changing one in place.

    Attributes:
        steps: What it does, in order.
        verbs: The names by which its steps ask for ports; the TAG says which channel each of them is.
        awaits: Those of its verbs over which it must hear from a peer before it says anything at all.
    """

    steps: ClassVar[Steps] = Steps()
    verbs: ClassVar[tuple[str, ...]] = ()
    awaits: ClassVar[tuple[str, ...]] = ()

    def result(self) -> Any:
        """Return what the report of a run is to hold of this worker."""
        return None


def program_flaws(owner: type[Program], place: tuple[str | int, ...]) -> Iterator[Flaw]:
    """Yield what is wrong with a program by itself.

    Args:
        owner: The program's class.
        place: Where it is named.
    """
    for name in owner.steps.names():
        if not callable(getattr(owner, name, None)):
            yield Flaw(place, f"{owner.__name__} has no method for a step", repr(name), f"async def {name}(self, io)")
    for name in _conditions(owner.steps):
        if not hasattr(owner, name):
            what = f"{owner.__name__} has nothing that says when a loop ends"
            yield Flaw(place, what, repr(name), f"def {name}(self, io), or a class attribute")
    for verb in owner.awaits:
        if verb not in owner.verbs:
            yield Flaw(
                place, f"{owner.__name__} awaits a verb that it does not have", repr(verb), f"one of {owner.verbs}"
            )


def _conditions(steps: Steps) -> Iterator[str]:
    if isinstance(steps, Loop):
        yield steps.until
    for step in steps.body:
        if isinstance(step, Steps):
            yield from _conditions(step)


def perform(step: str | Steps, program: Program, io: IO) -> Awaitable[None] | None:
    """Begin a step of a program, or all of its steps; return what is to be awaited, if anything is."""
    if isinstance(step, Loop):
        return _repeat(step, program, io)
    if isinstance(step, Par):
        return io.together([_in_turn(Steps(each), program, io) for each in step.body])
    if isinstance(step, Steps):
        return _in_turn(step, program, io)
    io.step = step
    method: Callable[[IO], Awaitable[None] | None] = getattr(program, step)
    return method(io)


async def _in_turn(steps: Steps, program: Program, io: IO) -> None:
    for step in steps.body:
        waiting = perform(step, program, io)
        if waiting is not None:
            await waiting


async def _repeat(loop: Loop, program: Program, io: IO) -> None:
    while True:
        try:
            for step in loop.body:
                waiting = perform(step, program, io)
                if waiting is not None:
                    await waiting
        except Continue:
            pass
        except Break:
            return
        ended = getattr(program, loop.until)
        if callable(ended):
            ended = ended(io)
        if await ended if isinstance(ended, Awaitable) else ended:
            return
