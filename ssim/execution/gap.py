"""Each stored run's attainment as a share of the upper bound that holds for any policy on its trace (`sim.bounds`).

A bound belongs to a trace, a cluster and a table, whatever the policy. It is stored beside the runs, under the hash of
all that decides it, and never computed twice. Where workers come and go, it is that of a run of the same cost.
"""

from __future__ import annotations

import json
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sim.base.errors import SpecError, StoreError
from sim.base.whole_file import whole_file
from sim.bounds import CostFrontier, cost_frontier, instance_of, offline_optimum, upper_bound
from sim.engine.run_metrics import WHOLE_RUN
from ssim.execution.backends.local import processes
from ssim.jobs.experiment.bounds import frontier_file, gap_file
from ssim.jobs.experiment.summary import write_csv
from ssim.jobs.identity import code_of, hash_of, own_code, own_hash, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
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

QUEUE_COLUMNS = ("queues_attainment", "queues_bound", "queues_share")
"""What it has beside them for clusters with queues: the mean of the attainments of the queues by their weight."""

COST_COLUMNS = ("cost", "least_cost")
"""What it has where costs are known: the cost of the run, in money or else in worker hours, and what the same SLO
attainment and accuracy cost at least, with any policy and any planner."""

EXACT_COLUMNS = ("optimum_lower", "optimum_upper")
"""What it has beside them where the offline optimum was asked for: what the best schedule reaches, from and to."""

_FRONTIER_POINTS = 300

_SCHEMA = "bound/1"

_VALUES: tuple[Values, ...] = ("attainment", "accuracy")

