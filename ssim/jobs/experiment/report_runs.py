"""What a report shows of one run: how it went over time, its latencies, and its workers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.base.errors import StoreError
from sim.base.units import NS_PER_MS, NS_PER_S
from sim.engine.run_metrics import NEVER_NS, Measure
from ssim.results.record import REQUESTS, WINDOWS, WORKERS, read_output, read_windows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from ssim.results.store import Store

    Column = npt.NDArray[np.float64]

MOST_WINDOWS = 720
"""A run is shown in no more windows: of a longer one, several are taken together."""

_MOST_SPANS = 4000
"""Spans of workers in a time line: more can't be told apart."""

SHARES = (*(n / 100 for n in range(100)), 0.995, 0.999, 0.9995, 0.9999, 1.0)
"""Shares of the answered queries for which a report has a latency."""

_COLUMNS = ("start_s", "end_s", "ingest_per_s", "serving_accuracy", "batch_size", "slo_attainment", "workers_busy")


def run_data(store: Store, run_id: str, manifest: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return what is drawn of a run, as JSON knows it: `windows`, `latency`, `workers` (null for each that is unknown).

    Args:
        store: The results of the experiment.
        run_id: The run.
        manifest: Its manifest.
        most: The largest number of windows.

    Raises:
        StoreError: A file is damaged.
    """
    windows = _windows(store, run_id, most) if WINDOWS in manifest["outputs"] else None
    latency = _latency(store, run_id, manifest) if REQUESTS in manifest["outputs"] else None
    end_s = windows["end_s"][-1] if windows and windows["end_s"] else None
    return {"windows": windows, "latency": latency, "workers": end_s and _workers(store, run_id, manifest, end_s)}


def _windows(store: Store, run_id: str, most: int) -> dict[str, list[float | None]]:
    """Return a run over time, by column."""
    table = _read(store, run_id, WINDOWS, _COLUMNS)
    columns = {name: table[name].to_numpy().astype(np.float64) for name in _COLUMNS}
    merged = together(columns, -(-len(columns["start_s"]) // most))
    return {name: _numbers(values) for name, values in merged.items()}


def together(columns: Mapping[str, Column], size: int) -> dict[str, Column]:
    """Return windows with so many neighbours taken together: means by what each stands for.

    Attainment is the mean over queries, accuracy over met queries, batch size (for want of their number) over time.

    Args:
        columns: As `sim.engine.metrics.windows` gives them, float64, shape (windows,).
        size: How many become one.
    """
    if size <= 1:
        return dict(columns)
    length = columns["end_s"] - columns["start_s"]
    queries = columns["ingest_per_s"] * length
    weights = {"slo_attainment": queries, "serving_accuracy": np.nan_to_num(queries * columns["slo_attainment"])}
    edges = np.arange(0, len(length), size)

    def mean(name: str) -> Column:
        values, weight = columns[name], weights.get(name, length)
        weight = np.where(np.isnan(values), 0.0, weight)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Column = np.add.reduceat(np.nan_to_num(values) * weight, edges) / np.add.reduceat(weight, edges)
        return found

    ends = np.append(edges[1:], len(length)) - 1
    ranges = {"start_s": columns["start_s"][edges], "end_s": columns["end_s"][ends]}
    return ranges | {name: mean(name) for name in columns if name not in ranges}


def _latency(store: Store, run_id: str, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the latencies of a run: `ms` for each of `SHARES`, the share `answered`, and the SLO if it is one.

    Only queries that arrive in the part of a run that is measured are counted; None without any.
    """
    table = _read(store, run_id, REQUESTS, ("arrival_ns", "deadline_ns", "finish_ns"))
    arrival = table["arrival_ns"].to_numpy()
    measure = Measure(**manifest["identity"].get("measure", {}))
    counted = (arrival >= measure.from_ns) & (arrival < measure.limit_ns(NEVER_NS))
    arrival, slo_ns = arrival[counted], (table["deadline_ns"].to_numpy() - arrival)[counted]
    latency = table["finish_ns"].to_numpy(zero_copy_only=False)[counted] - arrival
    answered = latency[~np.isnan(latency)]
    if not len(answered):
        return None
    return {
        "ms": _numbers(np.quantile(answered, SHARES) / NS_PER_MS),
        "answered": len(answered) / len(arrival),
        "slo_ms": float(slo_ns[0]) / NS_PER_MS if (slo_ns == slo_ns[0]).all() else None,
    }


def _workers(store: Store, run_id: str, manifest: Mapping[str, Any], end_s: float) -> dict[str, Any] | None:
    """Return the spans of the workers of a run, if they come and go or fail: `[worker, from_s, to_s, state]` each.

    A state is the kind of a worker that can serve, `starting` or `failed`. `workers` is their number; `left_out` is how
    many spans are not there because they are too many.
    """
    cluster = manifest["identity"]["cluster"]
    end_ns = int(end_s * NS_PER_S)
    if WORKERS in manifest["outputs"]:
        table = _read(store, run_id, WORKERS, ("kind", "asked_ns", "ready_ns", "gone_ns"))
        rows = [
            (kind, asked, ready, end_ns if gone is None else gone)
            for kind, asked, ready, gone in zip(*(column.to_pylist() for column in table.columns), strict=True)
        ]
    elif cluster["faults"]:
        kinds = [kind["name"] for kind in cluster.get("kinds", ()) for _ in range(kind["workers"])]
        rows = [(kind, 0, 0, end_ns) for kind in kinds or [""] * cluster["workers"]]
    else:
        return None
    failures = [(one["worker"], one["at_ns"], one["recover_ns"]) for one in cluster["faults"]]
    spans: list[tuple[int, int, int, str]] = []
    for number, (kind, asked, ready, gone) in enumerate(rows):
        spans.append((number, asked, min(ready, gone), "starting"))
        since = ready
        for worker, at_ns, back_ns in sorted(failures):
            if worker == number and at_ns < gone:
                until = gone if back_ns is None else min(back_ns, gone)
                spans += [(number, since, at_ns, kind or "serving"), (number, max(at_ns, since), until, "failed")]
                since = max(since, until)
        spans.append((number, since, gone, kind or "serving"))
    shown = [(number, a, min(b, end_ns), state) for number, a, b, state in spans if a < min(b, end_ns)]
    told = [[number, a / NS_PER_S, b / NS_PER_S, state] for number, a, b, state in shown[:_MOST_SPANS]]
    return {"spans": told, "workers": len(rows), "left_out": len(shown) - len(told)}


def _read(store: Store, run_id: str, name: str, columns: Sequence[str]) -> pa.Table:
    """Return columns of a file of a run.

    Raises:
        StoreError: It is damaged.
    """
    table = read_windows(store, run_id) if name == WINDOWS else read_output(store, run_id, name)
    try:
        return table.select(list(columns))
    except KeyError as error:
        raise StoreError(name, "is damaged", f"no {error}", "run the experiment again") from error


def _numbers(values: Column) -> list[float | None]:
    """Return numbers as JSON knows them, to seven digits."""
    return [None if math.isnan(value) else float(f"{value:.7g}") for value in values]
