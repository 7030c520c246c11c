"""Trainings of a supernet: what a file is made of, and what its runs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import supernet.training
from sim.base.errors import SpecError, SsimError
from ssim.files.data_sources import DATA
from ssim.files.families import FAMILY
from ssim.files.plugins import Issue, Slot
from ssim.jobs.job import Kind
from ssim.jobs.training.objective import objective_of
from ssim.jobs.training.parts import TrainingParts
from ssim.jobs.training.run import TrainingRun
from ssim.jobs.training.spec import TrainingSpec
from supernet.data.source import located
from supernet.training.optimizers import Optimizer
from supernet.training.recipe import Phase, Recipe
from supernet.training.sampling import SamplingRule

if TYPE_CHECKING:
    from ssim.files.yaml_file import YamlFile
    from ssim.jobs.job import Plugs, Point
    from ssim.jobs.training.spec import StartSpec
    from supernet.family import Family
    from supernet.space import SubnetSpace

RULE = Slot(("phases", "*", "subnets"), "rule", supernet.training.SAMPLING_RULES, SamplingRule)


def assemble(point: Point, plugs: Plugs, _file: YamlFile | None) -> tuple[Any, list[Issue]]:
    """Return what the runs of a point share, and what does not fit although each part is right."""
    spec: TrainingSpec = point.spec
    default = RULE.build({"kind": "sandwich"}, point.folder)[0]
    phases = tuple(
        Phase(**phase.model_dump(exclude={"subnets"}), subnets=plugs.get(("phases", number, "subnets"), default))
        for number, phase in enumerate(spec.phases)
    )
    recipe = Recipe(
        batch=spec.batch, phases=phases, optimizer=plugs["optimizer",], smoothing=spec.smoothing, clip=spec.clip
    )
    start, issues = _start(spec.start, point.folder)
    family: Family = plugs["family",]
    loss, metric, wrong = objective_of(spec, plugs["data",], point.folder)
    return TrainingParts(plugs["data",], family, recipe, start, loss, metric), [
        *issues,
        *wrong,
        *unknown_subnets(family.space, spec.calibration.subnets),
    ]


def _start(start: StartSpec | None, folder: Path) -> tuple[Path | None, list[Issue]]:
    if start is None:
        return None, []
    try:
        path = Path(located(folder, start.path))
    except SsimError as error:
        return None, [Issue(("start", "path"), str(error))]
    hint = "a path relative to this file"
    return path, [] if path.is_file() else [Issue(("start", "path"), "file not found", str(path), hint)]


def unknown_subnets(space: SubnetSpace, asked: int | tuple[str, ...]) -> list[Issue]:
    """Return which of the subnets to calibrate, if any are named, are not in a space."""
    issues: list[Issue] = []
    for number, subnet in enumerate(asked if isinstance(asked, tuple) else ()):
        try:
            space.find(subnet)
        except SpecError as error:
            issues.append(Issue.of(error, "calibration", "subnets", number))
    return issues


KIND = Kind(
    model=TrainingSpec,
    slots=(
        DATA,
        FAMILY,
        Slot(("optimizer",), "optimizer", supernet.training.OPTIMIZERS, Optimizer),
        RULE,
    ),
    assemble=assemble,
    runs=lambda point, seed: (TrainingRun(point, seed),),
    filled_in={"optimizer": "sgd", "calibration": {}, "search": {}},
    not_swept=frozenset({"calibration", "search"}),
)