_KINDS = {
    "": ("attainment", "accuracy"),
    "attainment": ("attainment",),
    "queues": ("queues",),
    "costs": ("attainment_lines", "accuracy_lines"),
    "exact": EXACT_COLUMNS,
}
"""What is stored of each kind of bound: both upper bounds, that on SLO attainment alone, that on the mean over queues
by weight, the frontiers over cost as lines (slope and base), the offline optimum."""

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
        frontiers: The frontiers of SLO attainment over cost, where costs are known.
    """

    rows: tuple[dict[str, Any], ...]
    missing: tuple[ExperimentRun, ...]
    frontiers: tuple[CostFrontier, ...] = ()


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
    asked = [(key, kind) for key, run in needed.items() for kind in _kinds(run, summaries[run.id], exact=exact)]
    found = {one: known for one in asked if (known := _stored(_file(store, *one), _KINDS[one[1]])) is not None}
    todo = [(one, needed[one[0]]) for one in asked if one not in found]
    on_bound(len(found), len(asked))
    with closing(_computed(todo, jobs)) as computed:
        for one, values in computed:
            _put(store, one, values)
            found[one] = values
            on_bound(len(found), len(asked))
    bounds: dict[str, dict[str, Any]] = {key: {} for key in needed}
    for (key, _), values in found.items():
        bounds[key] |= values
    rows = tuple(_row(run, summaries[run.id], bounds[keys[run.id]]) for run in compared)
    lines = [_frontier(values["attainment_lines"]) for values in bounds.values() if "attainment_lines" in values]
    return Gaps(rows, tuple(run for run in experiment.runs if run.id not in summaries), tuple(lines))


def _kinds(run: ExperimentRun, summary: dict[str, Any], *, exact: bool) -> Iterator[str]:
    """Yield which kinds of bounds a run is compared with."""
    cluster = run.parts.cluster
    if not cluster.is_scaled:
        yield ""
        if cluster.queues:
            yield "queues"
    if _cost(summary) is not None:
        yield "costs"
    if exact:
        yield "exact"


def _cost(summary: dict[str, Any]) -> float | None:
    """Return what a run cost, in money or else in worker hours; None if it is unknown."""
    found: float | None = summary.get("cost", summary.get("worker_h"))
    return found


def _frontier(lines: list[list[float]]) -> CostFrontier:
    slope, base = np.array(lines).T
    return CostFrontier(slope, base)


def write_gaps(experiment: Job, store: Store, gaps: Gaps) -> Path:
    """Write gap.csv, and frontier.csv where costs are known; return the path of gap.csv.

    Raises:
        StoreError: It can't be written.
    """
    path, rows = gap_file(store), gaps.rows
    more = [name for name in (*QUEUE_COLUMNS, *COST_COLUMNS, *EXACT_COLUMNS) if any(name in row for row in rows)]
    write_csv(path, rows, [*COLUMNS, *more, *experiment.swept, "run"])
    costs = [row["cost"] for row in rows if "cost" in row]
    if costs:
        reach = np.linspace(0.0, 1.1 * max(costs), _FRONTIER_POINTS).tolist()
        highest = [max(frontier.value(cost) for frontier in gaps.frontiers) for cost in reach]
        points = [
            {"cost": cost, "attainment_bound": min(1.0, value)} for cost, value in zip(reach, highest, strict=True)
        ]
        write_csv(frontier_file(store), points, ["cost", "attainment_bound"])
    else:
        frontier_file(store).unlink(missing_ok=True)
    return path


_DECISIONS = {"policy", "plan", "kind_plans", "queue_policies", "queue_plans", "planner", "code"}
"""What a bound does not depend on."""


def bound_key(run: ExperimentRun) -> str:
    """Return the hash of all that decides the bound of a run: its identity but for policies and planner, and code."""
    decided = {name: value for name, value in run.identity.items() if name not in _DECISIONS}
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
    return float(values["attainment"])


def _file(store: Store, key: str, kind: str) -> Path:
    return store.folder / "bounds" / f"{'-'.join(filter(None, (key, kind)))}.json"


def _put(store: Store, asked: _Asked, values: dict[str, Any]) -> None:
    with whole_file(_file(store, *asked)) as path:
        path.write_text(json.dumps({"schema": _SCHEMA, **values}) + "\n", encoding="utf-8")


def _stored(path: Path, names: Sequence[str]) -> dict[str, Any] | None:
    """Return a bound that is stored, or None where it is not, or damaged: it is computed again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] == _SCHEMA:
            return {name: np.array(found[name], np.float64).tolist() for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _computed(todo: Sequence[tuple[_Asked, ExperimentRun]], jobs: int) -> Generator[tuple[_Asked, dict[str, Any]]]:
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


def _bounds(run: ExperimentRun, kind: str) -> dict[str, Any]:
    """Return the bounds of a kind on the trace of a run."""
    trace, cluster, table = run.trace(), run.parts.cluster, run.parts.table
    match kind:
        case "exact":
            solved = offline_optimum(instance_of(trace, cluster, table), EXACT_SLOT_NS, EXACT_LIMIT_S)
            return dict(zip(EXACT_COLUMNS, (solved.lower, solved.upper), strict=True))
        case "queues":
            instance = instance_of(trace, cluster, table, "attainment", weighted=True)
            return {"queues": upper_bound(instance).upper}
        case "costs":
            prices = [kind.price_per_h for kind in cluster.kinds]
            known = [price for price in prices if price is not None]
            per_h = known if known and len(known) == len(prices) else [1.0] * max(1, len(prices))
            found = {}
            for name in _VALUES:
                frontier = cost_frontier(instance_of(trace, cluster, table, name), per_h)
                found[f"{name}_lines"] = np.column_stack([frontier.slope, frontier.base]).tolist()
            return found
        case _:
            names = cast("tuple[Values, ...]", _KINDS[kind])
            return {name: upper_bound(instance_of(trace, cluster, table, name)).upper for name in names}


def _row(run: ExperimentRun, summary: dict[str, Any], bounds: dict[str, Any]) -> dict[str, Any]:
    attainment = summary["slo_attainment"]
    weighted = attainment * (summary["mean_serving_accuracy"] or 0.0) / 100
    cost = _cost(summary)
    more: dict[str, Any] = {}
    if cost is not None:
        frontiers = {name: _frontier(bounds[f"{name}_lines"]) for name in _VALUES}
        least = max(frontiers["attainment"].least_cost(attainment), frontiers["accuracy"].least_cost(weighted))
        more = dict(zip(COST_COLUMNS, (cost, min(cost, least)), strict=True))
        if run.parts.cluster.is_scaled:
            bounds = bounds | {name: frontier.value(cost) for name, frontier in frontiers.items()}
    if "queues" in bounds:
        of_queues = summary["weighted_slo_attainment"]
        shares = (min(1.0, bounds["queues"]), _share(of_queues, bounds["queues"]))
        more |= dict(zip(QUEUE_COLUMNS, (of_queues, *shares), strict=True))
    if attainment > bounds["attainment"] or weighted > bounds["accuracy"]:
        what, value = "a run exceeds what no policy can exceed", f"{weighted:.9g} > {bounds['accuracy']:.9g}"
        raise StoreError(f"run {run.id}", what, value, "the toolkit is at fault: please report it")
    return {
        "policy": run.label,
        "seed": run.seed,
        "slo_attainment": attainment,
        "attainment_bound": min(1.0, bounds["attainment"]),
        "attainment_share": _share(attainment, bounds["attainment"]),
        "weighted_attainment": weighted,
        "weighted_bound": bounds["accuracy"],
        "weighted_share": _share(weighted, bounds["accuracy"]),
        **more,
        **{name: bounds[name] for name in EXACT_COLUMNS if name in bounds},
        **run.swept,
        "run": run.id,
    }


def _share(reached: float, bound: float) -> float:
    return min(1.0, reached / bound) if bound else 1.0
