"""What each stored run reached, as a share of what any policy could have reached on the same trace (`optimum.bound`).

A bound belongs to a trace, a cluster and a table, whatever the policy. It is stored beside the runs, under the hash of
all that decides it, and never computed twice.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optimum
from optimum import instance_of, upper_bound
from sim.errors import StoreError
from sim.whole_file import whole_file
from ssim.plugins import own_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ssim.expand import Experiment
    from ssim.run import Run
    from ssim.store import Store

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

_SCHEMA = "bound/1"


@dataclass(frozen=True, slots=True)
class Gaps:
    """What came of a comparison.

    Attributes:
        rows: A row a stored run, in the columns of gap.csv.
        missing: The runs that are not stored, which therefore could not be compared.
    """

    rows: tuple[dict[str, Any], ...]
    missing: tuple[Run, ...]


def find_gaps(
    experiment: Experiment, store: Store, *, jobs: int, on_bound: Callable[[int, int], None] = lambda _done, _of: None
) -> Gaps:
    """Return what each stored run of an experiment reached, and what any policy could have. The caller holds the store.

    Args:
        experiment: The experiment.
        store: Its results; the bounds are stored there.
        jobs: How many bounds are computed at once, in processes.
        on_bound: Told how many bounds are there, and of how many.

    Raises:
        StoreError: A result is damaged, or bounds can't be stored.
    """
    keys = {run.id: bound_key(run) for run in experiment.runs}
    needed = {keys[run.id]: run for run in reversed(experiment.runs)}
    bounds = {key: found for key in needed if (found := _stored(_file(store, key))) is not None}
    todo = [(key, run) for key, run in needed.items() if key not in bounds]
    on_bound(len(bounds), len(needed))
    for key, found in _computed(todo, jobs):
        with whole_file(_file(store, key)) as path:
            path.write_text(json.dumps({"schema": _SCHEMA, **found}) + "\n", encoding="utf-8")
        bounds[key] = found
        on_bound(len(bounds), len(needed))
    rows, missing = [], []
    for run in experiment.runs:
        manifest = store.manifest(run.id)
        if manifest is None:
            missing.append(run)
        else:
            rows.append(_row(run, manifest["summary"], bounds[keys[run.id]]))
    return Gaps(tuple(rows), tuple(missing))


def bound_key(run: Run) -> str:
    """Return the hash of all that decides the bound of a run: its identity without the policy, and code."""
    decided = {name: value for name, value in run.identity.items() if name not in {"policy", "code"}}
    sources = own_sources(type(run.build_source()), run.folder)
    code = {"toolkit": run.identity["code"]["toolkit"], "optimum": _code_hash(), "own": sorted(map(_hash_of, sources))}
    return hashlib.sha256(json.dumps([decided, code], sort_keys=True).encode()).hexdigest()[:12]


@lru_cache(maxsize=1)
def _code_hash() -> str:
    files = sorted(Path(optimum.__file__ or "").parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _file(store: Store, key: str) -> Path:
    return store.folder / "bounds" / f"{key}.json"


def _stored(path: Path) -> dict[str, float] | None:
    """Return a bound that is stored, or None where it is not, or damaged: it is computed again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] == _SCHEMA:
            return {name: float(found[name]) for name in ("attainment", "accuracy")}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _computed(todo: Sequence[tuple[str, Run]], jobs: int) -> Any:
    """Yield the bounds as they are done, in processes if there are several."""
    if len(todo) <= 1 or jobs == 1:
        for key, run in todo:
            yield key, _bounds(run)
        return
    with ProcessPoolExecutor(min(jobs, len(todo)), get_context("spawn")) as pool:
        try:
            yield from zip((key for key, _ in todo), pool.map(_bounds, [run for _, run in todo]), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _bounds(run: Run) -> dict[str, float]:
    """Return what no policy exceeds on the trace of a run, by what a query is worth."""
    trace, cluster, table = run.build_trace(), run.build_cluster(), run.build_table()
    return {
        "attainment": upper_bound(instance_of(trace, cluster, table, "attainment")).upper,
        "accuracy": upper_bound(instance_of(trace, cluster, table, "accuracy")).upper,
    }


def _row(run: Run, summary: dict[str, Any], bounds: dict[str, float]) -> dict[str, Any]:
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
        **run.swept,
    }
