"""Each stored run's attainment as a share of the upper bound that holds for any policy on its trace (`sim.bounds`).

A bound belongs to a trace, a cluster and a table, whatever the policy. It is stored beside the runs, under the hash of
all that decides it, and never computed twice.
"""

from __future__ import annotations

import json
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sim.base.errors import SpecError, StoreError
from sim.base.whole_file import whole_file
from sim.bounds import instance_of, offline_optimum, upper_bound
from sim.engine.run_metrics import WHOLE_RUN
from ssim.execution.backends.local import processes
from ssim.jobs.experiment.bounds import gap_file
from ssim.jobs.experiment.summary import write_csv
from ssim.jobs.identity import code_of, hash_of, own_code, own_hash, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from sim.bounds import Values
    from ssim.jobs.experiment.run import ExperimentRun
    from ssim.jobs.job import Job
    from ssim.results.store import Store

    _Asked = tuple[str, str]

COLUMNS = (
    "policy",
    "seed",
    "slo_attainment",
    "attainment_bound",
    "attainment_share",
    "weighted_attainment",
    "weighted_bound",
    "weighted_share",
)
"""The columns of gap.csv, before those that are swept. `weighted` is SLO attainment times accuracy, from 0 to 1."""

EXACT_COLUMNS = ("optimum_lower", "optimum_upper")
"""What it has beside them where the offline optimum was asked for: what the best schedule reaches, from and to."""

_SCHEMA = "bound/1"

_KINDS = {"": ("attainment", "accuracy"), "attainment": ("attainment",), "exact": EXACT_COLUMNS}
"""What is stored of each kind of bound: both upper bounds, that on SLO attainment alone, the offline optimum."""

EXACT_SLOT_NS = 1_000_000
"""Slots of the zero-one program."""

