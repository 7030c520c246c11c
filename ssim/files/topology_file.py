"""Topology files: the types of `topology`, one to one, with line and column of everything that is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sim.base.errors import SpecError, did_you_mean
from ssim.files.plugins import Issue, build, find_class
from ssim.files.schemas import check_schema
from ssim.files.yaml_file import YamlFile, read_yaml
from topology.binding import bind
from topology.checks import TagError
from topology.expansion import expand
from topology.parties import Compute, Dataset
from topology.parties import Fault as Befalling
from topology.tag import Channel, Role, Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from topology.plan import Plan
    from topology.program import Program

_Thing = TypeVar("_Thing")

SCHEMA = "topology/1"
_KEYS = ("schema", "name", "roles", "channels", "datasets", "computes", "faults")
_MOST = 10_000_000
"""More datasets in one group than this are a typing error."""


@dataclass(frozen=True, slots=True)
class Topology:
    """What a topology file describes.

    Attributes:
        name: Its name.
        plan: The TAG and its workers.
        faults: What befalls workers, for engines in virtual time and rehearsals in real time.
    """

    name: str
    plan: Plan
    faults: tuple[Befalling, ...] = ()

    @property
    def tag(self) -> Tag:
        """Roles and channels."""
        return self.plan.tag


def read_topology(path: Path) -> Topology:
    """Return the topology that a file describes.

    Args:
        path: The YAML file.

    Raises:
        SpecError: Something in the file is wrong; tells all of it, by line and column.
    """
    check_schema(path, SCHEMA)
    return topology_of(read_yaml(path))


def topology_of(file: YamlFile) -> Topology:
    """Return the topology that the content of a file describes.

    Raises:
        SpecError: Something in it is wrong; tells all of it, by line and column.
    """
    data = _mapping(file)
    faults = [
        Issue((key,), "is not known here", "", did_you_mean(str(key), _KEYS), at_key=True)
        for key in data
        if key not in _KEYS
    ]
    if data.get("schema") != SCHEMA:
        faults.append(Issue(("schema",), "is not the schema", repr(data.get("schema")), f"schema: {SCHEMA}"))
    if not isinstance(data.get("name", ""), str):
        faults.append(Issue(("name",), "must be a text", repr(data["name"])))
    roles = _named(data, "roles", Role, faults)
    channels = _named(data, "channels", Channel, faults, _full_channel)
    computes = _named(data, "computes", Compute, faults, key="id")
    datasets = list(_datasets(data, faults))
    befalling = _befalling(data, faults)
    if faults:
        raise file.error(faults)
    try:
        plan = expand(Tag(tuple(roles), tuple(channels)), datasets, computes)
    except TagError as error:
        raise file.error([Issue(*flaw) for flaw in error.flaws]) from error
    for number, one in enumerate(befalling):
        try:
            plan.worker(one.worker)
        except SpecError as error:
            faults.append(Issue(("faults", number, "worker"), "there is no such worker", error.value, error.right))
    if faults:
        raise file.error(faults)
    return Topology(data.get("name", file.path.stem), plan, tuple(befalling))


def programs_of(path: Path, found: Topology, file: YamlFile | None = None) -> dict[str, type[Program]]:
    """Return the classes of the programs that a topology file names, when they fit it.

    Args:
        path: The file; modules of one's own are looked for in its folder.
        found: What it describes.
        file: Its content, if this is not as it stands there.

    Raises:
        SpecError: A role names no program or one that is not there, its `config` is not what the program takes, or the
            programs do not fit the TAG (`topology.binding`); tells all of it, by line and column.
    """
    file = read_yaml(path) if file is None else file
    faults: list[Issue] = []
    programs: dict[str, type[Program]] = {}
    for role in found.tag.roles:
        if not role.program:
            faults.append(Issue(("roles", role.name), "names no program", "", "program: module:Class"))
            continue
        try:
            programs[role.name] = find_class(role.program, {}, "program", path.parent.resolve())
        except SpecError as error:
            faults.append(Issue(("roles", role.name, "program"), error.what, error.value, error.right))
        else:
            _, wrong = build(programs[role.name], role.config)
            faults += [fault.under("roles", role.name, "config") for fault in wrong]
    if not faults:
        try:
            bind(found.tag, programs)
        except TagError as error:
            faults = [Issue(*flaw) for flaw in error.flaws]
    if faults:
        raise file.error(faults)
    return programs


def _mapping(file: YamlFile) -> dict[Any, Any]:
    if not isinstance(file.data, dict):
        raise file.error([Issue((), "must be a mapping, key: value", "", f"schema: {SCHEMA}, roles, channels")])
    return file.data


def _named(
    data: dict[Any, Any],
    section: str,
    owner: type[_Thing],
    faults: list[Issue],
    full: Callable[[dict[Any, Any]], dict[Any, Any]] = dict,
    key: str = "name",
) -> list[_Thing]:
    """Return the things of a section, whose keys are their names; append what is wrong to the faults."""
    given = data.get(section) or {}
    if not isinstance(given, dict):
        faults.append(Issue((section,), "must be a mapping, name: ...", type(given).__name__))
        return []
    found: list[_Thing] = []
    for name, written in given.items():
        body = {} if written is None else written
        if not isinstance(name, str) or not name or "/" in name:
            faults.append(Issue((section, name), "is no name", repr(name), "a text without '/'", at_key=True))
        elif not isinstance(body, dict):
            faults.append(Issue((section, name), "must be a mapping, key: value", repr(body)))
        elif key in body:
            faults.append(Issue((section, name, key), "stands already as the key", repr(body[key]), at_key=True))
        else:
            made, wrong = build(owner, {**full(body), key: name})
            faults += [fault.under(section, name) for fault in wrong]
            found += [made] if made is not None else []
    return found


def _full_channel(body: dict[Any, Any]) -> dict[Any, Any]:
    """Return a channel with its short forms written out: `select: {router: random}` is `{router: {use: random}}`."""
    full = dict(body)
    if isinstance(full.get("select"), dict):
        full["select"] = {
            role: {"use": each} if isinstance(each, str) else each for role, each in full["select"].items()
        }
    return full


def _datasets(data: dict[Any, Any], faults: list[Issue]) -> Iterator[Dataset]:
    """Yield datasets from `role: group: ...`, where ... is how many, or a list of ids or of datasets, or a mapping.

    A mapping has `count` and what all of them have in common.
    """
    given = data.get("datasets") or {}
    if not isinstance(given, dict):
        faults.append(Issue(("datasets",), "must be a mapping, role: {group: ...}", type(given).__name__))
        return
    for role, groups in given.items():
        if not isinstance(groups, dict):
            what = "must be a mapping from groups to datasets"
            faults.append(Issue(("datasets", role), what, repr(groups), f"{role}: {{default: 10}}"))
            continue
        for group, what in groups.items():
            yield from _group(str(role), str(group), what, faults)


def _group(role: str, group: str, given: object, faults: list[Issue]) -> Iterator[Dataset]:
    place = ("datasets", role, group)
    match given:
        case bool():
            faults.append(Issue(place, "is neither a number nor a list", repr(given), "how many, or a list of ids"))
        case int():
            yield from _counted(role, group, {"count": given}, faults)
        case dict():
            yield from _counted(role, group, given, faults)
        case list():
            for number, each in enumerate(given):
                body = each if isinstance(each, dict) else {"id": each}
                yield from _one(role, group, body, (*place, number), faults)
        case _:
            faults.append(Issue(place, "is neither a number nor a list", repr(given), "how many, or a list of ids"))


def _counted(role: str, group: str, given: dict[Any, Any], faults: list[Issue]) -> Iterator[Dataset]:
    place = ("datasets", role, group)
    count = given.get("count")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST:
        faults.append(Issue((*place, "count"), "is no number of datasets", repr(count), f"from 1 to {_MOST}"))
        return
    if "id" in given:
        faults.append(Issue((*place, "id"), "goes with a list, not with a count", repr(given["id"]), "", at_key=True))
        return
    common = {key: value for key, value in given.items() if key != "count"}
    width = len(str(count - 1))
    found = list(_one(role, group, {**common, "id": f"{role}-{group}-{0:0{width}}"}, place, faults))
    for first in found:  # one is checked, and the others are like it
        yield first
        for number in range(1, count):
            id_ = f"{role}-{group}-{number:0{width}}"
            yield Dataset(id_, role, group, first.size, first.compute, first.ref)


def _one(
    role: str, group: str, body: dict[Any, Any], place: tuple[str | int, ...], faults: list[Issue]
) -> Iterator[Dataset]:
    what = "stands already as a key further out"
    faults += [Issue((*place, key), what, repr(body[key]), at_key=True) for key in ("role", "group") if key in body]
    made, wrong = build(Dataset, {**body, "role": role, "group": group})
    faults += [fault.under(*place) for fault in wrong]
    if made is not None:
        yield made


def _befalling(data: dict[Any, Any], faults: list[Issue]) -> list[Befalling]:
    given = data.get("faults") or []
    if not isinstance(given, list):
        faults.append(Issue(("faults",), "must be a list", type(given).__name__))
        return []
    found: list[Befalling] = []
    for number, body in enumerate(given):
        if not isinstance(body, dict):
            faults.append(Issue(("faults", number), "must be a mapping, key: value", repr(body)))
            continue
        made, wrong = build(Befalling, body)
        faults += [fault.under("faults", number) for fault in wrong]
        found += [made] if made is not None else []
    return found
