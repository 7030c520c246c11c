"""Factories: classes and functions of users that return networks or data sets, found by their module and name."""

from __future__ import annotations

import inspect
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


def check_factory(factory: Callable[..., Any], options: Mapping[str, Any], reserved: Collection[str]) -> None:
    """Check that a factory can be found by its name, and takes the options.

    Args:
        factory: A class or function.
        options: Its arguments by name.
        reserved: Names that its parameters can't have, since a file says something else by them.

    Raises:
        SpecError: It can't be found, or does not take them.
    """
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", "")
    where = f"{module}:{name}" if module else repr(factory)
    hint = "a function or class at the top level of a module"
    if module in {None, "__main__"} or not (inspect.isclass(factory) or inspect.isroutine(factory)):
        raise SpecError(where, "can't be found by its name", "", hint)
    try:
        found = attrgetter(name)(import_module(str(module)))
    except (AttributeError, ImportError):
        found = None
    if found is not factory:
        raise SpecError(where, "can't be found by its name", "", hint)
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # written in C
        return
    taken = [key for key in reserved if key in parameters]
    if taken:
        raise SpecError(where, "reserved parameter", repr(taken[0]), "another name: files need it for themselves")
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for key in options:
        if key not in parameters and not takes_any:
            raise SpecError(where, "unknown parameter", repr(key), did_you_mean(key, parameters))
    for key, one in parameters.items():
        if one.default is one.empty and one.kind not in {one.VAR_KEYWORD, one.VAR_POSITIONAL} and key not in options:
            raise SpecError(where, "needs the parameter", repr(key), f"{key}: ... beside `kind`, or a default")


def frozen_options(options: Any) -> tuple[tuple[str, Any], ...]:
    """Return arguments by name, a mapping or pairs, as pairs of a name and a plain value.

    Raises:
        SpecError: A value is not plain.
    """
    return tuple((name, _frozen(value, name)) for name, value in dict(options).items())


def _frozen(value: Any, where: str) -> Any:
    """Return a plain value with tuples in place of lists.

    Raises:
        SpecError: It is not plain.
    """
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(part, where) for part in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SpecError(where, "not a plain value", type(value).__name__, "a number, a string, or a list of these")