EXACT_LIMIT_S = 60.0
"""The solver's time for each of its two roundings; then its best schedule and its best bound count."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """What came of a comparison.

    Attributes:
        rows: A row a stored run, in the columns of gap.csv.
        missing: The runs that are not stored, which therefore could not be compared.
    """

    rows: tuple[dict[str, Any], ...]
    missing: tuple[ExperimentRun, ...]


def find_gaps(
    experiment: Job,
    store: Store,
    *,
    jobs: int,
    exact: bool = False,
    on_bound: Callable[[int, int], None] = lambda _done, _of: None,
) -> Gaps:
    """Return what each stored run of an experiment reached, and what any policy could have. The caller holds the store.

    Args:
        experiment: The experiment.
        store: Its results; the bounds are stored there.
        jobs: How many bounds are computed at once, in processes.
        exact: Solve the zero-one program, too; for some dozens of queries.
        on_bound: Told how many bounds are there, and of how many.

    Raises:
        SpecError: The zero-one program is asked for, and is too large, or the cluster has failures, slow switches or
            drawn latencies.
        StoreError: A result is damaged, or bounds can't be stored.
    """
    if any(run.parts.measure != WHOLE_RUN for run in experiment.runs):
        hint = "the bound counts every query of the trace: give --set measure=null, here and to `ssim run`"
        raise SpecError("measure", "can't be combined with a bound", "", hint)
    manifests = {run.id: store.manifest(run.id) for run in experiment.runs}
    summaries = {run_id: manifest["summary"] for run_id, manifest in manifests.items() if manifest is not None}
    compared = [run for run in experiment.runs if run.id in summaries]
    keys = {run.id: bound_key(run) for run in compared}
    needed = {keys[run.id]: run for run in reversed(compared)}
    asked = [(key, kind) for key in needed for kind in (("", "exact") if exact else ("",))]
    found = {one: known for one in asked if (known := _stored(_file(store, *one), _KINDS[one[1]])) is not None}
    todo = [(one, needed[one[0]]) for one in asked if one not in found]
    on_bound(len(found), len(asked))
    with closing(_computed(todo, jobs)) as computed:
        for one, values in computed:
            _put(store, one, values)
            found[one] = values
            on_bound(len(found), len(asked))
    bounds = {key: found[key, ""] | found.get((key, "exact"), {}) for key in needed}
    rows = tuple(_row(run, summaries[run.id], bounds[keys[run.id]]) for run in compared)
    return Gaps(rows, tuple(run for run in experiment.runs if run.id not in summaries))


def write_gaps(experiment: Job, store: Store, rows: Sequence[dict[str, Any]]) -> Path:
    """Write gap.csv and return its path.

    Raises:
        StoreError: It can't be written.
    """
    path = gap_file(store)
    exact = [name for name in EXACT_COLUMNS if rows and name in rows[0]]
    write_csv(path, rows, [*COLUMNS, *exact, *experiment.swept, "run"])
    return path


def bound_key(run: ExperimentRun) -> str:
    """Return the hash of all that decides the bound of a run: its identity but for its policy, and code."""
    decided = {name: value for name, value in run.identity.items() if name not in {"policy", "plan", "code"}}
    own = own_code([run.parts.source], run.point.folder)
    code = {
        "toolkit": run.identity["code"]["toolkit"],
        "bounds": own_hash(code_of("sim/bounds")),
        "own": sorted(map(sha256, own)),
    }
    return hash_of([decided, code])[:12]


def attainment_bound(run: ExperimentRun, store: Store) -> float:
    """Return the SLO attainment that no policy exceeds on the trace of a run; stored. The caller holds the store.

    Raises:
        TooLongError: The trace is too long to be held.
        StoreError: It can't be stored.
    """
    asked = (bound_key(run), "attainment")
    values = _stored(_file(store, *asked), _KINDS["attainment"])
    if values is None:
        values = _bounds(run, "attainment")
        _put(store, asked, values)
    return values["attainment"]


def _file(store: Store, key: str, kind: str) -> Path:
    return store.folder / "bounds" / f"{'-'.join(filter(None, (key, kind)))}.json"


def _put(store: Store, asked: _Asked, values: dict[str, float]) -> None:
    with whole_file(_file(store, *asked)) as path:
        path.write_text(json.dumps({"schema": _SCHEMA, **values}) + "\n", encoding="utf-8")


def _stored(path: Path, names: Sequence[str]) -> dict[str, float] | None:
    """Return a bound that is stored, or None where it is not, or damaged: it is computed again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] == _SCHEMA:
            return {name: float(found[name]) for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _computed(todo: Sequence[tuple[_Asked, ExperimentRun]], jobs: int) -> Generator[tuple[_Asked, dict[str, float]]]:
    """Yield the bounds as they are done, in processes if there are several.

    Raises:
        SsimError: A process was killed.
    """
    if len(todo) <= 1 or jobs == 1:
        yield from ((one, _bounds(run, one[1])) for one, run in todo)
        return
    with processes(min(jobs, len(todo)), "bounds") as submit:
        under_way = {submit(_bounds, run, one[1]): one for one, run in todo}
        for future in as_completed(under_way):
            yield under_way[future], future.result()


def _bounds(run: ExperimentRun, kind: str) -> dict[str, float]:
    """Return the bounds of a kind on the trace of a run."""
    trace, cluster, table = run.trace(), run.parts.cluster, run.parts.table
    if kind == "exact":
        solved = offline_optimum(instance_of(trace, cluster, table), EXACT_SLOT_NS, EXACT_LIMIT_S)
        return dict(zip(EXACT_COLUMNS, (solved.lower, solved.upper), strict=True))
    return {
        name: upper_bound(instance_of(trace, cluster, table, name)).upper
        for name in cast("tuple[Values, ...]", _KINDS[kind])
    }


def _row(run: ExperimentRun, summary: dict[str, Any], bounds: dict[str, float]) -> dict[str, Any]:
    attainment = summary["slo_attainment"]
    weighted = attainment * (summary["mean_serving_accuracy"] or 0.0) / 100
    if attainment > bounds["attainment"] or weighted > bounds["accuracy"]:
        what, value = "a run exceeds what no policy can exceed", f"{weighted:.9g} > {bounds['accuracy']:.9g}"
        raise StoreError(f"run {run.id}", what, value, "the toolkit is at fault: please report it")
    return {
        "policy": run.label,
        "seed": run.seed,
        "slo_attainment": attainment,
        "attainment_bound": min(1.0, bounds["attainment"]),
        "attainment_share": min(1.0, attainment / bounds["attainment"]) if bounds["attainment"] else 1.0,
        "weighted_attainment": weighted,
        "weighted_bound": bounds["accuracy"],
        "weighted_share": min(1.0, weighted / bounds["accuracy"]) if bounds["accuracy"] else 1.0,
        **{name: bounds[name] for name in EXACT_COLUMNS if name in bounds},
        **run.swept,
        "run": run.id,
    }
