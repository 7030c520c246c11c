"""Federated trainings: what a file is made of, and what its runs share."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated import aggregation, algorithms, assignment, compression, partition
from federated.aggregation import AggregationRule
from federated.algorithms import Algorithm
from federated.assignment import MaxNet, SubnetAssignment
from federated.compression import Compression
from federated.job import check_aggregation, check_privacy
from federated.partition import Partition, divides_classes
from federated.privacy import Privacy
from federated.vectorized import check_vectorized
from sim.base.errors import SpecError, SsimError
from ssim.files.data_sources import DATA
from ssim.files.families import FAMILY
from ssim.files.plugins import Issue, Slot, build
from ssim.files.shipped import shipped
from ssim.files.topology_file import programs_of, tables_of, topology_of
from ssim.files.yaml_file import FaultsError, YamlFile, read_yaml
from ssim.jobs.federated.own_data import own_sources
from ssim.jobs.federated.parts import FederatedParts
from ssim.jobs.federated.run import FederatedRun
from ssim.jobs.federated.spec import FederatedSpec
from ssim.jobs.federated.unused import unused_keys, useless_keys
from ssim.jobs.job import Kind
from ssim.jobs.training.kind import unknown_subnets
from ssim.jobs.training.objective import objective_of
from ssim.jobs.training.parts import is_regression
from supernet.data.source import located

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ssim.files.topology_file import Topology
    from ssim.jobs.job import Plugs, Point
    from supernet.data.source import Source
    from topology.program import Program


@dataclass(frozen=True, slots=True)
class _ClassSlot(Slot):
    """A place whose class is not named: there is one."""

    owner: type[Any] = object

    def build(self, value: Mapping[str, Any], folder: Path) -> tuple[Any, list[Issue]]:
        """Return the object that parameters describe, or None and what is wrong with them."""
        del folder
        return build(self.owner, value)


@dataclass(frozen=True, slots=True)
class _Merged(YamlFile):
    """A topology file with what another file changes in it; an issue is told where it stands."""

    other: YamlFile = field(kw_only=True)

    def line(self, issue: Issue) -> str:
        """Return one line for an issue, in the file that says more about its place."""
        changed = self.other.data.get("topology")
        depth = _depth(changed, issue.place)
        if depth and depth >= _depth(self.marked, issue.place):
            return self.other.line(issue.under("topology"))
        return YamlFile.line(self, issue)


def _is_given(data: Any, place: tuple[str | int, ...]) -> bool:
    """Return whether data has something at a place."""
    return _depth(data, place) == len(place)


def _depth(data: Any, place: tuple[str | int, ...]) -> int:
    """Return how far a place leads into data."""
    for depth, step in enumerate(place):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return depth
    return len(place)


@dataclass(slots=True)
class _Found:
    """A topology of a point, as far as it could be made.

    Attributes:
        file: The file, with what is changed of it.
        lines: What is wrong with it.
        topology: Its content; None if that is wrong.
        owners: The class of the program of each role; None if one is wrong.
        own: The data sources of clients with data of their own.
    """

    file: _Merged
    lines: list[str] = field(default_factory=list)
    topology: Topology | None = None
    owners: dict[str, type[Program]] | None = None
    own: dict[str, Source] = field(default_factory=dict)


def _topology(point: Point, plugs: Plugs, file: YamlFile | None) -> tuple[_Found | None, list[Issue]]:
    """Return the topology of a point with all that is wrong with it, or why its file is not found."""
    given = point.content.get("topology")
    if not isinstance(given, dict) or not isinstance(given.get("use"), str):
        return None, []  # the model tells
    try:
        path = _topology_path(given["use"], point.folder)
    except SsimError as error:
        return None, [Issue(("topology", "use"), str(error))]
    if not path.is_file():
        hint = "a topology file, relative to this one, or the name of a shipped one"
        return None, [Issue(("topology", "use"), "file not found", str(path), hint)]
    changed = _beside({key: value for key, value in given.items() if key != "use" and value is not None}, point.folder)
    base = read_yaml(path)
    description = merged(base.data if isinstance(base.data, dict) else {}, changed)
    here = file or YamlFile(point.folder / str(point.content.get("name")), point.content, point.content)
    found = _Found(_Merged(path, description, base.marked, other=replace(here, data={"topology": changed})))
    found.topology = _told(found, lambda: topology_of(found.file))
    if found.topology is None and description.get("faults"):
        with suppress(FaultsError):  # faults that are wrong hide nothing else
            found.topology = topology_of(replace(found.file, data={**description, "faults": []}))
    topology = found.topology
    if topology is not None:
        here_too = {
            use.key: point.folder for use in topology.tag.programs if _is_given(changed, (*use.place, "program"))
        }
        found.owners = _told(found, lambda: programs_of(path, topology, found.file, here_too))
        unused = unused_keys(topology, description, plugs.get(("partition",)), found.owners)
        if plugs.get(("data",)) is not None:
            split, is_here = plugs.get(("partition",)), point.content.get("engine") != "ray"
            found.own, wrong = own_sources(topology, description, plugs["data",], split, point.folder, is_here=is_here)
            unused += wrong
        found.lines += [found.file.line(issue) for issue in unused]
    return found, []


def _beside(changed: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the changes of a topology with its tables of clients looked up in a folder."""
    for role, group, name in tables_of(changed):
        groups = {**changed["datasets"][role], group: {"table": located(folder, name)}}
        changed = {**changed, "datasets": {**changed["datasets"], role: groups}}
    return changed


