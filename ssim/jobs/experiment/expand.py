"""From an experiment file to its runs: everything is checked before anything runs, and all faults are told at once."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from policies.checks import ask, still_view
from sim.base.errors import PolicyError, SpecError, SsimError, did_you_mean
from ssim.files.plugins import Fault, faults_of, hinted
from ssim.files.yaml_file import parse_settings, read_yaml
from ssim.jobs.experiment.run import Run, policy_of, source_of, table_of
from ssim.jobs.experiment.spec import CapacitySpec, ClusterSpec, ExperimentSpec, PolicySpec, TableSpec, normalised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment that can run.

    Attributes:
        name: Its name, and that of its folder in the results.
        runs: Its runs: by point of the sweep, then seed, then policy, so that neighbours share a trace.
        swept: The dotted keys that are swept.
        overrides: `key=value` as they were given.
        capacity: What a search for capacities looks for.
        content: The file's content with overrides, for the record.
    """

    name: str
    runs: tuple[Run, ...]
    swept: tuple[str, ...]
    overrides: tuple[str, ...]
    capacity: CapacitySpec
    content: dict[str, Any]


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Return the experiment that a file describes.

    Args:
        path: The YAML file.
        overrides: `key=value` for any dotted key of the file, as `--set` gives them.

    Raises:
        SpecError: Something in the file or the overrides is wrong; tells all of it, by line and column.
    """
    file = read_yaml(path)
    data = normalised(file.data)
    put_all(data, parse_settings(overrides))
    data = normalised(data)
    points, faults = _points(data)
    runs: list[Run] = []
    for values, point in points:
        found, wrong = _runs(point, path.parent.resolve(), values)
        runs += found
        faults += [_as_swept(fault, values, data) for fault in wrong]
    if faults:
        overridden = [key for key, _, _ in (text.partition("=") for text in overrides)]
        raise file.error(faults, {key: f"--set {key}" for key in overridden})
    capacity = CapacitySpec.model_validate(data.get("capacity") or {})
    return Experiment(data["name"], tuple(runs), tuple(data.get("sweep") or ()), tuple(overrides), capacity, data)


def put_all(data: Any, settings: Mapping[str, object]) -> None:
    """Set the dotted keys that were given with `--set` in a file's content.

    Raises:
        SpecError: There is no such place.
    """
    for key, value in settings.items():
        fault = put(data, key, value)
        if fault:
            raise SpecError("--set", fault.what, repr(key), fault.right)


def put(data: Any, key: str, value: object) -> Fault | None:
    """Set a dotted key (`cluster.workers`, `policies.0.params.buckets`) of a file's content; return what is wrong."""
    steps = key.split(".")
    node = data
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        match node:
            case list():
                if not step.isdigit() or int(step) >= len(node):
                    return Fault((), "there is no such entry", key, f"0 to {len(node) - 1}")
                if last:
                    node[int(step)] = value
                else:
                    node = node[int(step)]
            case dict():
                if last:
                    node[step] = value
                elif step in node:
                    node = node[step]
                elif step == "params":
                    node = node.setdefault(step, {})
                else:
                    return Fault((), "there is no such key", key, did_you_mean(step, map(str, node)))
            case _:
                return Fault((), "there is nothing below this", key, ".".join(steps[:depth]))
    return None


_BELOW: dict[str, type[BaseModel]] = {
    "capacity": CapacitySpec,
    "cluster": ClusterSpec,
    "latency_table": TableSpec,
    "policies": PolicySpec,
}

_NOT_SWEPT = {"schema", "name", "seed", "repeats", "engine", "keep", "sweep", "capacity"}
"""What decides no result, or makes repeats."""


def _points(data: Any) -> tuple[list[tuple[dict[str, Any], Any]], list[Fault]]:
    """Return the points of the sweep (values by key, content with them put in), and what is wrong with the sweep."""
    sweep = data.get("sweep") if isinstance(data, dict) else None
    if not isinstance(sweep, dict) or not all(isinstance(values, list) and values for values in sweep.values()):
        return [({}, data)], []  # the model says what is wrong with it, if anything
    points, faults = [], []
    for key, listed in sweep.items():
        twice = [i for i, value in enumerate(listed) if value in listed[:i]]
        faults += [Fault(("sweep", key, i), "stands there twice", repr(listed[i]), "each value once") for i in twice]
    for combination in itertools.product(*sweep.values()):
        values = dict(zip(sweep, combination, strict=True))
        point = copy.deepcopy(data)
        for key, value in values.items():
            fault = put(point, key, value)
            if key.partition(".")[0] in _NOT_SWEPT:
                fault = Fault(
                    (), "can't be swept", "", "trace, cluster, latency_table, policies and what is in them can"
                )
            if fault:
                faults.append(Fault(("sweep", key), fault.what, "", fault.right, at_key=True))
        points.append((values, normalised(point)))
    return points, faults


