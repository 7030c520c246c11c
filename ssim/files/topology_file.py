"""Topology files: the types of `topology`, one to one; all that is wrong is reported by line and column."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from sim.base.errors import SpecError, did_you_mean
from ssim.files.client_table import read_clients
from ssim.files.model import Closed
from ssim.files.plugins import Issue, build, find_class, issues_of
from ssim.files.schemas import check_schema
from ssim.files.yaml_file import YamlFile, read_yaml
from topology.binding import bind
from topology.deployment import Dataset, InjectedFault, Machine
from topology.expansion import expand
from topology.flaws import TagError
from topology.program import Program
from topology.tag import Channel, Link, Role, Select, Tag, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from topology.plan import Plan

SCHEMA = "topology/1"
MAX_DATASETS = 10_000_000
"""A larger count of datasets in one group is assumed to be a typo."""

OWNERS = {"roles": Role, "channels": Channel, "computes": Machine, "datasets": Dataset, "faults": InjectedFault}
"""What the entries of each section are."""
KEYS: dict[str, tuple[str, ...]] = {
    "roles": ("name",),
    "channels": ("name",),
    "computes": ("id",),
    "datasets": ("role", "group"),
    "faults": (),
}
"""The fields of an entry that are keys of its section instead."""


def _name(text: str) -> str:
    if not text or "/" in text:
        raise ValueError("must be a non-empty name without '/'")
    return text


Name = Annotated[str, AfterValidator(_name)]


class TopologyModel(Closed):
    """A topology: roles and the channels between them, and a deployment of datasets, machines and faults."""

    schema_: Literal["topology/1"] = Field(alias="schema")
    """The kind of file."""
    name: str = ""
    """The name of the topology; by default that of the file."""
    roles: dict[Name, Role]
    """Roles by name: workers that run the same program."""
    channels: dict[Name, Channel] = Field(default_factory=dict)
    """Channels by name: pairs of roles whose workers can send to each other."""
    datasets: dict[str, dict[str, tuple[Dataset, ...]]] = Field(default_factory=dict)
    """Datasets by role and group: a number, a list of ids or datasets, a `table`, or a `count` with properties."""
    computes: dict[Name, Machine] = Field(default_factory=dict)
    """Machines by name; `default` exists without an entry."""
    faults: tuple[InjectedFault, ...] = ()
    """Faults to inject, one entry for each affected worker."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The content of a topology file.

    Attributes:
        name: Its name.
        plan: The TAG and its workers.
        faults: Faults to inject.
    """

    name: str
    plan: Plan
    faults: tuple[InjectedFault, ...] = ()

    @property
    def tag(self) -> Tag:
        """Roles and channels."""
        return self.plan.tag


def read_topology(path: Path) -> Topology:
    """Return the topology that a YAML file describes.

    Raises:
        SpecError: The file is invalid; lists all issues, by line and column.
    """
    check_schema(path, SCHEMA)
    return topology_of(read_yaml(path))


def topology_of(file: YamlFile) -> Topology:
    """Return the topology that the content of a file describes.

    Raises:
        SpecError: The content is invalid; lists all issues, by line and column.
    """
    if not isinstance(file.data, dict):
        raise file.error([Issue((), "must be a mapping, key: value", "", f"schema: {SCHEMA}, roles, channels")])
    issues: list[Issue] = []
    data, presence = _with_tables(file.data, file.path.parent, issues)
    if issues:
        raise file.error(issues)
    content, counts = _written_out(data, issues)
    try:
        model = TopologyModel.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        issues += [_located(issue, counts) for issue in issues_of(error, content)]
        raise file.error(issues) from error
    if issues:
        raise file.error(issues)
    try:
        tag = Tag(tuple(model.roles.values()), tuple(model.channels.values()))
        plan = expand(tag, _datasets(model, counts), model.computes.values())
    except TagError as error:
        raise file.error([Issue(*flaw) for flaw in error.flaws]) from error
    for number, fault in enumerate(model.faults):
        try:
            plan.worker(fault.worker)
        except SpecError as error:
            issues.append(Issue(("faults", number, "worker"), "unknown worker", error.value, error.hint))
    faults = list(model.faults)
    if presence:
        ids = {worker.dataset.id: worker.id for worker in plan.workers if worker.dataset is not None}
        faults += [InjectedFault(ids[id_], **fault) for id_, fault in presence.items()]
        twice = {fault.worker for fault in model.faults} & {ids[id_] for id_ in presence}
        issues += [Issue(("faults",), "the table has faults of it, too", repr(worker)) for worker in sorted(twice)]
    if issues:
        raise file.error(issues)
    return Topology(model.name or file.path.stem, plan, tuple(faults))


def programs_of(
    path: Path, topology: Topology, file: YamlFile | None = None, folders: Mapping[str, Path] | None = None
) -> dict[str, type[Program]]:
    """Return the classes of the programs that a topology file names, by role and `role/variant`, if they fit it.

    Args:
        path: The file; modules of one's own are looked up in its folder.
        topology: Its content.
        file: Its content as read, if it differs from the file.
        folders: Where modules are looked up instead, by role, and by `role/variant`.

    Raises:
        SpecError: A role names no program or an unknown one, its `config` is not what the program takes, or the
            programs do not fit the TAG (`topology.binding`); lists all issues, by line and column.
    """
    file = read_yaml(path) if file is None else file
    issues: list[Issue] = []
    programs: dict[str, type[Program]] = {}
    uses, told = topology.tag.programs, set[tuple[str, ...]]()
    for use in uses:
        before = len(issues)
        if not use.program:
            issues.append(Issue(use.place, "no program", "", "program: module:Class"))
            told.add(use.place)
            continue
        folder = (folders or {}).get(use.key, path.parent)
        try:
            programs[use.key] = find_class(use.program, {}, "program", folder.resolve(), Program)
        except SpecError as error:
            issues.append(Issue.of(error, *use.place, "program"))
        else:
            _, wrong = build(programs[use.key], use.config)
            issues += [issue.under(*use.place, "config") for issue in wrong]
        if len(issues) > before:
            told.add(use.place)
    try:
        bind(topology.tag, programs)
    except TagError as error:
        places = {use.place for use in uses}
        for flaw in error.flaws:  # but not of programs that are wrong, or whose config is
            of = max((place for place in places if flaw.place[: len(place)] == place), key=len, default=())
            issues += [Issue(*flaw)] if of not in told else []
    if issues:
        raise file.error(issues)
    return programs


def tables_of(data: Any) -> Iterator[tuple[str, str, str]]:
    """Yield role, group and path of each table of clients that a topology names."""
    for role, groups in _items(data.get("datasets") if isinstance(data, dict) else None):
        for group, body in _items(groups):
            if isinstance(body, dict) and isinstance(body.get("table"), str):
                yield str(role), str(group), body["table"]


def _with_tables(data: dict[Any, Any], folder: Path, issues: list[Issue]) -> tuple[dict[Any, Any], _Presence]:
    """Return a file's content with the clients of tables as datasets and machines, and when they are there."""
    faults = _Presence()
    for role, group, name in tables_of(data):
        place = ("datasets", role, group)
        more = sorted(set(data["datasets"][role][group]) - {"table"})
        table = read_clients(folder / name)
        issues += [Issue((*place, key), "not used with table", "", "a column of the table") for key in more]
        issues += [
            replace(issue, place=(*place, "table"), problem=f"{name}, {issue.problem}") for issue in table.issues
        ]
        computes = data.get("computes") or {}
        if twice := sorted(set(computes) & set(table.machines)):
            issues.append(Issue(("computes", twice[0]), "the table has such a machine, too", name, "rename one"))
        groups = {**data["datasets"][role], group: table.datasets}
        data = {**data, "datasets": {**data["datasets"], role: groups}}
        if table.machines:
            data["computes"] = {**computes, **table.machines}
        faults |= table.faults
    return data, faults


