"""The steps of a program as data: an immutable sequence of names, with loops, from which others are derived.

A topology is extended by deriving a role's steps (`before`, `after`, `replace`, `drop`), as Flame does by editing a
chain of tasklets; here the chain is a value, and an edit returns a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.base.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True, init=False)
class Steps:
    """Steps in sequence; a step is the name of a method, or a `Loop` or `Par` of steps.

    Attributes:
        body: The steps.

    Examples:
        >>> Steps("load", Loop("fetch", "train", until="done")).before("train", "check")
        Steps('load', Loop('fetch', 'check', 'train', until='done'))
    """

    body: tuple[str | Steps, ...]

    def __init__(self, *body: str | Steps) -> None:
        object.__setattr__(self, "body", body)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.body))})"

    def _with(self, body: tuple[str | Steps, ...]) -> Steps:
        return type(self)(*body)

    def names(self) -> Iterator[str]:
        """Yield the names of all steps, in order, those in loops included."""
        for step in self.body:
            if isinstance(step, str):
                yield step
            else:
                yield from step.names()

    def before(self, name: str, *new: str | Steps) -> Steps:
        """Return these steps with new ones before a step.

        Raises:
            SpecError: The step is unknown or ambiguous.
        """
        return self._edited(name, lambda old: (*new, old))

    def after(self, name: str, *new: str | Steps) -> Steps:
        """Return these steps with new ones after a step.

        Raises:
            SpecError: The step is unknown or ambiguous.
        """
        return self._edited(name, lambda old: (old, *new))

    def replace(self, name: str, *new: str | Steps) -> Steps:
        """Return these steps with new ones in place of a step.

        Raises:
            SpecError: The step is unknown or ambiguous.
        """
        return self._edited(name, lambda _: new)

    def drop(self, name: str) -> Steps:
        """Return these steps without a step.

        Raises:
            SpecError: The step is unknown or ambiguous, or the only one of a loop.
        """
        return self._edited(name, lambda _: ())

    def _edited(self, name: str, edit: Callable[[str], tuple[str | Steps, ...]]) -> Steps:
        count = list(self.names()).count(name)
        if count == 0:
            raise SpecError("steps", "unknown step", repr(name), did_you_mean(name, self.names()))
        if count > 1:
            raise SpecError("steps", "ambiguous step", repr(name), f"it occurs {count} times")
        return self._rebuilt(name, edit)

    def _rebuilt(self, name: str, edit: Callable[[str], tuple[str | Steps, ...]]) -> Steps:
        body: list[str | Steps] = []
        for step in self.body:
            if isinstance(step, Steps):
                body.append(step._rebuilt(name, edit) if name in step.names() else step)  # noqa: SLF001  (its own kind)
            else:
                body += edit(step) if step == name else (step,)
        return self._with(tuple(body))


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Loop(Steps):
    """Steps that are repeated until a condition holds, which is evaluated at the end of each round.

    Attributes:
        until: The name of a method or attribute of the program.

    Raises:
        SpecError: It has no steps.
    """

    until: str

    def __init__(self, *body: str | Steps, until: str) -> None:
        if not body:
            raise SpecError("Loop", "must not be empty", "", "pass at least one step")
        object.__setattr__(self, "body", body)
        object.__setattr__(self, "until", until)

    def __repr__(self) -> str:
        return f"Loop({', '.join(map(repr, self.body))}, until={self.until!r})"

    def _with(self, body: tuple[str | Steps, ...]) -> Steps:
        return Loop(*body, until=self.until)


class Par(Steps):
    """Steps that run concurrently; the next step begins when all have ended."""

    __slots__ = ()
