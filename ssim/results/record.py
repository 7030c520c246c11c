"""What is stored of a run of an experiment: its figures, and as much of it over time as the file asks for."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import StoreError
from sim.base.parquet import read_parquet
from sim.engine import histogram, metrics
from sim.engine.result import NONE, Result
from sim.engine.run_metrics import Outcome
from ssim.results.store import MANIFEST, MEND, write_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.engine.run_metrics import RunMetrics
    from ssim.results.store import Store

Keep = Literal["summary", "windows", "batches", "requests"]
"""How much of a run is stored: its figures; and how they go in windows of 1 s; and each batch; and each query."""

WINDOWS, BATCHES, REQUESTS = "windows.parquet", "batches.parquet", "requests.parquet"

KEPT: dict[Keep, tuple[str, ...]] = {
    "summary": (),
    "windows": (WINDOWS,),
    "batches": (WINDOWS, BATCHES),
    "requests": (WINDOWS, BATCHES, REQUESTS),
}
"""The files of a run beside its manifest, by how much of it is stored."""


def put_run(
    store: Store, run_id: str, run: RunMetrics, identity: dict[str, Any], circumstances: dict[str, Any], keep: Keep
) -> None:
    """Store a run. A run that is there already is replaced.

    Args:
        store: The results of the experiment.
        run_id: Its id.
        run: What came out of it; a `Result` where more than windows is kept.
        identity: All that decided it.
        circumstances: What else was there.
        keep: How much of it is stored.

    Raises:
        StoreError: The disk is full, or the folder can't be written; nothing half written stays.
    """
    with store.replacing(run_id) as folder:
        outputs = {name: _write(folder / name, _TABLES[name](run)) for name in KEPT[keep]}
        quantiles = "exact" if _is_exact(keep) else "within 0.2 %"
        write_manifest(
            folder / MANIFEST, identity, _summary(run, keep), outputs, circumstances, latency_quantiles=quantiles
        )


def read_windows(store: Store, run_id: str) -> pa.Table:
    """Return a complete run over time, in windows of 1 s; see `sim.engine.metrics.windows`.

    Raises:
        StoreError: The file is damaged.
    """
    path = store.folder / run_id / WINDOWS
    try:
        return read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(str(path), "is damaged or missing", str(error), MEND) from error


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
    return {
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


def _number(value: float) -> float | None:
    """Return a number as JSON knows it: there is no NaN."""
    return None if np.isnan(value) else value


def _batches(result: Result) -> pa.Table:
    batches = result.batches
    return _table(
        "batches/1",
        start_ns=(batches.start_ns, "dispatch, ns from the start of the run"),
        finish_ns=(batches.finish_ns, "answer, or failure of the worker, ns"),
        worker=(batches.worker.astype(np.int32), "number of the worker"),
        subnet=(_named(batches.subnet, _subnets(result)), "id of the subnet"),
        size=(batches.size.astype(np.int32), "queries"),
        lost=(batches.lost, "the worker failed meanwhile"),
    )


def _requests(result: Result) -> pa.Table:
    def per_query(column: Any) -> pa.Array:
        values = result.per_query(column)
        return pa.array(values, mask=values == NONE)

    batches = result.batches
    subnet = result.per_query(batches.subnet)
    finish = result.per_query(batches.finish_ns)
    return _table(
        "requests/1",
        arrival_ns=(result.trace.arrival_ns, "ns from the start of the run"),
        deadline_ns=(result.trace.deadline_ns, "ns"),
        start_ns=(per_query(batches.start_ns), "dispatch of its batch, ns; null: never"),
        finish_ns=(pa.array(finish, mask=~result.answered), "answer, ns; null: never"),
        worker=(per_query(batches.worker).cast(pa.int32()), "number of the worker; null: none"),
        subnet=(_named(subnet, _subnets(result), mask=subnet == NONE), "id of the subnet; null: none"),
        batch_size=(per_query(batches.size).cast(pa.int32()), "queries in its batch; null: none"),
        outcome=(
            _named(result.outcome, [outcome.name.lower() for outcome in Outcome]),
            "met, late, dropped or unfinished",
        ),
    )


def _windows(run: RunMetrics) -> pa.Table:
    meaning = "per window of 1 s; queries by arrival, batches by start"
    return _table("windows/1", **{name: (values, meaning) for name, values in metrics.windows(run).items()})


_TABLES: dict[str, Any] = {
    WINDOWS: _windows,
    BATCHES: _batches,
    REQUESTS: _requests,
}


def _subnets(result: Result) -> list[str]:
    return [subnet.id for subnet in result.table.subnets]


def _named(codes: Any, names: list[str], mask: Any = None) -> pa.Array:
    indices = pa.array(
        np.asarray(codes).astype(np.int8 if len(names) <= np.iinfo(np.int8).max else np.int32), mask=mask
    )
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def _table(schema: str, **columns: tuple[Any, str]) -> pa.Table:
    """Return a table whose columns carry their meaning and which carries its schema."""
    arrays = [pa.array(values) if isinstance(values, np.ndarray) else values for values, _ in columns.values()]
    fields = [
        pa.field(name, array.type, metadata={"meaning": meaning})
        for (name, (_, meaning)), array in zip(columns.items(), arrays, strict=True)
    ]
    return pa.table(arrays, schema=pa.schema(fields, metadata={"schema": schema}))


def _write(path: Path, table: pa.Table) -> dict[str, Any]:
    """Write a parquet file and return what the manifest says of it."""
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