_Presence = dict[str, dict[str, Any]]
_Counts = dict[tuple[str, str], int]


def _written_out(data: dict[Any, Any], issues: list[Issue]) -> tuple[dict[Any, Any], _Counts]:
    """Return a file's content without short forms, and the counts of datasets by role and group.

    Keys of sections become fields of their entries. Of datasets that are counted the first stands for all.
    """
    content: dict[Any, Any] = {key: value for key, value in data.items() if value is not None or key == "roles"}
    for section in ("roles", "channels", "computes"):
        key = KEYS[section][0]
        for name, body in _items(data.get(section)):
            entry = _entry({} if body is None else body, {key: name}, (section, name), issues)
            content[section] = {**content[section], name: entry}
    for name, channel in _items(content.get("channels")):
        select = channel.get("select") if isinstance(channel, dict) else None
        full = {role: {"use": use} if isinstance(use, str) else use for role, use in _items(select)}
        if full:
            content["channels"][name] = {**channel, "select": full}
    counts = _Counts()
    for role, groups in _items(data.get("datasets")):
        written = {group: _group(body, (str(role), str(group)), counts, issues) for group, body in _items(groups)}
        content["datasets"] = {**content["datasets"], role: written or groups}
    return content, counts


def _group(body: Any, where: tuple[str, str], counts: _Counts, issues: list[Issue]) -> Any:
    """Return the datasets of a group as a list of mappings."""
    role, group = where
    place, keys = ("datasets", role, group), {"role": role, "group": group}
    if isinstance(body, list):
        entries = [{"id": entry} if isinstance(entry, str) else entry for entry in body]
        return [_entry(entry, keys, (*place, number), issues) for number, entry in enumerate(entries)]
    common = {"count": body} if isinstance(body, int) and not isinstance(body, bool) else body
    if not isinstance(common, dict):
        return body
    count = common.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_DATASETS:
        hint = f"from 1 to {MAX_DATASETS}"
        issues.append(Issue((*place, "count"), "must be a number of datasets", repr(count), hint))
        count = 1
    counts[where] = count
    keys["id"] = f"{role}-{group}-{0:0{len(str(count - 1))}}"
    return [_entry({key: value for key, value in common.items() if key != "count"}, keys, place, issues)]


