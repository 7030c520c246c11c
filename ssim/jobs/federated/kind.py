"""Federated trainings: what a file is made of, and what its runs share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated import aggregation, algorithms, assignment, compression, partition
from federated.aggregation import AggregationRule
from federated.algorithms import Algorithm
from federated.assignment import MaxNet, SubnetAssignment
from federated.compression import Compression
from federated.job import check_aggregation, check_privacy
from federated.partition import Partition
from federated.privacy import Privacy
from sim.base.errors import SpecError, SsimError
from ssim.files.plugins import Issue, Slot, build
from ssim.files.shipped import shipped
from ssim.files.topology_file import programs_of, topology_of
from ssim.files.yaml_file import YamlFile, read_yaml
from ssim.jobs.federated.run import FederatedParts, FederatedRun
from ssim.jobs.federated.spec import FederatedSpec
from ssim.jobs.job import Kind
from ssim.jobs.training.kind import DATA, FAMILY, unknown_subnets
from supernet.data.source import located

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ssim.files.topology_file import Topology
    from ssim.jobs.job import Plugs, Point
    from topology.deployment import Dataset


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


def _depth(data: Any, place: tuple[str | int, ...]) -> int:
    """Return how far a place leads into data."""
    for depth, step in enumerate(place):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return depth
    return len(place)


def _topology(point: Point, file: YamlFile | None) -> tuple[Any, list[Issue]]:
    """Return the topology of a point, the description that it was made from and its programs, or what is wrong.

    Raises:
        FaultsError: Something is wrong in the topology file, or in what is changed of it.
    """
    use = point.content["topology"]["use"]
    try:
        path = _topology_path(use, point.folder)
    except SsimError as error:
        return None, [Issue(("topology", "use"), str(error))]
    if not path.is_file():
        hint = "a topology file, relative to this one, or the name of a shipped one"
        return None, [Issue(("topology", "use"), "file not found", str(path), hint)]
    given = point.content["topology"]
    changed = {key: value for key, value in given.items() if key != "use" and value is not None}
    base = read_yaml(path)
    description = merged(base.data if isinstance(base.data, dict) else {}, changed)
    here = file or YamlFile(point.folder / point.content["name"], point.content, point.content)
    whole = _Merged(path, description, base.marked, other=replace(here, data={"topology": changed}))
    topology = topology_of(whole)
    return (topology, description, programs_of(path, topology, whole), whole), []


def assemble(point: Point, plugs: Plugs, file: YamlFile | None) -> tuple[Any, list[Issue]]:
    """Return what the runs of a point share, and what does not fit although each part is right.

    Raises:
        FaultsError: Something is wrong in the topology file, or in what is changed of it.
    """
    names = ("data", "partition", "family", "algorithm", "subnets", "maxnet", "privacy", "compression", "aggregation")
    built: list[Any] = [plugs.get((name,)) for name in names]
    _, partition, _, algorithm, _, maxnet, privacy, compression, rule = built
    issues = _issue("privacy", check_privacy, algorithm, privacy, compression)
    issues += _issue("aggregation", check_aggregation, rule, algorithm, privacy, maxnet)
    found, wrong = _topology(point, file)
    if wrong:
        return None, [*issues, *wrong]
    topology, description, owners, whole = found
    unused = _unused(topology, partition, description)
    if unused:
        raise whole.error(unused)
    parts = FederatedParts(topology, description, owners, *built)
    return parts, [*issues, *unknown_subnets(parts.family.space, point.spec.calibration.subnets)]


def _issue(place: str, check: Callable[..., None], *args: Any) -> list[Issue]:
    """Return what a check raises."""
    try:
        check(*args)
    except SpecError as error:
        return [Issue.of(error, place)]
    return []


def _unused(topology: Topology, partition: Partition, description: Mapping[str, Any]) -> list[Issue]:
    """Return the properties of datasets that nobody would use."""
    datasets = [worker.dataset for worker in topology.plan.workers if worker.dataset is not None]
    issues = []
    for data in datasets:
        place = _dataset_place(data, description)
        if data.ref:
            hint = "remove it: the examples come from `data`, dealt out by `partition`"
            issues.append(Issue((*place, "ref"), "not used in a federated training", repr(data.ref), hint))
    if len({data.size for data in datasets}) > 1 and not getattr(partition, "uses_sizes", True):
        odd = next(data for data in datasets if data.size != datasets[0].size)
        problem = f"not used by partition {type(partition).__name__}"
        issues.append(
            Issue(
                (*_dataset_place(odd, description), "size"),
                problem,
                str(odd.size),
                "use iid, or remove sizes",
            )
        )
    return issues


def _dataset_place(data: Dataset, description: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Return where a dataset stands in a topology file."""
    body = description["datasets"][data.role][data.group]
    ids = [entry.get("id") if isinstance(entry, dict) else entry for entry in body] if isinstance(body, list) else []
    return ("datasets", data.role, data.group, *([ids.index(data.id)] if data.id in ids else []))


def _topology_path(use: str, folder: Path) -> Path:
    path = Path(located(folder, use))
    found = None if path.exists() else shipped("topologies", use)
    return path if found is None else found


def merged(base: Any, changed: Any) -> Any:
    """Return plain data with changes put in: mappings key by key, all else as a whole; what is null is taken out.

    Example:
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
    check_others=lambda point, file: _topology(point, file)[1],
    short={"topology": "use"},
    filled_in={"partition": "iid", "algorithm": "fedavg", "subnets": "largest", "evaluation": {}, "calibration": {}},
    not_swept=frozenset({"calibration"}),
)
