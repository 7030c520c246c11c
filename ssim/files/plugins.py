"""What can be plugged in, found by name and built from parameters: policies and trace sources.

A plug-in is a dataclass whose fields are its parameters. A short name is looked up among those that come with the
toolkit; `module:Class` is imported, with the folder of the experiment file on the path.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

import policies
import sim
from sim.base.errors import DataError, SpecError, SsimError, did_you_mean, raised

_LINE = 60  # of an offending value, in a message of one line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a file or a set of parameters.

    Attributes:
        place: The path to it: keys and list indices.
        what: What is wrong.
        value: The offending value as text, or "".
        right: What would be right, or "".
        at_key: Whether the key itself is wrong, not its value.
    """

    place: tuple[str | int, ...]
    what: str
    value: str = ""
    right: str = ""
    at_key: bool = False

    def under(self, *prefix: str | int) -> Fault:
        """Return the fault as seen from further out."""
        return dataclasses.replace(self, place=(*prefix, *self.place))

    def __str__(self) -> str:
        where = ".".join(map(str, self.place))
        return str(SsimError(where, self.what, self.value, self.right)) if where else self.what


def find_class(name: str, short_names: Mapping[str, str], noun: str, folder: Path | None = None) -> type[Any]:
    """Return the class that a name stands for.

    Args:
        name: A short name, or `module:Class`.
        short_names: What short names stand for.
        noun: What messages call such a thing, for example `"policy"`.
        folder: Where modules are looked for first.

    Raises:
        SpecError: There is no such name, module or class, or it is no dataclass.
    """
    if ":" not in name and name not in short_names:
        right = f"{did_you_mean(name, short_names)} (or module:Class for one of your own)"
        raise SpecError(noun, f"there is no such {noun}", repr(name), right)
    module_name, _, class_name = short_names.get(name, name).partition(":")
    module = _import(module_name, noun, folder if name not in short_names else None)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        what = f"{module_name} has no class of this name"
        raise SpecError(noun, what, repr(class_name), did_you_mean(class_name, classes))
    if not dataclasses.is_dataclass(found):
        raise SpecError(
            noun, f"{class_name} is no dataclass", repr(name), "a dataclass, whose fields are its parameters"
        )
    return found


def _import(module_name: str, noun: str, folder: Path | None) -> ModuleType:
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: a random.py beside an experiment must not stand for Python's own
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        problem, place = raised(error)
        what = f"importing {module_name!r} {problem}"
        raise SpecError(noun, what, place) from error
    mine = None if folder is None else _module_file(folder, module_name)
    if mine is not None and Path(module.__file__ or "").resolve() != mine.resolve():
        what = "another module of this name comes first"
        raise SpecError(noun, what, repr(module_name), f"rename {mine} ({module.__file__} was found)")
    return module


