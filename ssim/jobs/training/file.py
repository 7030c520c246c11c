"""From a training file to what it asks for: all faults are told at once, by line and column."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

import supernet.data
import supernet.training
from sim.base.errors import SpecError, SsimError
from ssim.files.plugins import Fault, build, faults_of, find_class, hinted
from ssim.files.yaml_file import parse_settings, read_yaml
from ssim.jobs.experiment.expand import put_all
from ssim.jobs.training.spec import (
    CalibrationSpec,
    LatencySpec,
    PhaseSpec,
    SearchSpec,
    StartSpec,
    TrainingSpec,
    written_out,
)
from supernet.data.source import located
from supernet.families import FAMILIES
from supernet.training.recipe import Phase, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supernet.data.source import Source
    from supernet.family import Family
    from supernet.space import SubnetSpace


FAMILY_NAMES = {name: f"{owner.__module__}:{owner.__name__}" for name, owner in FAMILIES.items()}
"""What short names of families stand for."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training file asks for.

    Attributes:
        spec: The file.
        folder: Its folder, which paths in it are taken from.
        source: The data.
        family: The family of supernets.
        recipe: How it is trained.
        start: The file of the weights to begin with, if there are any.
    """

    spec: TrainingSpec
    folder: Path
    source: Source
    family: Family
    recipe: Recipe
    start: Path | None

    @property
    def seeds(self) -> range:
        """The seeds of the repeats."""
        return range(self.spec.seed, self.spec.seed + self.spec.repeats)


def read_training(path: Path, overrides: Sequence[str] = ()) -> TrainingPlan:
    """Return what a training file asks for.

    Args:
        path: The YAML file.
        overrides: `key=value` for any dotted key of the file, as `--set` gives them.

    Raises:
        SpecError: Something in the file or the overrides is wrong; tells all of it, by line and column.
    """
    file = read_yaml(path)
    data = written_out(file.data)
    settings = parse_settings(overrides)
    put_all(data, settings)
    plan, faults = _plan(written_out(data), path.parent.resolve())
    if plan is None:
        raise file.error(faults, {key: f"--set {key}" for key in settings})
    return plan


def _plan(data: Any, folder: Path) -> tuple[TrainingPlan | None, list[Fault]]:
    plugs, faults = _plugs(data, folder)
    try:
        spec = TrainingSpec.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        return None, [*map(_hinted, faults_of(error, data)), *faults]
    if faults:
        return None, faults
    rules = [plugs["phases", number] for number in range(len(spec.phases))]
    phases = (
        Phase(**phase.model_dump(exclude={"subnets"}), subnets=rule)
        for phase, rule in zip(spec.phases, rules, strict=True)
    )
    recipe = Recipe(
        batch=spec.batch,
        phases=tuple(phases),
        optimizer=plugs["optimizer",],
        smoothing=spec.smoothing,
        clip=spec.clip,
    )
    start, faults = _start(spec.start, folder)
    plan = TrainingPlan(spec, folder, plugs["data",], plugs["family",], recipe, start)
    faults += unknown_subnets(plan.family.space, spec.calibration.subnets)
    return (None if faults else plan), faults


def _plugs(data: Any, folder: Path) -> tuple[dict[tuple[Any, ...], Any], list[Fault]]:
    """Return what is named by its kind, by place, and what is wrong with it; what is not there, the model tells."""
    known: dict[tuple[Any, ...], tuple[str, Mapping[str, str]]] = {
        ("data",): ("data source", supernet.data.SHORT_NAMES),
        ("family",): ("family", FAMILY_NAMES),
        ("optimizer",): ("optimizer", supernet.training.OPTIMIZERS),
    }
    content = data if isinstance(data, dict) else {}
    named = {place: content.get(place[0]) for place in known}
    listed: Any = content.get("phases")
    for number, phase in enumerate(listed if isinstance(listed, list) else []):
        known["phases", number] = ("rule", supernet.training.SAMPLING_RULES)
        named["phases", number] = phase.get("subnets", {"kind": "sandwich"}) if isinstance(phase, dict) else None
    found: dict[tuple[Any, ...], Any] = {}
    faults: list[Fault] = []
    for place, value in named.items():
        if isinstance(value, dict):
            found[place], wrong = plug(value, *known[place], folder)
            inner = (*place, "subnets") if place[0] == "phases" else place
            faults += [fault.under(*inner) for fault in wrong]
    return found, faults


def plug(value: dict[str, Any], noun: str, names: Mapping[str, str], folder: Path) -> tuple[Any, list[Fault]]:
    """Return the object that `kind` and parameters describe, or None and what is wrong with them."""
    kind = value.get("kind")
    if not isinstance(kind, str):
        right = f"such as kind: {next(iter(names))}"
        return None, [Fault(("kind",) if "kind" in value else (), f"a {noun} needs a kind", "", right)]
    try:
        owner = find_class(kind, names, noun, folder)
    except SpecError as error:
        return None, [Fault(("kind",), error.what, error.value, error.right)]
    built, faults = build(owner, {name: given for name, given in value.items() if name != "kind"})
    if built is not None and hasattr(built, "located"):
        try:
            built = built.located(folder)
        except SsimError as error:
            faults = [Fault((), str(error))]
    return built, faults


def _start(start: StartSpec | None, folder: Path) -> tuple[Path | None, list[Fault]]:
    if start is None:
        return None, []
    try:
        path = Path(located(folder, start.path))
    except SsimError as error:
        return None, [Fault(("start", "path"), str(error))]
    right = "a path relative to this file"
    return path, [] if path.is_file() else [Fault(("start", "path"), "is no file that is there", str(path), right)]


def unknown_subnets(space: SubnetSpace, asked: int | tuple[str, ...]) -> list[Fault]:
    """Return which of the subnets that are to be calibrated, if any are named, a space does not have."""
    faults: list[Fault] = []
    for number, subnet in enumerate(asked if isinstance(asked, tuple) else ()):
        try:
            space.find(subnet)
        except SpecError as error:
            faults.append(Fault(("calibration", "subnets", number), error.what, error.value, error.right))
    return faults


def _hinted(fault: Fault) -> Fault:
    below: dict[str, type[BaseModel]] = {
        "start": StartSpec,
        "phases": PhaseSpec,
        "calibration": CalibrationSpec,
        "search": LatencySpec if "latency" in fault.place[:-1] else SearchSpec,
    }
    return hinted(fault, TrainingSpec, below)
