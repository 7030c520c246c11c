"""Flame's own files: schema, data specification and model specification, with errors in their words and lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from sim.base.errors import SpecError
from ssim.files.flame_model import apply_model, guess_programs
from ssim.files.plugins import Issue
from ssim.files.topology_file import Topology, topology_of
from ssim.files.yaml_file import FaultsError, YamlFile
from topology.flame import from_flame
from topology.flaws import TagError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SECTIONS = {"at": "groupAssociation", "replicas": "replica", "verbs": "funcTags", "data": "isDataConsumer"}
_WORDS = {
    "no group for a channel": "groupAssociation lacks a channel",
    "not a channel of this role": "groupAssociation names a channel that the role is not on",
    "unknown group of the channel": "not in groupBy.value of the channel",
    "'at'": "groupAssociation",
    "add some under datasets.": "add some to datasetGroups, role ",
    "set data: true for the role": "set isDataConsumer of the role",
    "add a dataset of that group": "add a dataset of that group to the dataSpec",
}
"""Words of topology files, and those of Flame's."""


@dataclass(frozen=True, slots=True)
class FlameFiles:
    """What Flame's files were converted to.

    Attributes:
        topology: The topology.
        data: The content of its file.
        training: The content of the file of a federated training; None without a model specification.
        left_out: Fields without a counterpart.
        made_up: What Flame's files leave open, filled in.
    """

    topology: Topology
    data: dict[str, Any]
    training: dict[str, Any] | None
    left_out: tuple[str, ...]
    made_up: tuple[str, ...]


def read_flame(schema: Path, data_spec: Path | None = None, model_spec: Path | None = None) -> FlameFiles:
    """Return what Flame's files describe.

    Args:
        schema: The schema (JSON).
        data_spec: The data specification; without one, each group of a role with data gets one dataset.
        model_spec: The model specification: hyperparameters, optimizer and selector.

    Raises:
        SpecError: A file is invalid; lists all issues, by line and column and in Flame's words.
    """
    file, given = _json_file(schema), None if data_spec is None else _json_file(data_spec)
    model = None if model_spec is None else _json_file(model_spec)
    flame = _FlameFile(file.path, file.data, file.marked, data_spec=given)
    try:
        made = from_flame(file.data, None if given is None else given.data)
    except TagError as error:
        raise flame.error([Issue(*flaw) for flaw in error.flaws]) from error
    guessed = guess_programs(made.data)
    training, left_out = None, made.left_out
    if model is not None:
        if not isinstance(model.data, dict):
            raise model.error([Issue((), "must be an object with hyperparameters, optimizer, selector")])
        training, more, filled = apply_model(made.data, model.data)
        left_out, guessed = (*left_out, *more), [*guessed, *filled]
    topology = topology_of(replace(flame, data=made.data))
    return FlameFiles(topology, made.data, training, left_out, (*made.made_up, *guessed))


def _json_file(path: Path) -> YamlFile:
    """Return a JSON file with the positions of everything in it.

    Raises:
        SpecError: It can't be read, or is not valid JSON; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except OSError as error:
        raise SpecError(str(path), "can't be read", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise SpecError(str(path), "is not UTF-8", f"byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}:{error.lineno}:{error.colno}", "is not valid JSON", error.msg) from error
    return YamlFile(path, data, YAML(typ="rt").load(text.replace("\t", " ")))  # JSON is YAML, but for tabs


@dataclass(frozen=True, slots=True)
class _FlameFile(YamlFile):
    """A schema, and the data specification beside it; issues of the converted topology are told in their places."""

    data_spec: YamlFile | None = None

    def error(self, issues: Sequence[Issue]) -> FaultsError:
        """Return the error that tells all issues, each in Flame's words and in the file where it stands."""
        mine, others = [], []
        for issue in map(_worded, issues):
            if issue.place[:1] == ("dataSpec",) and self.data_spec is not None:
                others.append(replace(issue, place=issue.place[1:]))
            elif issue.place[:1] == ("datasets",) and self.data_spec is not None:
                others.append(replace(issue, place=_data_place(self.data_spec.data, issue.place)))
            else:
                mine.append(replace(issue, place=_place(self.marked, issue.place)))
        own = YamlFile(self.path, self.data, self.marked)
        lines = list(own.error(mine).args[1]) if mine else []
        if others and self.data_spec is not None:
            lines += self.data_spec.error(others).args[1]
        return FaultsError(str(self.path), lines)


def _worded(issue: Issue) -> Issue:
    problem, hint = issue.problem, issue.hint
    for ours, theirs in _WORDS.items():
        problem, hint = problem.replace(ours, theirs), hint.replace(ours, theirs)
    return replace(issue, problem=problem, hint=hint)


def _place(schema: Any, place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return a place of a topology file as it is in a schema: roles and channels are lists there."""
    if len(place) < 2 or not isinstance(place[1], str):  # noqa: PLR2004 - section and name
        return place
    section, name, *rest = place
    items = schema.get(section) if isinstance(schema, dict) else None
    names = [item.get("name") for item in items or () if isinstance(item, dict)]
    number: str | int = names.index(name) if name in names else str(name)
    inner = [_SECTIONS.get(str(step), step) if depth == 0 else step for depth, step in enumerate(rest)]
    if inner[:1] == ["groups"]:
        inner[:1] = ["groupBy", "value"]
    return (section, number, *inner)


def _data_place(spec: Any, place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return a place among datasets as it is in a data specification."""
    _, *rest = place
    roles = [entry.get("role") if isinstance(entry, dict) else None for entry in spec]
    if rest and rest[0] in roles:
        return (roles.index(rest[0]), "datasetGroups", *rest[1:])
    return tuple(rest)
