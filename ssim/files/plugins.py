"""What can be plugged in, found by name and built from parameters: policies and trace sources.

A plug-in is a dataclass whose fields are its parameters; a field `class_` is the parameter `class`. A short name is
looked up among those that come with the toolkit; `module:Class` is imported, with the folder of the experiment file on
the path.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sim.base.errors import (
    DataError,
    SpecError,
    SsimError,
    did_you_mean,
    installed_folders,
    raised,
    toolkit_folders,
    user_frame,
)
from ssim.extras import missing
from ssim.files.model import known_keys
from ssim.packages import PACKAGES

_LINE = 60  # of an offending value, in a message of one line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong in a file or a set of parameters.

    Attributes:
        place: The path to it: keys and list indices.
        problem: What is wrong.
        value: The offending value as text, or "".
        hint: The way out, or "".
        at_key: Whether the key itself is wrong, not its value.
        cause: The error that it tells of, for a traceback; or None.
    """

    place: tuple[str | int, ...]
    problem: str
    value: str = ""
    hint: str = ""
    at_key: bool = False
    cause: BaseException | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, error: SsimError, *place: str | int) -> Issue:
        """Return an error as an issue at a place, without the location that the error names."""
        return cls(place, error.problem, error.value, error.hint, cause=error)

    def under(self, *prefix: str | int) -> Issue:
        """Return the issue as seen from further out."""
        return dataclasses.replace(self, place=(*prefix, *self.place))

    def __str__(self) -> str:
        return str(SsimError(".".join(map(str, self.place)), self.problem, self.value, self.hint)).removeprefix(": ")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place of a file where a plug-in is named.

    Attributes:
        place: The path to it; "*" stands for each entry of a list.
        noun: What messages call such a plug-in.
        names: What short names stand for.
        key: The key that names the class. Its parameters stand beside `kind`, and below `params` beside `use`.
        other_names: What to write in place of names that such plug-ins have elsewhere.
    """

    place: tuple[str, ...]
    noun: str
    names: Mapping[str, str]
    key: Literal["kind", "use"] = "kind"
    other_names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def build(self, value: Mapping[str, Any], folder: Path) -> tuple[Any, list[Issue]]:
        """Return the object that a file's section describes, or None and what is wrong with the section.

        Args:
            value: The section, its short form written out.
            folder: The folder of the file, where modules and data are looked for.
        """
        name = value.get(self.key)
        if not isinstance(name, str):
            if self.key == "use":
                return None, []  # the model tells
            wrong = ("must be a string", repr(name)) if self.key in value else ("is missing", "")
            return None, [Issue((self.key,), *wrong, f"such as {self.key}: {next(iter(self.names), 'module:Class')}")]
        try:
            owner = find_class(name, self.names, self.noun, folder)
        except SpecError as error:
            issue = Issue.of(error, self.key)
            if name in self.other_names:
                issue = dataclasses.replace(issue, hint=f"here it is {self.other_names[name]}")
            return None, [issue]
        if self.key == "use":
            params, prefix = value.get("params", {}), ["params"]
        else:
            params, prefix = {key: given for key, given in value.items() if key != self.key}, []
        built, issues = build(owner, params if isinstance(params, dict) else {})
        if built is not None and hasattr(built, "located"):
            try:
                built = built.located(folder)
            except SsimError as error:
                built, issues = None, [Issue((), str(error))]
        return built, [issue.under(*prefix) for issue in issues]


def sections(data: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the sections of a file's content at a place, each with its path; "*" stands for each entry of a list."""
    if not place:
        yield (), data
        return
    step, *inner = place
    children: Iterable[tuple[str | int, Any]] = ()
    if step == "*":
        children = enumerate(data) if isinstance(data, list) else ()
    elif isinstance(data, dict) and step in data:
        children = ((step, data[step]),)
    for key, child in children:
        yield from (((key, *path), value) for path, value in sections(child, tuple(inner)))


