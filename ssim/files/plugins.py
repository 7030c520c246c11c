"""What can be plugged in, found by name and built from parameters: policies and trace sources.

A plug-in is a dataclass whose fields are its parameters; a field `class_` is the parameter `class`. A short name is
looked up among those that come with the toolkit; `module:Class` is imported, with the folder of the experiment file on
the path, and so is `FILE.py:Class`.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError
from typing_extensions import get_protocol_members, is_protocol

from sim.base.errors import (
    DataError,
    SpecError,
    SsimError,
    did_you_mean,
    raised,
    user_frame,
)
from ssim.files.model import known_keys
from ssim.files.own_modules import as_module, import_module

_LINE = 60  # of an offending value, in a message of one line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

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
        protocol: The protocol, or the base class, of such plug-ins; None if something else checks them.
        key: The key that names the class. Its parameters stand beside `kind`, and below `params` beside `use`.
        other_names: What to write in place of names that such plug-ins have elsewhere.
    """

    place: tuple[str, ...]
    noun: str
    names: Mapping[str, str]
    protocol: type[Any] | None
    key: Literal["kind", "use"] = "kind"
    other_names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def built(self, value: Mapping[str, Any], folder: Path) -> Any:
        """Return the object that a section describes.

        Args:
            value: The section, its short form written out.
            folder: Where modules are looked for.

        Raises:
            SpecError: Its name is unknown, or something is wrong with its parameters; tells all of it.
        """
        found, issues = self.build(value, folder)
        if issues:
            raise SpecError(value[self.key], "; ".join(map(str, issues))) from issues[0].cause
        return found

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
            owner = find_class(name, self.names, self.noun, folder, self.protocol)
        except SpecError as error:
            issue = Issue.of(error, self.key)
            if name in self.other_names:
                issue = dataclasses.replace(issue, hint=f"use {self.other_names[name]}")
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


def find_class(
    name: str,
    short_names: Mapping[str, str],
    noun: str,
    folder: Path | None = None,
    protocol: type[Any] | None = None,
) -> type[Any]:
    """Return the class that a name stands for.

    Args:
        name: A short name, `module:Class` or `FILE.py:Class`.
        short_names: What short names stand for.
        noun: What messages call such a thing, for example `"policy"`.
        folder: Where modules are looked for first.
        protocol: What the class must have, or be derived from; None if that was checked, or something else checks it.

    Raises:
        SpecError: There is no such name, module or class, or it is not a dataclass, or not of the protocol.
    """
    found: type[Any] = find_object(name, short_names, noun, folder, "class", lambda value: isinstance(value, type))
    module_name, _, class_name = short_names.get(name, name).partition(":")
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
    if protocol is not None:
        _check_protocol(found, protocol, noun)
    return found


def find_object(
    name: str,
    short_names: Mapping[str, str],
    noun: str,
    folder: Path | None,
    sort: str,
    is_wanted: Callable[[Any], bool],
) -> Any:
    """Return what a name stands for, of a sort: a class, or a class or function.

    Args:
        name: A short name, `module:name` or `FILE.py:name`.
        short_names: What short names stand for.
        noun: What messages call such a thing.
        folder: Where modules are looked for first.
        sort: What messages call the sort.
        is_wanted: Whether something is of the sort.

    Raises:
        SpecError: There is no such name or module, or the module has nothing of this sort and name.
    """
    if ":" not in name and name not in short_names:
        right = f"{did_you_mean(name, short_names)} (or module:Class for one of your own)"
        raise SpecError(noun, f"unknown {noun}", repr(name), right)
    full = short_names.get(name, name)
    if folder is not None and name not in short_names:
        full, folder = as_module(full, folder)
    module_name, _, attribute = full.partition(":")
    module = import_module(module_name, noun, folder if name not in short_names else None)
    found = getattr(module, attribute, None)
    if not is_wanted(found):
        others = [key for key, value in vars(module).items() if is_wanted(value)]
        what = f"{module_name} has no {sort} of this name"
        raise SpecError(noun, what, repr(attribute), did_you_mean(attribute, others))
    return found


def _check_protocol(owner: type[Any], protocol: type[Any], noun: str) -> None:
    """Check that a class has the members of a protocol, or is derived from a base class.

    Raises:
        SpecError: It is not; names the file and the line of the class.
    """
    see = f"see {protocol.__module__}.{protocol.__qualname__}"
    if not is_protocol(protocol):
        if not issubclass(owner, protocol):
            raise SpecError(noun, f"{owner.__name__} is not derived from {protocol.__name__}", _place(owner), see)
        return
    has = {name for base in owner.__mro__ for name in (*vars(base), *vars(base).get("__annotations__", {}))}
    absent = [_signature(protocol, name) for name in sorted(get_protocol_members(protocol) - has)]
    if absent:
        raise SpecError(noun, f"{owner.__name__} has no {', no '.join(absent)}", _place(owner), see)


def _place(owner: type[Any]) -> str:
    """Return the file and the line of a class."""
    return f"{Path(inspect.getsourcefile(owner) or '').name}:{inspect.getsourcelines(owner)[1]}"


def _signature(protocol: type[Any], name: str) -> str:
    """Return a member of a protocol as messages name it: a method with its parameters."""
    member = vars(protocol).get(name)
    if not inspect.isfunction(member):
        return f"attribute {name}"
    parameters = [parameter for parameter in inspect.signature(member).parameters if parameter != "self"]
    return f"method {name}({', '.join(parameters)})"


def build(owner: type[Any], params: Mapping[str, object]) -> tuple[Any, list[Issue]]:
    """Return an object built from parameters as they come from YAML, or None and all that is wrong with them.

    Types are strict: a text is no number. Lists stand for tuples, whole numbers for floats.

    Args:
        owner: A dataclass; its fields are the parameters.
        params: Values by name.
    """
    fields = {parameter_of(field): field for field in dataclasses.fields(owner) if field.init}
    issues = [
        Issue((key,), f"unknown parameter of {owner.__name__}", "", did_you_mean(key, fields), at_key=True)
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


_UNKNOWN = "unknown key"
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
