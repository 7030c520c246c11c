"""Parameters of plug-ins: frozen dataclasses whose fields declare their valid values.

A trace source or a policy is a frozen dataclass and its fields are its parameters. The types below carry their bounds
as annotations. `check_parameters` checks them when an object is created in Python; the loader of experiment files
checks the YAML against the same annotations, with line and column.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import types
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

import annotated_types as at

from sim.base.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

Positive = Annotated[float, at.Gt(0), at.Lt(math.inf)]
"""A finite number above zero."""

Milliseconds = Annotated[float, at.Ge(1e-6), at.Le(1e12)]
"""A length of time in milliseconds: a nanosecond to 32 years, so that it is a positive whole number of nanoseconds."""

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

_COMPARISONS: dict[type, tuple[Callable[[float, float], bool], str]] = {
    at.Gt: (operator.gt, "above"),
    at.Ge: (operator.ge, "at least"),
    at.Lt: (operator.lt, "below"),
    at.Le: (operator.le, "at most"),
}


class Parameters:
    """Base of frozen dataclasses whose fields carry bounds: each object is checked when it is created.

    A subclass with further checks has a `__post_init__` that begins with `super().__post_init__()`.
    """

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        rebind_super(cls)

    def __post_init__(self) -> None:
        check_parameters(self)


def rebind_super(cls: type[Any]) -> None:
    """Let `super()` work in a dataclass with slots.

    Such a dataclass is a second class, made from the attributes of the first; but `super()` in its methods goes on to
    mean the first one, of which its objects are no instances (CPython issue 90562, mended in Python 3.14).
    """
    for value in vars(cls).values():
        function = getattr(value, "fget", getattr(value, "__func__", value))
        code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
        for name, cell in zip(code.co_freevars, cells, strict=True) if code is not None and cells else ():
            with suppress(ValueError):  # a cell that is still empty
                old = cell.cell_contents
                twins = name == "__class__" and (old.__module__, old.__name__) == (cls.__module__, cls.__name__)
                if twins and old is not cls:
                    cell.cell_contents = cls


def is_number(value: object) -> bool:
    """Return whether a value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_parameters(instance: object) -> None:
    """Check each field of a dataclass against the bounds in its annotation; a list for a tuple becomes one, as in YAML.

    Raises:
        SpecError: A field has the wrong type or is out of bounds, with the class, the field and the value.
    """
    for name in _tuples(cast("Any", type(instance))):
        if isinstance(value := getattr(instance, name), list):
            object.__setattr__(instance, name, tuple(value))
    for name, (kind, bounds, optional) in _bounded_fields(cast("Any", type(instance))).items():
        value = getattr(instance, name)
        if value is None and optional:
            continue
        location = f"{type(instance).__name__}.{name}"
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
            raise SpecError(location, "is not a number", repr(value), f"must be {_describe(kind, bounds)}")
        if not all(_holds(value, bound) for bound in bounds):
            raise SpecError(location, "is out of range", repr(value), f"must be {_describe(kind, bounds)}")


@cache
def _bounded_fields(owner: type) -> dict[str, tuple[type, tuple[Any, ...], bool]]:
    """Return number type, bounds and whether None is valid, for fields such as `Positive` or `Positive | None`."""
    hints = get_type_hints(owner, include_extras=True)
    bounded = {}
    for field in dataclasses.fields(owner):
        hint = hints[field.name]
        options = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
        for option in options:
            if get_origin(option) is Annotated and get_args(option)[0] in {int, float}:
                kind, *bounds = get_args(option)
                bounded[field.name] = (kind, tuple(bounds), type(None) in options)
    return bounded


@cache
def _tuples(owner: type) -> tuple[str, ...]:
    """Return the names of the fields that are tuples."""
    hints = get_type_hints(owner) if dataclasses.is_dataclass(owner) else {}
    return tuple(name for name, hint in hints.items() if tuple in {hint, get_origin(hint)})


def _holds(value: float, bound: Any) -> bool:
    compare, _ = _COMPARISONS[type(bound)]
    return compare(value, dataclasses.astuple(bound)[0])


def _describe(kind: type, bounds: tuple[Any, ...]) -> str:
    limits = [f"{_COMPARISONS[type(b)][1]} {limit}" for b in bounds if (limit := dataclasses.astuple(b)[0]) != math.inf]
    return ("a whole number " if kind is int else "a finite number ") + " and ".join(limits)