def _told(found: _Found, make: Callable[[], Any]) -> Any:
    """Return what is made; None after noting what is wrong."""
    try:
        return make()
    except FaultsError as error:
        found.lines += error.args[1]
    return None


def _check_topology(point: Point, plugs: Plugs, file: YamlFile | None) -> list[Issue]:
    """Return why the topology file is not found.

    Raises:
        FaultsError: Something is wrong in it, or in what is changed of it.
    """
    found, issues = _topology(point, plugs, file)
    if found is not None and found.lines:
        raise FaultsError(str(found.file.path), found.lines)
    return issues


def assemble(point: Point, plugs: Plugs, file: YamlFile | None) -> tuple[Any, list[Issue]]:
    """Return what the runs of a point share, and what does not fit although each part is right.

    Raises:
        FaultsError: Something is wrong in the topology file, or in what is changed of it.
    """
    names = ("data", "partition", "family", "algorithm", "subnets", "maxnet", "privacy", "compression", "aggregation")
    built: list[Any] = [plugs.get((name,)) for name in names]
    source, split, family, algorithm, subnets, maxnet, privacy, compression, rule = built
    loss, metric, issues = objective_of(point.spec, source, point.folder)
    if is_regression(source) and divides_classes(split):
        hint = "iid, quantity or natural, or datasets with a ref each"
        issues.append(Issue(("partition",), "divides classes, and labels are numbers", type(split).__name__, hint))
    issues += _issue("privacy", check_privacy, algorithm, privacy, compression)
    issues += _issue("aggregation", check_aggregation, rule, algorithm, privacy, maxnet)
    if point.spec.vectorized:
        is_simulated, is_personal = point.spec.engine == "sim", bool(point.spec.personal)
        issues += _issue("vectorized", check_vectorized, point.spec.loss, is_simulated, is_personal)
    issues += useless_keys(subnets, maxnet)
    issues += unknown_subnets(family.space, point.spec.calibration.subnets)
    found, wrong = _topology(point, plugs, file)
    if found is None:
        return None, [*issues, *wrong]
    if found.lines or found.topology is None or found.owners is None:
        raise FaultsError(str(found.file.path), found.lines, issues)
    parts = FederatedParts(found.topology, found.file.data, found.owners, *built)
    return replace(parts, own=found.own, loss=loss, metric=metric), issues


def _issue(place: str, check: Callable[..., None], *args: Any) -> list[Issue]:
    """Return what a check raises."""
    try:
        check(*args)
    except SpecError as error:
        return [Issue.of(error, place)]
    return []


def _topology_path(use: str, folder: Path) -> Path:
    path = Path(located(folder, use))
    found = None if path.exists() else shipped("topologies", use)
    return path if found is None else found


def merged(base: Any, changed: Any) -> Any:
    """Return plain data with changes put in: mappings key by key, all else as a whole; what is null is taken out.

    Examples:
        >>> merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3, "c": None}, "d": [2, 3]})
        {'a': {'b': 3}, 'd': [2, 3]}
    """
    if not (isinstance(base, dict) and isinstance(changed, dict)):
        return changed
    full = {key: merged(base.get(key), value) for key, value in changed.items() if value is not None}
    kept = {key: full.get(key, value) for key, value in base.items() if key in full or key not in changed}
    return {**kept, **{key: value for key, value in full.items() if key not in base}}


KIND = Kind(
    model=FederatedSpec,
    slots=(
        DATA,
        Slot(("partition",), "partition", partition.SHORT_NAMES, Partition),
        FAMILY,
        Slot(("algorithm",), "algorithm", algorithms.SHORT_NAMES, Algorithm, other_names=algorithms.OTHER_NAMES),
        Slot(("subnets",), "subnet assignment", assignment.SHORT_NAMES, SubnetAssignment),
        Slot(("compression",), "compression", compression.SHORT_NAMES, Compression),
        Slot(
            ("aggregation",),
            "aggregation rule",
            aggregation.SHORT_NAMES,
            AggregationRule,
            other_names=aggregation.OTHER_NAMES,
        ),
        _ClassSlot(("maxnet",), "maxnet", {}, None, owner=MaxNet),
        _ClassSlot(("privacy",), "privacy", {}, None, owner=Privacy),
    ),
    assemble=assemble,
    runs=lambda point, seed: (FederatedRun(point, seed),),
    check_others=_check_topology,
    short={"topology": "use"},
    filled_in={"partition": "iid", "algorithm": "fedavg", "subnets": "largest", "evaluation": {}, "calibration": {}},
    not_swept=frozenset({"calibration"}),
)
