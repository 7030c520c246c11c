"""Broken rules of a topology, each with its place, so that all of them can be reported together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sim.base.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Flaw(NamedTuple):
    """A broken rule.

    Attributes:
        place: The path to what breaks it, as in the YAML: keys and list indices.
        problem: The problem.
        value: The offending value as text, or "".
        hint: How to mend it, or "".
    """

    place: tuple[str | int, ...]
    problem: str
    value: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return str(SpecError(".".join(map(str, self.place)), self.problem, self.value, self.hint))


class TagError(SpecError):
    """A topology breaks its rules: a line for each.

    Attributes:
        flaws: The broken rules.
    """

    def __init__(self, location: str, flaws: Sequence[Flaw]) -> None:
        super().__init__(location, "\n".join(map(str, flaws)))
        self.args = (location, tuple(flaws))
        self.flaws = tuple(flaws)

    def __str__(self) -> str:
        return "\n".join(map(str, self.flaws))
