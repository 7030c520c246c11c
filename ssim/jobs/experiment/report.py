"""Stored results as one page: what it shows is collected here, once; `page/` says how it looks and moves.

The page holds everything, plotly's library included, and asks nothing of the network. The same results give the same
bytes. Tables are HTML, so that they are read without JavaScript; what is drawn is JSON.
"""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from figures import style
from sim.base.errors import StoreError
from sim.base.version import VERSION
from ssim.extras import require
from ssim.files.yaml_file import as_yaml
from ssim.jobs.experiment.bounds import stored_bounds
from ssim.jobs.experiment.points import by_point, side_by_side
from ssim.jobs.experiment.report_runs import MOST_WINDOWS, SHARES, run_data
from ssim.jobs.experiment.report_tables import COLUMNS, known_columns, part_tables, summary_table
from ssim.results.reading import Results
from ssim.results.store import INDEX, Store
from ssim.results.stored import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssim.jobs.experiment.points import Compared, PointRows

_ALL_WINDOWS = 100_000
"""All runs of a page are shown in about so many windows: hundreds of runs get fewer each, and open in a second."""

_FEWEST_WINDOWS = 100

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

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


@dataclass(slots=True)
class Report:
    """What the page shows.

    Attributes:
        experiments: What is drawn of each experiment: its `name`, the `swept` keys, `points` of the sweep, `policies`,
            `measures`, `table` (means over seeds, row by row as in its HTML) and `runs`.
        tables: What is read of each: HTML above the charts, and below them.
        runs: What is drawn of each run of each experiment, and its manifest.
        problems: What is not shown, and why, a line each.
    """

    experiments: list[dict[str, Any]] = field(default_factory=list)
    tables: list[tuple[str, str]] = field(default_factory=list)
    runs: list[list[dict[str, Any]]] = field(default_factory=list)
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
    there: dict[str, list[tuple[Any, Any]]] = {}
    results = {one.name: Results(one.parent, report.problems) for one in inner}
    for name, found in results.items():
        try:
            there[name] = list(found.runs(name))
        except StoreError as error:
            report.problems.append(str(error))
    most = max(_FEWEST_WINDOWS, min(MOST_WINDOWS, _ALL_WINDOWS // max(1, sum(map(len, there.values())))))
    for name, rows in there.items():
        stored, runs = [], []
        for run, manifest in rows:
            try:
                drawn = run_data(Store(results[name].folder / name), run["id"], manifest, most)
            except StoreError as error:
                results[name].note(name, run, str(error))
                continue
            stored.append((run, manifest))
            runs.append({**drawn, "manifest": manifest})
        if stored:
            _add(report, Store(results[name].folder / name), stored, runs)
    if not report.experiments:
        raise StoreError(str(folder), "no run to report", "; ".join(report.problems))
    return report


def _add(report: Report, store: Store, stored: list[tuple[Any, Any]], runs: list[dict[str, Any]]) -> None:
    """Add an experiment to a report."""
    index = store.index()
    points = by_point(index, stored)
    compared = [(number, one) for number, point in enumerate(points) for one in side_by_side({"": [point]})]
    measures = known_columns(manifest["summary"] for _, manifest in stored)
    names = sorted({run["policy"] for run, _ in stored}, key=style.order)
    report.experiments.append(
        {
            "name": index["name"],
            "swept": index["swept"],
            "points": [[str(point.swept[key]) for key in index["swept"]] for point in points],
            "policies": _looks(names),
            "measures": {name: COLUMNS[name] for name in measures},
            "table": [_drawn(number, one, measures) for number, one in compared],
            "bounds": _bounds(report, store, stored, points),
            "runs": [
                {"policy": run["policy"], "seed": run["seed"], "point": _place(run["swept"], points)}
                for run, _ in stored
            ],
        }
    )
    report.tables.append((summary_table(points, compared), _details(index, stored, points, compared)))
    report.runs.append(runs)


def _drawn(number: int, one: Compared, measures: Sequence[str]) -> dict[str, Any]:
    """Return what is drawn of a row of the table: means and half-widths of intervals, null where unknown."""
    estimates = {name: [_number(value) for value in one.row.over_repeats(name)] for name in measures}
    return {"point": number, "policy": one.row.policy, "values": estimates}


def _bounds(
    report: Report, store: Store, stored: Sequence[tuple[Any, Any]], points: Sequence[PointRows]
) -> list[list[float] | None]:
    """Return the stored bounds of each point of the sweep, means over seeds: on attainment, and times accuracy."""
    try:
        bounds = stored_bounds(store)
    except StoreError as error:
        report.problems.append(str(error))
        return [None] * len(points)
    by_seed: list[dict[int, tuple[float, float]]] = [{} for _ in points]
    for run, _ in stored:
        if run["id"] in bounds:
            by_seed[_place(run["swept"], points)][run["seed"]] = bounds[run["id"]]
    return [
        [sum(column) / len(known) for column in zip(*known.values(), strict=True)] if known else None
        for known in by_seed
    ]


def _place(swept: Mapping[str, Any], points: Sequence[PointRows]) -> int:
    return next(place for place, point in enumerate(points) if point.swept == swept)


def _looks(policies: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return how each policy is drawn; members of a family differ in the dashes of their lines."""
    found: dict[str, dict[str, str]] = {}
    members: Counter[str] = Counter()
    for policy in policies:
        look, family = style.look(policy), style.family(policy)
        symbol, dash = _SYMBOLS[look.marker] + ("" if look.filled else "-open"), _DASHES[members[family] % len(_DASHES)]
        found[policy] = {"colour": look.colour, "symbol": symbol, "dash": dash, "name": style.display_name(policy)}
        members[family] += 1
    return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _details(
    index: Mapping[str, Any],
    stored: Sequence[tuple[Any, Any]],
    points: Sequence[PointRows],
    compared: Sequence[tuple[int, Compared]],
) -> str:
    """Return what stands below the charts of an experiment: comparisons in words, tables of parts, and its file."""
    items = []
    for number, point in enumerate(points):
        sentences = [str(one.difference) for place, one in compared if place == number and one.difference is not None]
        where = f'<b class="scriptless">{html.escape(str(point))}: </b>' if point.swept else ""
        items += [
            f'<li data-point="{number}">{where}{html.escape(text)}</li>' for text in [*point.headlines, *sentences]
        ]
    lines = f'<section><h2>In words</h2><ul class="lines">{"".join(items)}</ul></section>' if items else ""
    spec = as_yaml(index["content"]) if "content" in index else ""
    file = f'<section><h2>The experiment</h2><pre class="spec" tabindex="0">{html.escape(spec)}</pre></section>'
    return lines + part_tables(stored, index["swept"]) + (file if spec else "")


def page(report: Report) -> str:
    """Return the page (HTML).

    Raises:
        SpecError: plotly is not installed.
    """
    parts = files("ssim.jobs.experiment") / "page"
    names = [html.escape(str(one["name"])) for one in report.experiments]
    title = names[0] if len(names) == 1 else f"{len(names)} experiments"
    problems = "".join(f"<li>{html.escape(problem)}</li>" for problem in report.problems)
    above, below = ("\n".join(_sections(names, report.tables, part)) for part in (0, 1))
    runs = (
        f'<script id="run-{experiment}-{number}" type="application/json">{_json(run)}</script>'
        for experiment, found in enumerate(report.runs)
        for number, run in enumerate(found)
    )
    return Template((parts / "report.html").read_text(encoding="utf-8")).substitute(
        title=title,
        version=VERSION,
        css=(parts / "report.css").read_text(encoding="utf-8"),
        problems=f'<section class="problems"><h2>Not in this report</h2><ul>{problems}</ul></section>'
        if problems
        else "",
        above=above,
        below=below,
        data=_json({"experiments": report.experiments, "shares": SHARES}),
        runs="\n".join(runs),
        plotly=_plotly(),
        js=(parts / "report.js").read_text(encoding="utf-8"),
    )


def _sections(names: Sequence[str], tables: Sequence[tuple[str, str]], part: int) -> list[str]:
    """Return what is read of each experiment, above the charts (0) or below them (1); only one is shown at a time."""
    found = []
    for number, (name, pair) in enumerate(zip(names, tables, strict=True)):
        heading = f"<section><h2>Summary of {name}</h2>{_HINT}" if part == 0 else ""
        heading = heading or (f'<h2 class="scriptless">{name}</h2>' if len(names) > 1 else "")
        end = "</section>" if part == 0 else ""
        found.append(f'<div class="experiment" data-experiment="{number}">{heading}{pair[part]}{end}</div>')
    return found


_HINT = (
    '<p class="hint">Mean and 95 % interval over seeds; differences from the reference are paired by seed.'
    '<span class="scripted"> A click on a row shows that policy over time, a click on a heading sorts.</span></p>'
)


def _json(data: object) -> str:
    """Return data as JSON that no HTML parser takes for markup."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _plotly() -> str:
    require("plotly")
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text