def find_class(name: str, short_names: Mapping[str, str], noun: str, folder: Path | None = None) -> type[Any]:
    """Return the class that a name stands for.

    Args:
        name: A short name, or `module:Class`.
        short_names: What short names stand for.
        noun: What messages call such a thing, for example `"policy"`.
        folder: Where modules are looked for first.

    Raises:
        SpecError: There is no such name, module or class, or it is not a dataclass.
    """
    if ":" not in name and name not in short_names:
        right = f"{did_you_mean(name, short_names)} (or module:Class for one of your own)"
        raise SpecError(noun, f"unknown {noun}", repr(name), right)
    module_name, _, class_name = short_names.get(name, name).partition(":")
    module = _import(module_name, noun, folder if name not in short_names else None)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        what = f"{module_name} has no class of this name"
        raise SpecError(noun, what, repr(class_name), did_you_mean(class_name, classes))
    if not dataclasses.is_dataclass(found):
        raise SpecError(
            noun,
            f"{class_name} is not a dataclass",
            repr(name),
            "a plug-in is a dataclass; its fields are its parameters",
        )
    if module_name == "__main__":  # other processes have another one, and a notebook's is not in a file
        hint = "write it to a module: results are stored under the hash of its code"
        raise SpecError(noun, "a plug-in can't be part of __main__", repr(name), hint)
    return found


def forget_modules() -> None:
    """Forget the modules of users that were imported, so that the next job imports them as they are then.

    A notebook needs this: between two runs a file may be edited, and another folder may have a module of the same name.
    """
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/").resolve()
        if any(file.is_relative_to(folder) and _is_own(file, folder) for folder in _FOLDERS):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if Path(entry) not in _FOLDERS]
    _FOLDERS.clear()
    importlib.invalidate_caches()


_FOLDERS: list[Path] = []
"""Folders that were put on the path to import modules of users."""


def _import(module_name: str, noun: str, folder: Path | None) -> ModuleType:
    if folder is not None and str(folder) not in sys.path:
        _FOLDERS.append(folder)
        sys.path.append(str(folder))  # last: a random.py beside an experiment must not stand for Python's own
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        lacking = missing(error.name or "") if isinstance(error, ModuleNotFoundError) else None
        if lacking is not None:
            what = f"{module_name!r} needs {lacking.location}, which is not installed"
            raise SpecError(noun, what, hint=lacking.hint) from error
        problem, place = raised(error)
        file = None if place or folder is None else _module_file(folder, module_name)
        raise SpecError(noun, f"importing {module_name!r} {problem}", place or (file.name if file else "")) from error
    mine = None if folder is None else _module_file(folder, module_name)
    if mine is not None and Path(module.__file__ or "").resolve() != mine.resolve():
        what = "another module of this name comes first"
        raise SpecError(noun, what, repr(module_name), f"rename {mine} ({module.__file__} was found)")
    return module


