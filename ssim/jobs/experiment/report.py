"""Stored results as one page: what it shows is collected here, once; `page/` says how it looks and moves.

The page holds everything, plotly's library included, and asks nothing of the network. The same results give the same
bytes.
"""

from __future__ import annotations

import html
import json
import math
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from figures import style
from sim.base.errors import StoreError
from sim.base.version import VERSION
from ssim.extras import require
from ssim.files.yaml_file import as_yaml
from ssim.jobs.experiment.points import by_point, side_by_side
from ssim.results.reading import Results
from ssim.results.record import WINDOWS, read_windows
from ssim.results.store import INDEX, Store
from ssim.results.stored import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from ssim.jobs.experiment.points import Compared, PointRows, Row

    Column = npt.NDArray[np.float64]

MOST_WINDOWS = 720
"""A run is shown in no more windows: of a longer one, several are taken together."""

COLUMNS = {
    "slo_attainment": ("SLO attainment", 6),
    "mean_serving_accuracy": ("accuracy %", 2),
    "p50_latency_ms": ("p50 ms", 1),
    "p99_latency_ms": ("p99 ms", 1),
    "mean_batch_size": ("batch", 1),
    "utilisation": ("busy", 2),
    "dropped": ("dropped", 0),
    "queries": ("queries", 0),
}
"""The columns of the table: of summary.csv, how they are called, and with how many decimals they are shown."""

CLASS_COLUMNS = tuple(name for name in COLUMNS if name not in {"mean_batch_size", "utilisation"})
"""The columns of the table by class of queries: those that are not about batches."""

DIFFERENCES = {"attainment_difference": "attainment difference", "accuracy_difference": "accuracy difference"}
"""Columns with the differences from the reference, and what they are called."""

_SYMBOLS = {
    "*": "star",
    "o": "circle",
    "D": "diamond",
    "^": "triangle-up",
    "s": "square",
    "v": "triangle-down",
    "p": "pentagon",
    "h": "hexagon",
    "X": "x",
    "P": "cross",
    "<": "triangle-left",
    ">": "triangle-right",
    "8": "octagon",
}
"""What plotly calls the markers of the figures."""


@dataclass(slots=True)
class Report:
    """What the page shows.

    Attributes:
        experiments: One mapping an experiment: `name`, `spec` (YAML), `swept` keys, `points` of the sweep,
            `policies`, `runs`, and the `table` over seeds.
        problems: What is not shown, and why, a line each.
    """

    experiments: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def collect(folder: Path) -> Report:
    """Return what a page of stored results shows; nothing that is stored is changed.

    Args:
        folder: That of one experiment, or one with several of them.

    Raises:
        StoreError: No run of any experiment is stored there.
    """
    if not folder.is_dir():
        what = "is a file, not a folder of results" if folder.is_file() else "folder not found"
        raise StoreError(str(folder), what, "", listed(Path("results") if folder.is_file() else folder.parent))
    inner = sorted(path.parent for path in folder.glob(f"*/{INDEX}"))
    if (folder / INDEX).exists() or not inner:
        inner = [folder]
    report = Report()
    for one in inner:
        results = Results(one.parent, report.problems)
        try:
            report.experiments.append(_experiment(results, one.name))
        except StoreError as error:
            report.problems.append(str(error))
    if not report.experiments:
        raise StoreError(str(folder), "no run to report", "; ".join(report.problems))
    return report


def _experiment(results: Results, name: str) -> dict[str, Any]:
    store = Store(results.folder / name)
    index = store.index()
    stored: list[tuple[Any, Any]] = []
    runs: list[dict[str, Any]] = []
    for run, manifest in results.runs(name):
        try:
            windows = _windows(store, run["id"], manifest)
        except StoreError as error:
            results.note(index["name"], run, str(error))
            continue
        stored.append((run, manifest))
        known = {"policy": run["policy"], "seed": run["seed"], "swept": run["swept"], "id": run["id"]}
        runs.append({**known, "summary": manifest["summary"], "windows": windows, "manifest": manifest})
    if not runs:
        raise StoreError(str(store.folder), "no run is stored", "", "run the experiment first")
    policies = {run["policy"]: _look(run["policy"]) for run in sorted(runs, key=lambda run: style.order(run["policy"]))}
    points = by_point(index, stored)
    return {
        "name": index["name"],
        "spec": as_yaml(index["content"]) if "content" in index else "",
        "swept": index["swept"],
        "points": [
            {"values": [str(point.swept[key]) for key in index["swept"]], "lines": point.headlines} for point in points
        ],
        "policies": policies,
        "runs": [{**run, "point": _place(run.pop("swept"), points)} for run in runs],
        "table": list(_table(points)),
    }


def _place(swept: Mapping[str, Any], points: Sequence[PointRows]) -> int:
    return next(place for place, point in enumerate(points) if point.swept == swept)


def _look(policy: str) -> dict[str, str]:
    look = style.look(policy)
    symbol = _SYMBOLS[look.marker] + ("" if look.filled else "-open")
    return {"colour": look.colour, "symbol": symbol, "name": style.display_name(policy)}


