"""The stored files of a run of an experiment: its summary and, as the file asks, windows, batches and queries."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import StoreError
from sim.base.parquet import read_parquet
from sim.base.units import NS_PER_S
from sim.engine import histogram, metrics
from sim.engine.arrow import arrow_table, batches_table, queries_table, workers_table
from sim.engine.classes import by_class
from sim.engine.kind_metrics import NS_PER_H, by_kind, total
from sim.engine.queue_metrics import by_queue, jain_index, weighted_accuracy, weighted_attainment
from sim.engine.result import Result
from sim.engine.run_metrics import Outcome
from ssim.results.store import MANIFEST, RUN_AGAIN, manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sim.engine.run_metrics import RunMetrics
    from ssim.results.store import Store

Keep = Literal["summary", "windows", "batches", "requests"]
"""How much of a run is stored: its figures; and how they go in windows of 1 s; and each batch; and each query."""

WINDOWS, BATCHES, REQUESTS = "windows.parquet", "batches.parquet", "requests.parquet"
WORKERS = "workers.parquet"
"""Each worker of a run with a planner, whatever is kept."""

QUEUE_FIGURES = ("rejected", "cancelled", "weighted_slo_attainment", "weighted_serving_accuracy", "jain_index")
"""Figures of runs with queues: queries that were rejected; attainment and accuracy weighted by queue; how even the
attainments of the queues are. Live runs have rejected and cancelled queries, too."""

COSTS = ("cost", "met_per_cost", "energy_kwh", "met_per_kwh", "worker_h", "startup_h")
"""Figures of runs whose workers have a price, in its currency, or powers, or come and go; queries that met their SLO
are counted."""

LOADS = ("loads", "loading_s")
"""Figures of runs with limited memory: batches that waited for weights to be loaded, and how long they all waited."""

KEPT: dict[Keep, tuple[str, ...]] = {
    "summary": (),
    "windows": (WINDOWS,),
    "batches": (WINDOWS, BATCHES),
    "requests": (WINDOWS, BATCHES, REQUESTS),
}
"""The files of a run beside its manifest, by how much of it is stored."""


def put_run(
    store: Store,
    run_id: str,
    run: RunMetrics,
    identity: dict[str, Any],
    circumstances: dict[str, Any],
    keep: Keep,
    beside: Mapping[str, pa.Table] | None = None,
    counted: Sequence[Outcome] = (),
) -> None:
    """Store a run. A run that is there already is replaced.

    Args:
        store: The results of the experiment.
        run_id: Its id.
        run: Its outcome; a `Result` where more than windows are kept.
        identity: All that decided it.
        circumstances: Time, versions, machine.
        keep: How much of it is stored.
        beside: Further tables, by the names of their files.
        counted: Outcomes whose queries the summary counts, too.

    Raises:
        StoreError: The disk is full, or the folder can't be written; nothing half written stays.
    """
    tables = {name: _TABLES[name](run) for name in KEPT[keep]}
    if run.fleet is not None:
        tables[WORKERS] = workers_table(run.fleet, [kind.name for kind in run.cluster.kinds])
    tables |= beside or {}
    more: dict[str, Any] = {"latency_quantiles": "exact" if _is_exact(keep) else "within 0.2 %"}
    if queues := _by_queue(run, keep):
        more["queues"] = queues
    elif classes := _by_class(run, keep):
        more["classes"] = classes
    if run.cluster.kinds:
        more["kinds"] = _by_kind(run)
    figures = _summary(run, keep) | {outcome.name.lower(): run.count(outcome) for outcome in counted}
    if not tables:
        store.add(run_id, manifest_of(identity, figures, {}, circumstances, **more))
        return
    with store.replacing(run_id) as folder:
        outputs = {name: _write(folder / name, table) for name, table in tables.items()}
        manifest = manifest_of(identity, figures, outputs, circumstances, indent=1, **more)
        (folder / MANIFEST).write_bytes(manifest)


def read_windows(store: Store, run_id: str) -> pa.Table:
    """Return a complete run over time, in windows of 1 s; see `sim.engine.metrics.windows`.

    Of a run that an earlier version stored, the last window ends after 1 s, like the others.

    Raises:
        StoreError: The file is damaged.
    """
    table = read_output(store, run_id, WINDOWS)
    if "end_s" not in table.column_names and "start_s" in table.column_names:
        table = table.append_column("end_s", pa.array(table["start_s"].to_numpy() + 1.0))
    return table


def read_output(store: Store, run_id: str, name: str) -> pa.Table:
    """Return a file of a complete run: `WINDOWS`, `BATCHES` or `REQUESTS`.

    Raises:
        StoreError: The file is damaged.
    """
    path = store.folder / run_id / name
    try:
        return read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(str(path), "is damaged or missing", str(error), RUN_AGAIN) from error


def _is_exact(keep: Keep) -> bool:
    """Return whether quantiles are those of the latencies themselves: where no query is kept, they are counted ones.

    Also by an engine that has every query at hand, so that the figures of a run do not depend on the engine.
    """
    return BATCHES in KEPT[keep]


def _summary(run: RunMetrics, keep: Keep) -> dict[str, Any]:
    """Return the figures of a run, in the columns of summary.csv."""
    quantile_ns: Callable[[float], float] = run.latency_quantile_ns
    if isinstance(run, Result) and not _is_exact(keep):
        quantile_ns = partial(histogram.quantile_ns, histogram.latency_histogram(run.latency_ns))
    found = {
        "queries": run.queries,
        "slo_attainment": metrics.slo_attainment(run),
        "mean_serving_accuracy": _number(metrics.mean_serving_accuracy(run)),
        "dropped": run.count(Outcome.DROPPED),
        "late": run.count(Outcome.LATE),
        "p50_latency_ms": _number(quantile_ns(0.50) / 1e6),
        "p99_latency_ms": _number(quantile_ns(0.99) / 1e6),
        "utilisation": _number(metrics.utilisation(run)),
        "mean_batch_size": _number(metrics.mean_batch_size(run)),
        "unfinished": run.count(Outcome.UNFINISHED),
    }
    return found | _of_queues(run) | _costs(run) | _loads(run)


def _of_queues(run: RunMetrics) -> dict[str, float | None]:
    """Return the figures of a run with queues that are about them all; empty without queues."""
    queues = by_queue(run) if isinstance(run, Result) else []
    if not queues:
        return {}
    return {
        "rejected": run.count(Outcome.REJECTED),
        "weighted_slo_attainment": _number(weighted_attainment(queues)),
        "weighted_serving_accuracy": _number(weighted_accuracy(queues)),
        "jain_index": _number(jain_index([metrics.slo_attainment(one.queries) for one in queues if one.queries])),
    }


def _loads(run: RunMetrics) -> dict[str, float]:
    """Return how often and how long batches waited for weights; empty where all workers hold all."""
    if not (isinstance(run, Result) and run.cluster.has_limited_memory):
        return {}
    load_ns = run.batches.load_ns[run.started]
    return {"loads": int(np.count_nonzero(load_ns)), "loading_s": int(load_ns.sum()) / NS_PER_S}


def _costs(run: RunMetrics) -> dict[str, float | None]:
    """Return what a run cost, and the queries that met their SLO for it; empty if it is unknown."""
    kinds = by_kind(run)
    found: dict[str, float | None] = {}
    totals = {"cost": total([kind.cost for kind in kinds]), "kwh": total([kind.energy_kwh for kind in kinds])}
    for name, value in totals.items():
        if value is not None:
            found["energy_kwh" if name == "kwh" else name] = value
            found[f"met_per_{name}"] = run.count(Outcome.MET) / value if value else None
    if run.fleet is not None:
        available_ns, startup_ns = (
            until(run.until_ns) - until(run.from_ns) for until in (run.fleet.available_ns, run.fleet.started_up_ns)
        )
        found["worker_h"], found["startup_h"] = (available_ns + startup_ns) / NS_PER_H, startup_ns / NS_PER_H
    return found


def _by_kind(run: RunMetrics) -> dict[str, dict[str, Any]]:
    """Return the figures of each kind of workers."""
    return {
        one.kind.name: {
            "workers": one.kind.workers,
            "offered": one.offered,
            "batches": one.batches,
            "queries": one.batched,
            "met": one.met,
            "mean_serving_accuracy": _number(one.mean_serving_accuracy),
            "utilisation": _number(one.utilisation),
            "mean_batch_size": _number(one.mean_batch_size),
            "worker_h": one.worker_h,
            **({} if run.fleet is None else {"startup_h": one.startup_h}),
            "cost": one.cost,
            "currency": run.cluster.currency,
            "energy_kwh": one.energy_kwh,
        }
        for one in by_kind(run)
    }


def _by_class(run: RunMetrics, keep: Keep) -> dict[str, dict[str, Any]]:
    """Return the figures of each class of queries, those that are of queries and not of batches."""
    classes = by_class(run) if isinstance(run, Result) else ()
    return {name: _of_queries(part, keep) for name, part in classes}


def _by_queue(run: RunMetrics, keep: Keep) -> dict[str, dict[str, Any]]:
    """Return the figures of each queue."""
    queues = by_queue(run) if isinstance(run, Result) else []
    placement = run.cluster.placement
    return {
        one.queue.name: {
            "weight": one.queue.weight,
            **(_NO_QUERIES if one.queries is None else _of_queries(one.queries, keep)),
            "rejected": 0 if one.queries is None else one.queries.count(Outcome.REJECTED),
            "batches": one.batches,
            "mean_batch_size": _number(one.mean_batch_size),
            "busy_share": one.busy_ns / run.busy_ns if run.busy_ns else None,
            **({} if placement is None else {"placement": [*placement[one.queue.name]]}),
        }
        for one in queues
    }


_NO_QUERIES: dict[str, Any] = {
    "queries": 0,
    "slo_attainment": None,
    "mean_serving_accuracy": None,
    "dropped": 0,
    "late": 0,
    "p50_latency_ms": None,
    "p99_latency_ms": None,
    "unfinished": 0,
}
"""The figures of a queue without a measured query, in the columns of `_of_queries`."""


def _of_queries(part: Result, keep: Keep) -> dict[str, Any]:
    """Return the figures of some queries: those of a summary that are not about batches or queues."""
    others = {"utilisation", "mean_batch_size", *COSTS, *QUEUE_FIGURES, *LOADS}
    return {column: value for column, value in _summary(part, keep).items() if column not in others}


def _number(value: float) -> float | None:
    """Return a number as JSON knows it: there is no NaN."""
    return None if np.isnan(value) else value


def _windows(run: RunMetrics) -> pa.Table:
    meaning = "per window of 1 s; queries by arrival, batches by start"
    return arrow_table("windows/1", **{name: (values, meaning) for name, values in metrics.windows(run).items()})


_TABLES: dict[str, Any] = {
    WINDOWS: _windows,
    BATCHES: batches_table,
    REQUESTS: queries_table,
}


def _write(path: Path, table: pa.Table) -> dict[str, Any]:
    """Write a parquet file and return its entry in the manifest."""
    times = [name for name in table.column_names if name.endswith("_ns")]
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": [name for name in table.column_names if name not in times],
        "column_encoding": dict.fromkeys(times, "DELTA_BINARY_PACKED"),
    }
    pq.write_table(table, path, **options)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"rows": table.num_rows, "bytes": path.stat().st_size, "sha256": digest}
