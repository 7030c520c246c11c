"""Parameters of what can be plugged in: frozen dataclasses whose fields say what values they take.

A trace source or a policy is a frozen dataclass and its fields are its parameters. The types below carry their bounds
as annotations; `check_parameters` holds the fields to them when an object is made in Python, and the loader of
experiment files holds the same annotations against the YAML, with line and column.
"""

from __future__ import annotations

import dataclasses
import math
import types
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

import annotated_types as at

from sim.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

Positive = Annotated[float, at.Gt(0), at.Lt(math.inf)]
"""A finite number above zero."""

NonNegative = Annotated[float, at.Ge(0), at.Lt(math.inf)]
"""A finite number, zero or more."""

PositiveInt = Annotated[int, at.Ge(1)]
"""A whole number, one or more."""

NonNegativeInt = Annotated[int, at.Ge(0)]
"""A whole number, zero or more."""

Share = Annotated[float, at.Gt(0), at.Le(1)]
"""A share of a whole: above zero, at most one."""

Percent = Annotated[float, at.Gt(0), at.Le(100)]
"""A percentage: above zero, at most a hundred."""

_SAYS: dict[type, str] = {at.Gt: "above", at.Ge: "at least", at.Lt: "below", at.Le: "at most"}


def check_parameters(plug: Any) -> None:
    """Hold each field of a dataclass to the bounds in its annotation.

    Raises:
        SpecError: A field has another type or lies outside its bounds; names the class, the field and the value.
    """
    for name, (kind, bounds) in _bounded_fields(type(plug)).items():
        value = getattr(plug, name)
        if value is None:
            continue
        where = f"{type(plug).__name__}.{name}"
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
            raise SpecError(where, "is not a number", repr(value), f"must be {_describe(kind, bounds)}")
        if not all(_holds(value, bound) for bound in bounds):
            raise SpecError(where, "is out of range", repr(value), f"must be {_describe(kind, bounds)}")


@cache
def _bounded_fields(owner: type) -> dict[str, tuple[type, tuple[Any, ...]]]:
    hints = get_type_hints(owner, include_extras=True)
    names = [field.name for field in dataclasses.fields(owner)]
    return {name: found for name in names for found in _bounds(hints[name])}


def _bounds(hint: Any) -> Iterator[tuple[type, tuple[Any, ...]]]:
    """Yield the number type and the bounds of `Positive`, and of `Positive | None`."""
    if get_origin(hint) in {Union, types.UnionType}:
        for option in get_args(hint):
            yield from _bounds(option)
    elif get_origin(hint) is Annotated:
        kind, *bounds = get_args(hint)
        if kind in {int, float}:
            yield kind, tuple(bounds)


def _holds(value: float, bound: Any) -> bool:
    match bound:
        case at.Gt(gt):
            return bool(value > gt)
        case at.Ge(ge):
            return bool(value >= ge)
        case at.Lt(lt):
            return bool(value < lt)
        case at.Le(le):
            return bool(value <= le)
        case _:
            return True


def _describe(kind: type, bounds: tuple[Any, ...]) -> str:
    limits = [f"{_SAYS[type(b)]} {dataclasses.astuple(b)[0]}" for b in bounds if dataclasses.astuple(b)[0] != math.inf]
    return ("a whole number " if kind is int else "a finite number ") + " and ".join(limits)