def _windows(store: Store, run_id: str, manifest: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    """Return a run over time, by column; None if that was not kept."""
    if WINDOWS not in manifest["outputs"]:
        return None
    table = read_windows(store, run_id)
    try:
        columns = {
            name: table[name].to_numpy().astype(np.float64)
            for name in ("start_s", "ingest_per_s", "serving_accuracy", "batch_size", "slo_attainment", "workers_busy")
        }
    except KeyError as error:
        raise StoreError(WINDOWS, "is damaged", f"no {error}", "run the experiment again") from error
    starts = columns["start_s"]
    merged = together(columns, -(-len(starts) // MOST_WINDOWS))
    width = starts[1] - starts[0] if len(starts) > 1 else 1.0
    merged["end_s"] = np.append(merged["start_s"][1:], starts[-1:] + width)
    return {name: [None if math.isnan(value) else float(f"{value:.7g}") for value in merged[name]] for name in merged}


def together(columns: Mapping[str, Column], size: int) -> dict[str, Column]:
    """Return windows with so many neighbours taken together: means by what each stands for.

    Attainment is the mean over queries, accuracy over met queries, batch size (for want of their number) over windows.

    Args:
        columns: As `sim.engine.metrics.windows` gives them, float64, shape (windows,).
        size: How many become one.
    """
    if size <= 1:
        return dict(columns)
    ingest = columns["ingest_per_s"]
    met = np.nan_to_num(ingest * columns["slo_attainment"])
    even = np.ones_like(ingest)
    weights = {"slo_attainment": ingest, "serving_accuracy": met}
    edges = np.arange(0, len(ingest), size)

    def mean(name: str) -> Column:
        values, weight = columns[name], weights.get(name, even)
        weight = np.where(np.isnan(values), 0.0, weight)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Column = np.add.reduceat(np.nan_to_num(values) * weight, edges) / np.add.reduceat(weight, edges)
        return found

    return {"start_s": columns["start_s"][edges]} | {name: mean(name) for name in columns if name != "start_s"}


def page(report: Report) -> str:
    """Return the page (HTML).

    Raises:
        SpecError: plotly is not installed.
    """
    parts = files("ssim.jobs.experiment") / "page"
    columns = [*((name, shown) for name, (shown, _) in COLUMNS.items()), *DIFFERENCES.items()]
    content = {
        "columns": columns,
        "class_columns": [COLUMNS[name][0] for name in CLASS_COLUMNS],
        "experiments": report.experiments,
    }
    data = json.dumps(content, separators=(",", ":"), allow_nan=False)
    names = [str(one["name"]) for one in report.experiments]
    title = names[0] if len(names) == 1 else f"{len(names)} experiments"
    listed = "".join(f"<li>{html.escape(problem)}</li>" for problem in report.problems)
    return Template((parts / "report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        version=VERSION,
        css=(parts / "report.css").read_text(encoding="utf-8"),
        problems=f"<section class=problems><h2>Not in this report</h2><ul>{listed}</ul></section>" if listed else "",
        data=data.replace("</", "<\\/"),
        plotly=_plotly(),
        js=(parts / "report.js").read_text(encoding="utf-8"),
    )


def _plotly() -> str:
    require("plotly")
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text


def _table(points: Sequence[PointRows]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table: one a policy at a point of the sweep, over seeds, best attainment first."""
    for number, point in enumerate(points):
        for one in side_by_side({"": [point]}):
            estimates = {name: _estimate(*one.row.over_repeats(name)) for name in COLUMNS}
            yield {
                "point": number,
                "policy": one.row.policy,
                "runs": len(one.row.summaries),
                "shown": {name: _shown(*estimates[name], COLUMNS[name][1]) for name in COLUMNS} | _differences(one),
                "classes": {name: _class_cells(one.row, name) for name in one.row.classes},
                "sentence": "" if one.difference is None else str(one.difference),
                "slo_attainment": estimates["slo_attainment"],
                "mean_serving_accuracy": estimates["mean_serving_accuracy"],
            }


def _class_cells(row: Row, of_class: str) -> list[str]:
    """Return the cells of a policy in the table of a class of queries, in the columns of `CLASS_COLUMNS`."""
    return [_shown(*_estimate(*row.over_repeats(name, of_class)), COLUMNS[name][1]) for name in CLASS_COLUMNS]


def _differences(one: Compared) -> dict[str, str]:
    if one.difference is None:
        return dict.fromkeys(DIFFERENCES, "reference" if one.is_reference else "-")
    attainment, accuracy = _estimate(*one.difference.attainment), _estimate(*one.difference.accuracy)
    return dict(zip(DIFFERENCES, (_shown(*attainment, 6, "+"), _shown(*accuracy, 2, "+")), strict=True))


def _estimate(mean: float, half: float) -> tuple[float | None, float | None]:
    """Return a mean and its half-width as JSON knows them: there is no NaN."""
    return None if math.isnan(mean) else mean, None if math.isnan(half) else half


def _shown(mean: float | None, half: float | None, decimals: int, sign: str = "") -> str:
    if mean is None:
        return "-"
    wide = f"{half or 0.0:,.{decimals}f}"
    return f"{mean:{sign},.{decimals}f}" + (f" ± {wide}" if float(wide.replace(",", "")) else "")
