"""From the file of a federated training to what it asks for: all faults are told at once, by line and column."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

import supernet.data
from federated import algorithms, assignment, compression, partition
from federated.assignment import MaxNet
from federated.privacy import Privacy
from sim.base.errors import SsimError
from ssim.files.plugins import Fault, build, faults_of, hinted
from ssim.files.topology_file import Topology, programs_of, topology_of
from ssim.files.yaml_file import YamlFile, parse_settings, read_yaml
from ssim.jobs.experiment.expand import put_all
from ssim.jobs.federated.spec import EvaluationSpec, FederatedSpec, TopologySpec, written_out
from ssim.jobs.training.file import FAMILY_NAMES, plug, unknown_subnets
from ssim.jobs.training.spec import CalibrationSpec
from supernet.data.source import located

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from federated.algorithms import Algorithm
    from federated.assignment import Rule
    from federated.compression import Compression
    from federated.partition import Partition
    from supernet.data.source import Source
    from supernet.family import Family
    from topology.program import Program

PLUGS: dict[str, tuple[str, Mapping[str, str]]] = {
    "data": ("data source", supernet.data.SHORT_NAMES),
    "partition": ("partition", partition.SHORT_NAMES),
    "family": ("family", FAMILY_NAMES),
    "algorithm": ("algorithm", algorithms.SHORT_NAMES),
    "subnets": ("rule", assignment.SHORT_NAMES),
    "compression": ("compression", compression.SHORT_NAMES),
}
"""What can be plugged in where: what it is called, and what short names stand for."""

_BELOW: dict[str, type[BaseModel]] = {
    "topology": TopologySpec,
    "evaluation": EvaluationSpec,
    "calibration": CalibrationSpec,
}
_FIXED: dict[str, type[Any]] = {"maxnet": MaxNet, "privacy": Privacy}


@dataclass(frozen=True, slots=True)
class FederatedPlan:
    """What the file of a federated training asks for.

    Attributes:
        spec: The file.
        topology: Who there is, as the topology file says with what is different here.
        description: The content of that file, with what is different.
        owners: The class of the program of each role.
        source: The data.
        partition: How they are dealt out.
        family: The family of supernets.
        algorithm: What parties and holders of the model do.
        rule: Who trains which subnet.
        maxnet: How much the largest subnet counts.
        privacy: Clipping and noise.
        compression: Of what parties send.
    """

    spec: FederatedSpec
    topology: Topology
    description: dict[str, Any]
    owners: dict[str, type[Program]]
    source: Source
    partition: Partition
    family: Family
    algorithm: Algorithm
    rule: Rule
    maxnet: MaxNet | None
    privacy: Privacy | None
    compression: Compression | None

    @property
    def seeds(self) -> range:
        """The seeds of the repeats."""
        return range(self.spec.seed, self.spec.seed + self.spec.repeats)

    @property
    def watched(self) -> tuple[str, ...]:
        """The subnets whose accuracy is measured on the way."""
        space, count = self.family.space, self.spec.evaluation.subnets
        return tuple(subnet.id for subnet in ([space.largest] if count == 1 else space.linspace(count)))


@dataclass(frozen=True, slots=True)
class _Merged(YamlFile):
    """A topology file with what another file changes in it; a fault is told where it stands."""

    other: YamlFile

    def line(self, fault: Fault) -> str:
        """Return one line for a fault, in the file that says more about its place."""
        changed = self.other.data.get("topology")
        depth = _depth(changed, fault.place)
        if depth and depth >= _depth(self.marked, fault.place):
            return self.other.line(fault.under("topology"))
        return YamlFile.line(self, fault)


def _depth(data: Any, place: tuple[str | int, ...]) -> int:
    """Return how far a place leads into data."""
    for depth, step in enumerate(place):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return depth
    return len(place)


def read_federated(path: Path, overrides: Sequence[str] = ()) -> FederatedPlan:
    """Return what the file of a federated training asks for.

    Args:
        path: The YAML file.
        overrides: `key=value` for any dotted key of the file, as `--set` gives them.

    Raises:
        SpecError: Something in the file, the topology's or the overrides is wrong; tells all of it, by line and column.
    """
    file = read_yaml(path)
    data = written_out(file.data)
    settings = parse_settings(overrides)
    put_all(data, settings)
    data, folder = written_out(data), path.parent.resolve()
    plugs, faults = _plugs(data, folder)
    try:
        spec = FederatedSpec.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        faults = [*(hinted(fault, FederatedSpec, _BELOW) for fault in faults_of(error, data)), *faults]
        raise file.error(faults, {key: f"--set {key}" for key in settings}) from error
    if faults:
        raise file.error(faults, {key: f"--set {key}" for key in settings})
    description, topology, owners = _topology(spec.topology, data["topology"], file, folder)
    plan = FederatedPlan(spec, topology, description, owners, **plugs)
    faults = unknown_subnets(plan.family.space, spec.calibration.subnets)
    if faults:
        raise file.error(faults)
    return plan


def _plugs(data: Any, folder: Path) -> tuple[dict[str, Any], list[Fault]]:
    """Return what is named by its kind, by the names of the plan's fields, and what is wrong with it."""
    content = data if isinstance(data, dict) else {}
    fields = {"data": "source", "subnets": "rule"}
    found: dict[str, Any] = {fields.get(key, key): None for key in (*PLUGS, *_FIXED)}
    faults: list[Fault] = []
    for key, (noun, names) in PLUGS.items():
        if isinstance(content.get(key), dict):
            found[fields.get(key, key)], wrong = plug(content[key], noun, names, folder)
            faults += [fault.under(key) for fault in wrong]
    for key, owner in _FIXED.items():
        if isinstance(content.get(key), dict):
            found[key], wrong = build(owner, content[key])
            faults += [fault.under(key) for fault in wrong]
    return found, faults


def _topology(
    spec: TopologySpec, given: dict[str, Any], file: YamlFile, folder: Path
) -> tuple[dict[str, Any], Topology, dict[str, type[Program]]]:
    try:
        path = Path(located(folder, spec.use))
    except SsimError as error:
        raise file.error([Fault(("topology", "use"), str(error))]) from error
    if not path.is_file():
        right = "the path of a topology file, relative to this one"
        raise file.error([Fault(("topology", "use"), "is no file that is there", str(path), right)])
    base = read_yaml(path)
    changed = {key: value for key, value in given.items() if key != "use" and value is not None}
    description = merged(base.data if isinstance(base.data, dict) else {}, changed)
    whole = _Merged(path, description, base.marked, replace(file, data={"topology": changed}))
    found = topology_of(whole)
    return description, found, programs_of(path, found, whole)


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