def _module_file(folder: Path, module_name: str) -> Path | None:
    """Return the file of a module below a folder, if there is one."""
    stem = folder.joinpath(*module_name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def own_sources(owner: type[Any], folder: Path) -> set[Path]:
    """Return the files that a plug-in's class is made of: its own, its bases' and all that they import.

    Those of the toolkit, of Python and of installed packages are left out. What is imported is read from the import
    statements, so that the answer does not depend on what else was loaded; it is looked for in the folder and beside
    the file that imports it.
    """
    waiting = [Path(inspect.getsourcefile(base) or "") for base in owner.__mro__ if base.__module__ != "builtins"]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop().resolve()
        if path in found or not path.is_file() or not (path.is_relative_to(folder) or _is_own(path)):
            continue
        found.add(path)
        for name in _imported(path):
            for place in (folder, path.parent):
                parts = name.split(".")
                waiting += [file for n in range(len(parts)) if (file := _module_file(place, ".".join(parts[: n + 1])))]
    return found


def _is_own(path: Path) -> bool:
    """Return whether a file is neither the toolkit's, nor Python's, nor an installed package's."""
    return not any(path.is_relative_to(place) for place in _others_places())


@lru_cache(maxsize=1)
def _others_places() -> tuple[Path, ...]:
    rooms = (Path(room.__file__ or "").resolve().parent for room in (policies, sim))
    installed = (Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return (*rooms, *installed)


def _imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports; `from a import b` may mean the module a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = f"{node.module}." if node.module else ""
            names |= {f"{start}{alias.name}" for alias in node.names}
    return names


def build(owner: type[Any], params: Mapping[str, object]) -> tuple[Any, list[Fault]]:
    """Return an object built from parameters as they come from YAML, or None and all that is wrong with them.

    Types are strict: a text is no number. Lists stand for tuples, whole numbers for floats.

    Args:
        owner: A dataclass; its fields are the parameters.
        params: Values by name.
    """
    fields = {field.name: field for field in dataclasses.fields(owner) if field.init}
    faults = [
        Fault((key,), f"{owner.__name__} has no such parameter", "", did_you_mean(key, fields), at_key=True)
        for key in params
        if key not in fields
    ]
    required = [name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING]
    faults += [Fault((), f"{owner.__name__} needs the parameter {name!r}") for name in required if name not in params]
    adapters = _adapters(cast("Any", owner))
    values: dict[str, object] = {}
    for key, raw in params.items():
        if key in fields:
            try:
                values[key] = adapters[key].validate_json(json.dumps(raw, default=str), strict=True)
            except ValidationError as error:
                faults += [fault.under(key) for fault in faults_of(error, raw)]
    if faults:
        return None, faults
    try:
        return owner(**values), []
    except (SsimError, ValueError, TypeError) as error:
        if isinstance(error, (SpecError, DataError)):
            return None, [Fault((error.where.rpartition(".")[2],), error.what, error.value, error.right)]
        return None, [Fault((), f"{owner.__name__}: {error}")]
    except Exception as error:  # noqa: BLE001 - a plug-in's own constructor may raise anything
        what, place = raised(error)
        return None, [Fault((), f"{owner.__name__} {what}", place)]


@lru_cache(maxsize=64)
def _adapters(owner: type[Any]) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(owner, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in dataclasses.fields(owner)}


def hinted(fault: Fault, file: type[BaseModel], below: Mapping[str, type[BaseModel]]) -> Fault:
    """Return a fault at an unknown key with the known ones of its place.

    Args:
        fault: Any; one that is at no key stays as it is.
        file: The model of the whole file.
        below: The models of what stands below its keys.
    """
    if not fault.at_key:
        return fault
    first, *inner = map(str, fault.place)
    model = below.get(first, file) if inner else file
    known = [field.alias or name for name, field in model.model_fields.items()]
    return dataclasses.replace(fault, right=did_you_mean(str(fault.place[-1]), known))


def faults_of(error: ValidationError, data: object) -> list[Fault]:
    """Return the faults that pydantic found, one for each place, in our words where they are plainer.

    Args:
        error: What pydantic found.
        data: What it looked at.
    """
    faults: dict[tuple[str | int, ...], Fault] = {}
    for found in error.errors(include_url=False):
        absent = _ABSENT.get(found["type"])
        place = tuple(found["loc"]) if absent else _inside(data, tuple(found["loc"]))
        if place in faults:  # the options of a union complain one by one
            what = f"{faults[place].what} or {_plain(found).removeprefix('must be ')}"
            faults[place] = dataclasses.replace(faults[place], what=what)
        else:
            what, value = (absent, "") if absent else (_plain(found), _short(found["input"]))
            faults[place] = Fault(place, what, value, at_key=absent == _UNKNOWN)
    return list(faults.values())


_UNKNOWN = "is not known here"
_ABSENT = {"missing": "is missing", "extra_forbidden": _UNKNOWN, "unexpected_keyword_argument": _UNKNOWN}
"""What pydantic says of keys that should be there or should not: of models, and of dataclasses within dataclasses."""


def _inside(data: object, place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the part of a place that is in the data: pydantic appends the name of the option of a union."""
    for depth, step in enumerate(place):
        match data:
            case dict() if step in data:
                data = data[step]
            case list() if isinstance(step, int) and step < len(data):
                data = data[step]
            case _:
                return place[:depth]
    return place


_WORDS = {
    "too_short": "is empty",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping, key: value",
    "model_type": "must be a mapping, key: value",
    "model_attributes_type": "must be a mapping, key: value",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' and '-'",
}
"""What pydantic says in words of its own, in those of somebody who writes YAML."""


def _plain(found: Any) -> str:
    message = _WORDS.get(found["type"], str(found["msg"])).removeprefix("Input ").removeprefix("Value error, ")
    return (
        message.replace("should be", "must be")
        .replace("valid number", "number")
        .replace("valid integer", "whole number")
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LINE else f"{text[: _LINE - 3]}..."