def _items(section: Any) -> Iterator[tuple[Any, Any]]:
    yield from section.items() if isinstance(section, dict) else ()


def _entry(body: Any, keys: dict[str, Any], place: tuple[str | int, ...], issues: list[Issue]) -> Any:
    """Return an entry with the keys of its section as fields."""
    if not isinstance(body, dict):
        return body
    given = [key for key in keys if key in body]
    issues += [Issue((*place, key), "already given", repr(body[key]), "remove it", at_key=True) for key in given]
    return {**body, **keys}


def _located(issue: Issue, counts: _Counts) -> Issue:
    """Return an issue with the place that it has in the file, and with a hint if its key is unknown."""
    place: tuple[str | int, ...] = issue.place
    section = str(next(iter(place), ""))
    if issue.at_key:
        known = {"schema", "name", *OWNERS}
        if len(place) > 2:  # noqa: PLR2004 - section, name, key
            owner = {"link": Link, "select": Select, "variants": Variant}.get(str(place[2]), OWNERS[section])
            known = {field.name for field in fields(owner)}.difference(KEYS[section])
        issue = replace(issue, hint=did_you_mean(str(issue.place[-1]), known))
    if place == ("schema",):
        issue = replace(issue, hint=f"schema: {SCHEMA}")
    if section == "datasets" and len(place) == 3:  # noqa: PLR2004 - section, role, group
        issue = replace(issue, hint="a number of datasets, a list, or a mapping with count or table")
    if section == "datasets" and place[1:3] in counts:
        issue = replace(issue, place=place[:3] + place[4:])
    return issue


def _datasets(model: TopologyModel, counts: _Counts) -> Iterator[Dataset]:
    for role, groups in model.datasets.items():
        for group, datasets in groups.items():
            yield from datasets
            count, first = counts.get((role, group), 1), datasets[0] if datasets else None
            width = len(str(count - 1))
            if first is None:
                continue
            for number in range(1, count):
                yield Dataset(f"{role}-{group}-{number:0{width}}", role, group, first.size, first.compute, first.ref)