def _as_swept(fault: Fault, values: dict[str, Any], data: Any) -> Fault:
    """Return a fault at a swept key as a fault of the value in the sweep."""
    for key, value in values.items():
        if ".".join(map(str, fault.place)) == key:
            where = ("sweep", key) if fault.at_key else ("sweep", key, data["sweep"][key].index(value))
            return replace(fault, place=where)
    return fault


def _runs(data: Any, folder: Path, values: dict[str, Any]) -> tuple[list[Run], list[Fault]]:
    """Return the runs of one point, and all that is wrong with it."""
    try:
        spec = ExperimentSpec.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        known = [hinted(fault, ExperimentSpec, _BELOW) for fault in faults_of(error, data)]
        return [], known + _plugin_faults(data, folder) + _table_faults(data, folder)
    faults = _plugin_faults(data, folder) or _misfits(spec, folder)
    if faults:
        return [], faults
    return list(_repeats(spec, folder, values)), []


def _repeats(spec: ExperimentSpec, folder: Path, values: dict[str, Any]) -> Iterator[Run]:
    for repeat in range(spec.repeats):
        for policy in spec.policies:
            parts = (spec.trace, spec.cluster, spec.latency_table, spec.engine, spec.keep, policy)
            yield Run(spec.name, spec.seed + repeat, *parts, folder, values)


def _plugin_faults(data: Any, folder: Path) -> list[Fault]:
    """Return what is wrong with the parameters of trace source and policies, as far as they can be looked at."""
    faults: list[Fault] = []
    trace = data.get("trace") if isinstance(data, dict) else None
    if isinstance(trace, dict):
        faults += [fault.under("trace") for fault in source_of(trace, folder)[1]]
    policies: Any = data.get("policies") if isinstance(data, dict) else None
    listed: list[Any] = policies if isinstance(policies, list) else []
    for i, item in enumerate(listed):
        params = item.get("params", {}) if isinstance(item, dict) else None
        if isinstance(params, dict) and isinstance(item.get("use"), str):
            policy = PolicySpec(use=item["use"], params=params)
            faults += [fault.under("policies", i) for fault in policy_of(policy, folder)[1]]
    return faults


def _table_faults(data: Any, folder: Path) -> list[Fault]:
    """Return what is wrong with the latency table of a file with other faults."""
    try:
        table_of(TableSpec.model_validate(data["latency_table"]), folder)
    except SsimError as error:
        return [Fault(("latency_table",), str(error))]
    except (KeyError, TypeError, ValidationError):
        pass  # the model says so
    return []


def _misfits(spec: ExperimentSpec, folder: Path) -> list[Fault]:
    """Return what does not fit together although each part is right: files, cluster and faults, table, policies."""
    labels = [policy.label for policy in spec.policies]
    twice = [i for i, label in enumerate(labels) if label in labels[:i]]
    faults = [Fault(("policies", i), "stands there twice", labels[i], "each policy once") for i in twice]
    try:
        inputs = source_of(spec.trace, folder)[0].inputs()
        missing = [path for path in inputs if not path.is_file()]
        faults += [
            Fault(("trace",), "is no file that is there", str(path), "a path relative to this file") for path in missing
        ]
    except SsimError as error:
        faults.append(Fault(("trace",), str(error)))
    try:
        cluster = spec.cluster.build()
    except SsimError as error:
        return [*faults, Fault(("cluster", "faults"), str(error))]
    try:
        table = table_of(spec.latency_table, folder)
    except SsimError as error:
        return [*faults, Fault(("latency_table",), str(error))]
    try:
        cluster.actuation_delays(table)
    except SsimError as error:
        faults.append(Fault(("cluster", "actuation_ms"), str(error)))
    for i, item in enumerate(spec.policies):
        policy = policy_of(item, folder)[0]
        view = still_view(table, slack_ns=int(table.latency_ns.max()))
        try:
            ask(policy, view)
        except PolicyError as error:
            faults.append(Fault(("policies", i), error.what, error.value, error.right))
    return faults
