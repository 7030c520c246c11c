"""From a file of any kind to its job: everything is checked before anything runs, and all issues are told at once."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sim.base.errors import SpecError, did_you_mean
from ssim.files.plugins import Issue, issues_of
from ssim.files.schemas import check_command
from ssim.files.settings import put, put_settings
from ssim.files.yaml_file import FaultsError, read_yaml
from ssim.jobs.job import KINDS, Job, Point, kind_of, plugged_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ssim.files.yaml_file import YamlFile
    from ssim.jobs.job import Kind

_NOT_SWEPT = {"schema", "name", "seed", "repeats", "sweep"}


def read_job(path: Path, overrides: Sequence[str] = (), schema: str | None = None) -> Job:
    """Return the job that a file asks for.

    Args:
        path: The YAML file.
        overrides: `key=value` for any dotted key of the file, as `--set` gives them.
        schema: The schema that the file must have; any if None.

    Raises:
        SpecError: Something in the file or the overrides is wrong; tells all of it, by line and column.
    """
    file = read_yaml(path)
    found = schema_of(file, schema)
    kind = kind_of(found)
    data = kind.written_out(file.data)
    keys = put_settings(data, overrides, kind.model)
    file = replace(file, overridden=tuple(keys))
    return job_of(found, kind.written_out(data), path.parent.resolve(), tuple(overrides), file)


def schema_of(file: YamlFile, wanted: str | None = None) -> str:
    """Return the schema of a file.

    Raises:
        SpecError: It has none that is known, or not the one that is wanted; says which command takes the file.
    """
    said = file.data.get("schema") if isinstance(file.data, dict) else None
    if isinstance(said, str) and (said == wanted if wanted else said in KINDS):
        return said
    check_command(file.path, said)
    known = [wanted] if wanted else list(KINDS)
    if not isinstance(file.data, dict):
        raise file.error([Issue((), "must be a mapping, key: value", "", f"such as schema: {known[0]}")])
    if said is None:
        raise file.error([Issue(("schema",), "is missing", "", f"schema: {' or '.join(known)}")])
    raise file.error([Issue(("schema",), "unknown schema", repr(said), did_you_mean(str(said), known))])


def job_of(
    schema: str,
    content: Any,
    folder: Path,
    overrides: tuple[str, ...] = (),
    file: YamlFile | None = None,
) -> Job:
    """Return the job that the content of a file asks for.

    Args:
        schema: The schema of the content.
        content: The content, short forms written out.
        folder: Where modules and data are looked for.
        overrides: `key=value` as they were given, for the record.
        file: The file that it comes from, to tell issues by line and column.

    Raises:
        SpecError: Something is wrong; tells all of it.
    """
    kind = kind_of(schema)
    points, issues = _points(kind, schema, content, folder)
    lines: list[str] = []
    for point in points:
        found, elsewhere = _checked(point, file)
        issues += [_as_swept(issue, point.swept, content) for issue in found]
        lines += elsewhere
    if issues or lines:
        raise _told(issues, lines, file) from next((one.cause for one in issues if one.cause), None)
    spec = points[0].spec
    seeds = range(spec.seed, spec.seed + spec.repeats)
    runs = tuple(run for point in points for seed in seeds for run in kind.runs(point, seed))
    return Job(schema, spec.name, runs, tuple(content.get("sweep") or ()), overrides, spec, content)


def _told(issues: list[Issue], lines: list[str], file: YamlFile | None) -> SpecError:
    if file is None:
        return FaultsError("", [*(str(issue) for issue in issues), *lines])
    own = file.error(issues).args[1] if issues else ()
    return FaultsError(str(file.path), list(dict.fromkeys([*own, *lines])))


def _checked(point: Point, file: YamlFile | None) -> tuple[list[Issue], Sequence[str]]:
    """Return all that is wrong with a point, and lines on other files that it names.

    If nothing is wrong, the point has its spec and its parts from now on.
    """
    plugs, issues = plugged_in(point)
    try:
        _ = point.spec
    except ValidationError as error:
        issues = [*issues_of(error, point.content, point.kind.model), *issues]
    try:
        if issues:
            return [*issues, *point.kind.check_others(point, plugs, file)], ()
        parts, issues = point.kind.assemble(point, plugs, file)
    except FaultsError as error:
        return [*issues, *error.issues], error.args[1]
    if not issues:
        point.__dict__["parts"] = parts  # as the cached property would
    return issues, ()


def _points(kind: Kind, schema: str, content: Any, folder: Path) -> tuple[list[Point], list[Issue]]:
    """Return the points of the sweep, and what is wrong with the sweep."""
    sweep = content.get("sweep") if isinstance(content, dict) else None
    if not isinstance(sweep, dict) or not all(isinstance(values, list) and values for values in sweep.values()):
        return [Point(schema, content, folder)], []  # the model says what is wrong with it, if anything
    points, issues = [], []
    for key, listed in sweep.items():
        twice = [i for i, value in enumerate(listed) if value in listed[:i]]
        issues += [Issue(("sweep", key, i), "duplicate value", repr(listed[i]), "list each value once") for i in twice]
        if key.partition(".")[0] in _NOT_SWEPT | kind.not_swept:
            issues.append(Issue(("sweep", key), "can't be swept", "", "sweep what decides a result", at_key=True))
    for combination in itertools.product(*sweep.values()):
        values = dict(zip(sweep, combination, strict=True))
        changed = copy.deepcopy({name: value for name, value in content.items() if name != "sweep"})
        for key, value in values.items():
            issue = put(changed, key, copy.deepcopy(value), kind.model)
            if issue:
                issues.append(Issue(("sweep", key), issue.problem, "", issue.hint, at_key=True))
        points.append(Point(schema, kind.written_out(changed), folder, values))
    return points, list(dict.fromkeys(issues))


def _as_swept(issue: Issue, values: dict[str, Any], content: Any) -> Issue:
    """Return an issue at a swept key, or below it, as an issue of the value in the sweep."""
    for key, value in values.items():
        depth = key.count(".") + 1
        if ".".join(map(str, issue.place[:depth])) == key:
            inner = issue.place[depth:]
            at = () if issue.at_key and not inner else (content["sweep"][key].index(value), *inner)
            return replace(issue, place=("sweep", key, *at))
    return issue
