"""The tables of a report, as HTML that is read without JavaScript; the script of the page sorts and filters them."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any, Literal

from sim.base.intervals import mean_and_half_width
from ssim.jobs.experiment.summary import part_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ssim.jobs.experiment.points import Compared, PointRows
    from ssim.jobs.experiment.summary import Stored

    Part = Literal["class", "queue", "kind"]

COLUMNS = {
    "slo_attainment": ("SLO attainment", 6),
    "mean_serving_accuracy": ("accuracy %", 2),
    "p50_latency_ms": ("p50 ms", 1),
    "p99_latency_ms": ("p99 ms", 1),
    "mean_batch_size": ("batch", 1),
    "utilisation": ("busy", 2),
    "dropped": ("dropped", 0),
    "queries": ("queries", 0),
    "rejected": ("rejected", 0),
    "weighted_slo_attainment": ("weighted attainment", 6),
    "weighted_serving_accuracy": ("weighted accuracy %", 2),
    "jain_index": ("Jain index", 3),
    "cost": ("cost", 4),
    "met_per_cost": ("met per cost", 0),
    "energy_kwh": ("kWh", 4),
    "met_per_kwh": ("met per kWh", 0),
    "worker_h": ("worker hours", 3),
    "startup_h": ("start-up hours", 3),
}
"""The columns of summary.csv that a report shows where they are known, what they are called, and their decimals."""

_OF_PARTS = COLUMNS | {
    "weight": ("weight", 1),
    "workers": ("workers", 0),
    "offered": ("offered", 0),
    "batches": ("batches", 0),
    "met": ("met", 0),
    "busy_share": ("share of busy time", 3),
}
"""The same of classes.csv, queues.csv and kinds.csv."""

PARTS: dict[Part, str] = {"queue": "Queues", "class": "Classes of queries", "kind": "Kinds of workers"}

DIFFERENCES = ("attainment difference", "accuracy difference")
"""Columns with the differences from the reference."""


def known_columns(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, tuple[str, int]] = COLUMNS) -> list[str]:
    """Return the columns for which some row has a value, in order."""
    there = {name for row in rows for name, value in row.items() if value is not None}
    return [name for name in columns if name in there]


def summary_table(points: Sequence[PointRows], compared: Sequence[tuple[int, Compared]]) -> str:
    """Return the table of the policies (HTML): a row each at each point of the sweep, numbered by `data-row`.

    Args:
        points: The points of the sweep.
        compared: The rows: the number of a point, and a policy there.
    """
    columns = known_columns(summary for _, one in compared for summary in one.row.summaries.values())
    heads = ["policy", *points[0].swept, *(COLUMNS[name][0] for name in columns), *DIFFERENCES, "seeds"]
    rows = []
    for _, one in compared:
        told = [one.row.policy, *map(str, one.swept.values())]
        numbers = [shown(*one.row.over_repeats(name), COLUMNS[name][1]) for name in columns]
        rows.append([*told, *numbers, *_differences(one), str(len(one.row.summaries))])
    return _table(heads, rows, 1 + len(points[0].swept), "summary")


def part_tables(stored: Stored, swept: Sequence[str]) -> str:
    """Return a table each of queues, classes of queries and kinds of workers, where there are any (HTML).

    Args:
        stored: The stored runs, each with its manifest.
        swept: The swept keys.
    """
    return "".join(_parts_of(part, part_rows(stored, part), swept) for part in PARTS)


def _parts_of(part: Part, rows: Sequence[Mapping[str, Any]], swept: Sequence[str]) -> str:
    if not rows:
        return ""
    columns = known_columns(rows, _OF_PARTS)
    told = (part, "policy", *swept)
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[name]) for name in told), []).append(row)
    cells = [
        [*key, *(_mean([row.get(name) for row in group], _OF_PARTS[name][1]) for name in columns)]
        for key, group in groups.items()
    ]
    heads = [*told, *(_OF_PARTS[name][0] for name in columns)]
    return f"<section><h2>{PARTS[part]}</h2>{_table(heads, cells, len(told), 'parts')}</section>"


def _mean(values: Sequence[Any], decimals: int) -> str:
    known = [value for value in values if value is not None]
    return shown(*(mean_and_half_width(known) if known else (math.nan, math.nan)), decimals)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int, name: str) -> str:
    """Return a table whose first columns are words, the others numbers; its rows are numbered."""

    def cells(texts: Sequence[str], kind: str, scope: str = "") -> str:
        marks = [' class="text"' if place < words else "" for place in range(len(texts))]
        pairs = zip(marks, texts, strict=True)
        return "".join(f"<{kind}{scope}{mark}>{html.escape(text)}</{kind}>" for mark, text in pairs)

    body = "".join(f'<tr data-row="{number}">{cells(row, "td")}</tr>' for number, row in enumerate(rows))
    head = cells(heads, "th", ' scope="col"')
    return f'<div class="wide"><table class="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _differences(one: Compared) -> tuple[str, str]:
    if one.difference is None:
        word = "reference" if one.is_reference else "-"
        return word, word
    return shown(*one.difference.attainment, 6, "+"), shown(*one.difference.accuracy, 2, "+")


def shown(mean: float, half: float, decimals: int, sign: str = "") -> str:
    """Return a mean and the half-width of its interval; without it if that is unknown or too small to be seen."""
    if math.isnan(mean):
        return "-"
    wide = f"{0.0 if math.isnan(half) else half:,.{decimals}f}"
    return f"{mean:{sign},.{decimals}f}" + (f" ± {wide}" if float(wide.replace(",", "")) else "")
