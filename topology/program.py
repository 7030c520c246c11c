"""A role program: one class, whose steps are data and whose methods implement the steps."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sim.base.errors import did_you_mean, user_frame
from sim.base.parameters import rebind_super
from topology.flaws import Flaw, TagError
from topology.steps import Loop, Steps

if TYPE_CHECKING:
    from collections.abc import Iterator


class Continue(Exception):  # noqa: N818  (no error: it is what `continue` is in a loop)
    """Raised by a step: the rest of the innermost loop's round is skipped."""


class Break(Exception):  # noqa: N818  (the same)
    """Raised by a step: the innermost loop ends."""


@dataclass(eq=False)
class Program:
    """What the workers of a role do. Derive from it; a step `fetch` is a method `async def fetch(self, io)`.

    A program with parameters is a dataclass: its fields are the role's `config`. It uses clocks, random numbers and
    messages only through `io`, so that it runs on all engines unchanged. Received values are shared with their sender:
    make a new value instead of changing one in place.

    Attributes:
        steps: The steps, in order.
        function_tags: The names by which its steps refer to channels, as in `io["fetch"]` (Flame's funcTags); the
            channels' `verbs` in a topology file assign them.
        receives_first: Those of its function tags on which it must receive before its first send.
        kept: The names of its attributes that survive an absence: a worker that comes back begins anew but for these.
        rests: Whether nothing of a round (`current_round`) is under way when it ends, so that in real time a run can be
            stored then.
    """

    steps: ClassVar[Steps] = Steps()
    function_tags: ClassVar[tuple[str, ...]] = ()
    receives_first: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[tuple[str, ...]] = ()
    rests: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        rebind_super(cls)

    @property
    def current_round(self) -> int | None:
        """The round, from 1, to which the messages that it sends now belong; None for a program without rounds.

        Of a program that waits for work before it sends, 0 before the first.
        """
        return None

    def result(self) -> Any:
        """Return the worker's entry in `RunReport.results`."""
        return None


def check_program(program: type[Program]) -> None:
    """Check that a program keeps the contract of `Program`, as far as this can be seen without a topology.

    Each step and each loop condition must be defined, function tags must be declared where steps use them, and
    parameters must have valid defaults.

    Args:
        program: The class.

    Raises:
        TagError: The contract is broken; lists all violations, by class and step.

    Examples:
        >>> class Trainer(Program):
        ...     steps = Steps("fetch", "upload")
        ...     function_tags = ("fetch",)
        ...     async def fetch(self, io):
        ...         self.model = await io["fetch"].recv()
        >>> check_program(Trainer)
        Traceback (most recent call last):
        topology.flaws.TagError: Trainer.steps.upload: no such method; define `async def upload(self, io)`
    """
    given: Any = program
    if not (isinstance(given, type) and issubclass(given, Program)):
        raise TagError("program", [Flaw((getattr(given, "__name__", repr(given)),), "not a subclass of Program")])
    place = (program.__name__,)
    flaws = list(program_flaws(program, place))
    if not flaws:
        flaws = [*_undeclared(program, place), *_bad_defaults(program, place)]
    if flaws:
        raise TagError("program", flaws)


def program_flaws(program: type[Program], place: tuple[str | int, ...]) -> Iterator[Flaw]:
    """Yield the flaws of a program's declarations.

    Args:
        program: The class.
        place: Where a topology file names it, or its name.
    """
    for name in ("function_tags", "receives_first"):
        value = getattr(program, name)
        if not isinstance(value, tuple) or not all(isinstance(tag, str) for tag in value):
            yield Flaw((*place, name), "must be a tuple of strings", repr(value), 'such as ("fetch",)')
            return
    steps: Any = program.steps
    if not isinstance(steps, Steps):
        yield Flaw((*place, "steps"), "must be Steps", repr(steps), 'such as Steps("fetch", "train")')
        return
    yield from _step_flaws(program, place)
    for tag in program.receives_first:
        if tag not in program.function_tags:
            hint = did_you_mean(tag, program.function_tags)
            yield Flaw((*place, "receives_first"), "unknown function tag", repr(tag), hint)


def _step_flaws(program: type[Program], place: tuple[str | int, ...]) -> Iterator[Flaw]:
    for name in dict.fromkeys(program.steps.names()):
        where = (*place, "steps", name)
        method = getattr(program, name, None)
        if not callable(method):
            yield Flaw(where, "no such method", "", f"define `async def {name}(self, io)`")
        elif not _takes_io(method):
            yield Flaw(where, "must take io", "", f"define `async def {name}(self, io)`")
    for name in dict.fromkeys(_conditions(program.steps)):
        if not hasattr(program, name):
            hint = f"define `def {name}(self, io)` or a class attribute"
            yield Flaw((*place, "steps", "until", name), "no such method or attribute", "", hint)


def _takes_io(method: Any) -> bool:
    try:
        inspect.signature(method).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # a method without a Python signature
        return True
    return True


def _conditions(steps: Steps) -> Iterator[str]:
    if isinstance(steps, Loop):
        yield steps.until
    for step in steps.body:
        if isinstance(step, Steps):
            yield from _conditions(step)


def _undeclared(program: type[Program], place: tuple[str | int, ...]) -> Iterator[Flaw]:
    """Yield the steps that refer to a function tag which the program does not declare."""
    for name in dict.fromkeys(program.steps.names()):
        for tag in _used_tags(getattr(program, name)):
            if tag not in program.function_tags:
                hint = did_you_mean(tag, program.function_tags) if program.function_tags else "add it to function_tags"
                yield Flaw((*place, "steps", name), "unknown function tag", repr(tag), hint)


def _used_tags(method: Any) -> Iterator[str]:
    """Yield the constant names in `io["name"]`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError):  # defined without a source file
        return
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id="io"), slice=ast.Constant(value=str(tag))):
                yield tag
            case _:
                pass


def _bad_defaults(program: type[Program], place: tuple[str | int, ...]) -> Iterator[Flaw]:
    """Yield what is raised when the program is made with its default parameters, if it has a default for each."""
    parameters = inspect.signature(program).parameters.values()
    if any(parameter.default is parameter.empty for parameter in parameters):
        return
    try:
        program()
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a constructor raises)
        found = "; ".join(filter(None, (f"{type(error).__name__}: {error}", user_frame(error))))
        yield Flaw(place, "the default parameters are invalid", found)
