"""SLO attainment and serving accuracy over a swept key: a line for each queue, or for each value of another key."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from figures import attainment, style
from figures.tables import Estimate, check_columns, estimate, setting, values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_PANELS = {"slo_attainment": ("SLO attainment", 1.0), "mean_serving_accuracy": ("serving\naccuracy (%)", 100.0)}
_MOST = 7
"""Queues in a figure: those with the most queries."""


def draw(rows: pd.DataFrame, along: str, across: str = "", title: str = "", lines: str = "queue") -> Figure:
    """Return a column of two panels for each value of `across`: means over seeds with 95 % Student-t intervals.

    Args:
        rows: One row per run, or per queue of a run, of one policy, with the columns `seed`, `queries`,
            `slo_attainment` (0 to 1), `mean_serving_accuracy` (percent, NaN for a missing value), `along`, `across` and
            `lines`.
        along: The column that is the horizontal axis.
        across: The column whose values stand side by side; one column of panels if empty.
        title: Title of the figure.
        lines: The column whose values have a line each.

    Raises:
        DataError: A column is missing.
    """
    if rows.empty:
        return style.empty(style.COLUMN_IN)
    check_columns(rows, ("seed", lines, "queries", *_PANELS, along, *([across] if across else [])), "queues")
    largest = rows.groupby(lines)["queries"].sum().nlargest(_MOST).index
    queues = [name for name in dict.fromkeys(rows[lines]) if name in largest]
    if rows[lines].nunique() > len(queues):
        title = f"{title}{'; ' if title else ''}the {_MOST} largest of {rows[lines].nunique()} queues"
    places = values(rows, across) if across else [None]
    x = values(rows, along)
    found = {
        (place, column, queue): [
            estimate(_of(rows, {lines: queue, along: at, **({across: place} if across else {})})[column], highest)
            for at in x
        ]
        for place in places
        for column, (_, highest) in _PANELS.items()
        for queue in queues
    }
    with style.applied():
        width = min(style.PAGE_IN, style.COLUMN_IN if len(places) == 1 else 1.2 + 1.9 * len(places))
        figure = Figure(figsize=(width, 3.4), layout="constrained")
        panels = figure.subplots(2, len(places), sharex=True, sharey="row", squeeze=False, height_ratios=[1.4, 1])
        decades = attainment.decades(
            point.mean for (_, column, _), line in found.items() if column == "slo_attainment" for point in line
        )
        for number, place in enumerate(places):
            upper, lower = panels[0][number], panels[1][number]
            attainment.set_scale(upper, decades, every=math.ceil((decades + 1) / 5))
            attainment.mark_break(upper, decades)
            for axes, column in ((upper, "slo_attainment"), (lower, "mean_serving_accuracy")):
                for queue, colour, marker in zip(queues, COLOURS, _MARKERS, strict=False):
                    _draw_line(axes, found[place, column, queue], colour, marker)
            if across:
                upper.set_title(style.panel_title(setting(across, place), len(places)))
            _label(lower, x, _heading(along, list(dict.fromkeys(rows[lines]))))
        for row, (label, _) in zip(panels, _PANELS.values(), strict=True):
            row[0].set_ylabel(label)
        figure.align_ylabels([row[0] for row in panels])
        figure.suptitle(title)
        handles = [
            Line2D([], [], color=colour, marker=marker, markersize=4)
            for _, colour, marker in zip(queues, COLOURS, _MARKERS, strict=False)
        ]
        style.legend_below(figure, handles, [name if lines == "queue" else setting(lines, name) for name in queues])
    return figure


def _of(rows: pd.DataFrame, at: dict[str, Any]) -> pd.DataFrame:
    """Return the rows with some values by column."""
    for column, value in at.items():
        rows = rows[rows[column] == value]
    return rows


def _draw_line(axes: Axes, line: list[Estimate], colour: str, marker: str) -> None:
    for at, point in enumerate(line):
        axes.plot([at, at], [point.low, point.high], color=colour, linewidth=0.7)
    axes.plot(np.arange(len(line)), [point.mean for point in line], color=colour, marker=marker, markersize=4)


def _heading(along: str, queues: list[str]) -> str:
    """Return the label of a swept key, with the name of the queue that it belongs to."""
    first, _, rest = along.partition(".")
    place = rest.partition(".")[0]
    of_queue = first == "queues" and place.isdecimal() and int(place) < len(queues)
    return f"{queues[int(place)]}: {setting(rest)}" if of_queue else setting(along)


def _label(axes: Axes, x: list[Any], label: str) -> None:
    """Give the horizontal axis a tick at each value, equally spaced."""
    axes.xaxis.set_major_locator(FixedLocator(range(len(x))))
    shown = [f"{value:g}" if isinstance(value, int | float) else str(value) for value in x]
    axes.xaxis.set_major_formatter(FixedFormatter(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(-0.3, len(x) - 0.7)
    axes.set_xlabel(label)
