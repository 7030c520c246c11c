"""Federated trainings: what a file is made of, and what its runs share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated import algorithms, assignment, compression, partition
from federated.assignment import MaxNet
from federated.privacy import Privacy
from sim.base.errors import SsimError
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
    from collections.abc import Mapping

    from ssim.jobs.job import Plugs, Point


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

    other: YamlFile

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


def assemble(point: Point, plugs: Plugs, file: YamlFile | None) -> tuple[Any, list[Issue]]:
    """Return what the runs of a point share, and what does not fit although each part is right.

    Raises:
        FaultsError: Something is wrong in the topology file, or in what is changed of it.
    """
    spec: FederatedSpec = point.spec
    try:
        path = _topology_path(spec.topology.use, point.folder)
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
    whole = _Merged(path, description, base.marked, replace(here, data={"topology": changed}))
    topology = topology_of(whole)
    names = ("data", "partition", "family", "algorithm", "subnets", "maxnet", "privacy", "compression")
    built: list[Any] = [plugs.get((name,)) for name in names]
    parts = FederatedParts(topology, description, programs_of(path, topology, whole), *built)
    return parts, unknown_subnets(parts.family.space, spec.calibration.subnets)


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
        Slot(("partition",), "partition", partition.SHORT_NAMES),
        FAMILY,
        Slot(("algorithm",), "algorithm", algorithms.SHORT_NAMES),
        Slot(("subnets",), "subnet assignment", assignment.SHORT_NAMES),
        Slot(("compression",), "compression", compression.SHORT_NAMES),
        _ClassSlot(("maxnet",), "maxnet", {}, owner=MaxNet),
        _ClassSlot(("privacy",), "privacy", {}, owner=Privacy),
    ),
    assemble=assemble,
    runs=lambda point, seed: (FederatedRun(point, seed),),
    short={"topology": "use"},
    filled_in={"partition": "iid", "algorithm": "fedavg", "subnets": "largest", "evaluation": {}, "calibration": {}},
    not_swept=frozenset({"calibration"}),
)
