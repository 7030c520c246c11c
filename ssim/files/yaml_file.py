"""YAML files with the position of everything in them, so that an issue can be told by line and column."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt
from ruamel.yaml.scalarstring import ScalarString

from sim.base.errors import SpecError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ssim.files.plugins import Issue


class FaultsError(SpecError):
    """All that is wrong with a file: one line for each issue.

    Attributes:
        issues: What is wrong with the file that names this one.
    """

    def __init__(self, where: str, lines: Sequence[str], issues: Sequence[Issue] = ()) -> None:
        super().__init__(where, "\n".join(lines))
        self.args = (where, tuple(lines))
        self.issues = tuple(issues)

    def __str__(self) -> str:
        return self.problem


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A YAML file as plain data, and where everything in it stands.

    Attributes:
        path: The file.
        data: Its content: dicts, lists, strings, numbers, booleans, None.
        marked: The same with positions, as the parser gave it.
        overridden: Dotted keys whose values come from `--set` instead.
    """

    path: Path
    data: Any
    marked: Any
    overridden: tuple[str, ...] = ()

    def line(self, issue: Issue) -> str:
        """Return one line for an issue: file, line and column, or `--set`; place and what is wrong."""
        dotted = ".".join(map(str, issue.place))
        if any(f"{dotted}.".startswith(f"{key}.") for key in self.overridden):
            return f"--set {issue}"
        line, column = self._position(issue.place, at_key=issue.at_key)
        return f"{self.path}:{line + 1}:{column + 1}: {issue}"

    def error(self, issues: Sequence[Issue]) -> FaultsError:
        """Return the error that tells all issues, in the order of the file."""
        ordered = sorted(issues, key=lambda issue: self._position(issue.place, at_key=issue.at_key))
        return FaultsError(str(self.path), list(dict.fromkeys(one_line(self.line(issue)) for issue in ordered)))

    def _position(self, place: tuple[str | int, ...], *, at_key: bool) -> tuple[int, int]:
        """Return line and column, from 0, of the innermost thing on the way to a place that stands in the file."""
        node, position = self.marked, (0, 0)
        for depth, step in enumerate(place):
            last = depth == len(place) - 1
            if isinstance(node, CommentedMap) and step in (node.lc.data or {}):
                position = node.lc.key(step) if (last and at_key) else node.lc.value(step)
                node = node[step]
            elif isinstance(node, CommentedSeq) and isinstance(step, int) and step in (node.lc.data or {}):
                position = node.lc.item(step)
                node = node[step]
            else:
                break
        return position


def read_yaml(path: Path) -> YamlFile:
    """Return a YAML file.

    Scalars are those of YAML 1.2: `1e-3` is a number, `on` and `12:30` are strings. A duplicate key is an error.

    Raises:
        SpecError: The file can't be read, or is not valid YAML; names line and column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(str(path), "can't be read", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise SpecError(str(path), "is not UTF-8", f"byte {error.start}") from error
    try:
        marked = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        mark = error.problem_mark
        key = (error.problem or "").split('"')[1]
        raise SpecError(f"{path}:{mark.line + 1}:{mark.column + 1}", "duplicate key", repr(key), "keep one") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(where, "is not valid YAML", str(error.problem)) from error
    except YAMLError as error:
        raise SpecError(str(path), "is not valid YAML", str(error).splitlines()[0]) from error
    return YamlFile(path, plain(marked), marked)


def parse_settings(settings: Iterable[str]) -> dict[str, object]:
    """Return the values of `--set NAME=VALUE` options, by name.

    Raises:
        SpecError: A setting does not have this form, or its value is not valid YAML.
    """
    found: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise SpecError("--set", "must be NAME=VALUE", repr(setting), "such as --set buckets=32")
        try:
            found[name] = plain(YAML(typ="rt").load(value))
        except YAMLError as error:
            raise SpecError("--set", f"the value of {name} is not valid YAML", repr(value)) from error
    return found


def as_yaml(data: Any) -> str:
    """Return plain data as YAML, in the order in which it is."""
    text, yaml = StringIO(), YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its stubs know None only
    yaml.dump(data, text)
    return text.getvalue()


def plain(node: Any) -> Any:
    """Return marked YAML as plain Python data."""
    if isinstance(node, CommentedMap):
        return {plain(key): plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [plain(item) for item in node]
    kinds = {ScalarBoolean: bool, ScalarFloat: float, ScalarInt: int, ScalarString: str}
    return next((made(node) for marked, made in kinds.items() if isinstance(node, marked)), node)