def _module_file(folder: Path, module_name: str) -> Path | None:
    """Return the file of a module below a folder, if there is one."""
    stem = folder.joinpath(*module_name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def own_sources(owners: Iterable[type[Any]], folder: Path) -> set[Path]:
    """Return the files that plug-in classes are made of: their own, those of their bases and all that these import.

    Those of the toolkit, of Python and of installed packages are left out. What is imported is read from the import
    statements, so that the answer does not depend on what else was loaded; it is looked for in the folder and beside
    the file that imports it.
    """
    bases = {base for owner in owners for base in owner.__mro__ if base.__module__.partition(".")[0] not in _NOT_OWN}
    waiting = [Path(inspect.getsourcefile(base) or "") for base in bases]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop().resolve()
        if path in found or not path.is_file() or not _is_own(path, folder):
            continue
        found.add(path)
        for name in _imported(path):
            for place in (folder, path.parent):
                parts = name.split(".")
                waiting += [file for n in range(len(parts)) if (file := _module_file(place, ".".join(parts[: n + 1])))]
    return found


_NOT_OWN = {"builtins", "abc", "typing", *PACKAGES}
"""Modules of which no class is looked at: those of Python and of the toolkit."""


def _is_own(path: Path, folder: Path) -> bool:
    """Return whether a file is neither the toolkit's, nor Python's, nor an installed package's."""
    if any(path.is_relative_to(place) for place in toolkit_folders()):
        return False
    return path.is_relative_to(folder) or not any(path.is_relative_to(place) for place in installed_folders())


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


def build(owner: type[Any], params: Mapping[str, object]) -> tuple[Any, list[Issue]]:
    """Return an object built from parameters as they come from YAML, or None and all that is wrong with them.

    Types are strict: a text is no number. Lists stand for tuples, whole numbers for floats.

    Args:
        owner: A dataclass; its fields are the parameters.
        params: Values by name.
    """
    fields = {parameter_of(field): field for field in dataclasses.fields(owner) if field.init}
    issues = [
        Issue((key,), f"{owner.__name__} has no such parameter", "", did_you_mean(key, fields), at_key=True)
        for key in params
        if key not in fields
    ]
    required = [name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING]
    issues += [Issue((), f"{owner.__name__} needs the parameter {name!r}") for name in required if name not in params]
    adapters = _adapters(cast("Any", owner))
    values: dict[str, object] = {}
    for key, raw in params.items():
        if key in fields:
            try:
                values[fields[key].name] = adapters[key].validate_json(json.dumps(raw, default=str), strict=True)
            except ValidationError as error:
                issues += [issue.under(key) for issue in issues_of(error, raw)]
    if issues:
        return None, issues
    try:
        return owner(**values), []
    except (SsimError, ValueError, TypeError) as error:
        if isinstance(error, (SpecError, DataError)):
            return None, [Issue.of(error, error.location.rpartition(".")[2])]
        problem = f"{owner.__name__}: {error}" if str(error) else f"{owner.__name__} {raised(error)[0]}"
        return None, [Issue((), problem, user_frame(error), cause=error)]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in's own constructor may raise anything
        problem, place = raised(error)
        return None, [Issue((), f"{owner.__name__} {problem}", place, cause=error)]


def parameter_of(field: dataclasses.Field[Any]) -> str:
    """Return the name of a parameter in a file; a field that would be a keyword of Python ends in an underscore."""
    return field.name.removesuffix("_")


@lru_cache(maxsize=64)
def _adapters(owner: type[Any]) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(owner, include_extras=True)
    return {parameter_of(field): TypeAdapter(hints[field.name]) for field in dataclasses.fields(owner)}


def issues_of(error: ValidationError, data: object, model: type[BaseModel] | None = None) -> list[Issue]:
    """Return the issues that pydantic found, one for each place; an unknown key comes with the known ones.

    Args:
        error: What pydantic found.
        data: What it looked at.
        model: The model of the data, if it is that of a whole file.
    """
    issues: dict[tuple[str | int, ...], Issue] = {}
    for found in error.errors(include_url=False):
        absent, cause = _ABSENT.get(found["type"]), found.get("ctx", {}).get("error")
        place = tuple(found["loc"]) if absent else _inside(data, tuple(found["loc"]))
        if isinstance(cause, SpecError):  # of a dataclass that checks itself
            place = (*place, cause.location.rpartition(".")[2])
            issues[place] = Issue.of(cause, *place)
        elif place in issues:  # the options of a union complain one by one
            problem = f"{issues[place].problem} or {_plain(found).removeprefix('must be ')}"
            issues[place] = dataclasses.replace(issues[place], problem=problem)
        elif absent == _UNKNOWN:
            known = [] if model is None else known_keys(model, place)
            hint = did_you_mean(str(place[-1]), known) if known else ""
            issues[place] = Issue(place, absent, "", hint, at_key=True)
        else:
            problem, value = (absent, "") if absent else (_plain(found), _short(found["input"]))
            issues[place] = Issue(place, problem, value)
    return list(issues.values())


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
    "dataclass_type": "must be a mapping, key: value",
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
