"""What `ssim reproduce` runs: the experiments of the paper, what is found out with each, and a short form of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.base.errors import SpecError, SsimError
from ssim.execution.capacity import Trials, find_capacities
from ssim.execution.gap import find_gaps, write_gaps
from ssim.execution.runner import run_job
from ssim.jobs.experiment.summary import write_csv, write_summary
from ssim.jobs.reading import read_job
from ssim.results.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ssim.jobs.job import Job


@dataclass(frozen=True, slots=True)
class Study:
    """An experiment file and what is found out with it.

    Attributes:
        name: Of the file and of the experiment.
        quick: What is overridden in the short form, as `key=value`; one seed is taken in any case.
        searches: Whether its capacities are looked for, in place of running it as it is.
        bounded: Whether it is held against what any policy could have reached.
        exact: Whether the offline optimum itself is found, too.
    """

    name: str
    quick: tuple[str, ...] = ("trace.duration_s=10",)
    searches: bool = False
    bounded: bool = False
    exact: bool = False


STUDIES = (
    Study("azure", bounded=True),
    Study("azure_ideal", bounded=True),
    Study("overhead", bounded=True),
    Study("bursty", bounded=True),
    Study("small", (), bounded=True, exact=True),
    Study("time_varying", ("trace.duration_s=40", "trace.ramp_start_s=20")),
    Study("faults", ()),
    Study("actuation"),
    Study("buckets"),
    Study("dense"),
    Study("fixed_subnets"),
    Study("transformer"),
    Study("dynamics_bursty"),
    Study("dynamics_time_varying", ("trace.duration_s=60", "trace.ramp_start_s=30")),
    Study("sensitivity_slo"),
    Study("sensitivity_base", ()),
    Study("sensitivity_ramp", ("trace.duration_s=120",)),
    Study("sensitivity_coarse"),
    Study("capacity", ("trace.duration_s=5",), searches=True),
    Study("scaling", ("trace.duration_s=5", "capacity.precision=0.02"), searches=True),
)


@dataclass(frozen=True, slots=True)
class Conducted:
    """What came of the studies.

    Attributes:
        problems: What failed, a line each.
        seconds: How long all took.
    """

    problems: tuple[str, ...]
    seconds: float


def run_studies(
    experiments: Path,
    results: Path,
    *,
    quick: bool,
    jobs: int,
    studies: Iterable[Study] = STUDIES,
    on_begin: Callable[[str], None] = lambda _name: None,
    on_study: Callable[[str, float], None] = lambda _name, _seconds: None,
) -> Conducted:
    """Run what is not stored of the studies, with its capacities and bounds. What fails does not end the others.

    Args:
        experiments: The folder of experiment files.
        results: The folder of results.
        quick: Short traces and one seed.
        jobs: How many runs at once.
        studies: Which.
        on_begin: Told the name of each when it begins.
        on_study: Told the name of each when it has ended, and how long it took.

    Raises:
        SpecError: An experiment file is not there.
        StoreError: Results can't be stored.
    """
    problems: list[str] = []
    begin = time.perf_counter()
    wanted = list(studies)
    for study in wanted:
        path = experiments / f"{study.name}.yaml"
        if not path.is_file():
            raise SpecError(str(path), "file not found", "", "name the folder of experiment files with --experiments")
    for study in wanted:
        started = time.perf_counter()
        on_begin(study.name)
        try:
            problems += _conduct(study, experiments, results, quick=quick, jobs=jobs)
        except SsimError as error:
            problems.append(f"{study.name}: {error}")
        on_study(study.name, time.perf_counter() - started)
    return Conducted(tuple(problems), time.perf_counter() - begin)


def _conduct(study: Study, experiments: Path, results: Path, *, quick: bool, jobs: int) -> list[str]:
    overrides = ("repeats=1", *study.quick) if quick else ()
    experiment = read_job(experiments / f"{study.name}.yaml", overrides, "experiment/1")
    if study.searches:
        return _search(experiment, Store(results / experiment.name / "capacity"), jobs)
    store = Store(results / experiment.name)
    with store.writing():
        failed = run_job(experiment, store, jobs=jobs)
        write_summary(store, experiment.swept)
        if study.bounded:
            write_gaps(experiment, store, find_gaps(experiment, store, jobs=jobs, exact=study.exact))
    return [f"{study.name}: {each.run.label}, seed {each.run.seed}: {each.error}" for each in failed]


def _search(experiment: Job, store: Store, jobs: int) -> list[str]:
    with store.writing():
        found = find_capacities(Trials(experiment, store, jobs))
        rows = [one.row() for one in found]
        write_csv(store.folder / "capacity.csv", rows, list(rows[0]))
    failed = [(one, one.error) for one in found if one.error is not None]
    return [f"{experiment.name}: {one.run.label}, seed {one.run.seed}: {error.error}" for one, error in failed]
