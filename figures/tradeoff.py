"""SLO attainment against mean serving accuracy, one marker per policy (after SuperServe, NSDI 2025, Figures 8a, 9, 10).

Upper right is best. A sweep has one panel for each combination of values.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures import attainment, style
from figures.labels import Label, place, place_note
from figures.tables import Estimate, check_columns, estimate, setting, values

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_NEEDED = ("policy", "trace", "seed", "slo_attainment", "mean_serving_accuracy")
_WRAP = 3
"""Panels side by side where only one thing is swept."""
_MOST_TICKS = 6
"""Ticks below 1 that have room in one of several rows of panels."""
_NARROW_IN = 2.0
"""Panels narrower than this have no room for a long axis label."""


class _Point(NamedTuple):
    """A policy in a panel: its attainment and its accuracy in percent, each with an interval over seeds."""

    policy: str
    attainment: Estimate
    accuracy: Estimate


class _Panel(NamedTuple):
    title: str
    points: list[_Point]
    bound: float

    @property
    def drawn(self) -> list[_Point]:
        return [point for point in self.points if not math.isnan(point.accuracy.mean)]


def draw(summary: pd.DataFrame, width: float | None = None) -> Figure:
    """Return the figure: means over seeds with 95 % Student-t intervals, none for a single seed.

    Args:
        summary: One row per run, with the columns `policy`, `trace`, `seed`, `slo_attainment` (0 to 1) and
            `mean_serving_accuracy` (percent; NaN if no query met its SLO). Columns with a dot in their name are
            parameters of the experiment; those with several values become panels, the first one the rows. So does the
            trace, unless one of them determines it. `weighted_bound`, if it is there, is what SLO attainment times
            accuracy can't exceed under any policy (0 to 1; NaN if unknown): a line.
        width: In inches; None for one column, or for the page if there are several panels.

    Raises:
        DataError: A column is missing.
    """
    if summary.empty:
        return style.empty(width or style.COLUMN_IN)
    check_columns(summary, _NEEDED, "summary")
    swept = _swept(summary)
    panels = _panels(summary, swept)
    columns = _columns(summary, swept)
    rows = math.ceil(len(panels) / columns)
    with style.applied():
        size = (width or (style.COLUMN_IN if columns == 1 else style.PAGE_IN), 2.75 if rows == 1 else 0.6 + 1.85 * rows)
        panel_in = size[0] / columns
        figure = Figure(figsize=size, layout="constrained")
        grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        everything = [point for panel in panels for point in panel.drawn]
        decades = attainment.decades(point.attainment.mean for point in everything)
        _scale(grid[0], everything, decades, rows)
        for number, (axes, panel) in enumerate(zip(grid, panels, strict=False)):
            axes.set_title(_title(panel.title, _characters(panel_in)))
            _draw_points(axes, panel, decades)
            if not math.isnan(panel.bound):
                _draw_bound(axes, panel.bound)
            if number % columns == 0:
                axes.set_ylabel("SLO attainment")
            if number + columns >= len(panels):
                axes.set_xlabel("mean serving accuracy (%)" if panel_in > _NARROW_IN else "accuracy (%)")
                axes.tick_params(labelbottom=True)
        for axes in grid[len(panels) :]:
            axes.remove()
        _legend(figure, everything, bounded=not all(math.isnan(panel.bound) for panel in panels))
        # Texts are placed when all else has its place.
        figure.draw_without_rendering()
        for axes, panel in zip(grid, panels, strict=False):
            _write(axes, panel)
    return figure


def _swept(summary: pd.DataFrame) -> list[str]:
    swept = [str(name) for name in summary.columns if "." in str(name) and len(values(summary, name)) > 1]
    told_apart = len(summary[[*swept, "trace"]].drop_duplicates()) == len(summary[swept].drop_duplicates())
    return swept if told_apart or len(values(summary, "trace")) == 1 else [*swept, "trace"]


def _columns(summary: pd.DataFrame, swept: Sequence[str]) -> int:
    """Return the number of columns of panels: a grid for two swept parameters, else rows of three."""
    if len(swept) == 2:  # noqa: PLR2004 - rows and columns
        return len(values(summary, swept[1]))
    return min(_WRAP, math.prod(len(values(summary, name)) for name in swept))


def _panels(summary: pd.DataFrame, swept: Sequence[str]) -> list[_Panel]:
    panels = []
    for point in itertools.product(*(values(summary, name) for name in swept)):
        rows = summary
        for name, value in zip(swept, point, strict=True):
            rows = rows[rows[name].isna() if pd.isna(value) else rows[name] == value]
        title = ", ".join(map(setting, swept, point))
        points = [_point(policy, rows) for policy in sorted(set(rows["policy"]), key=style.order)]
        bound = math.nan
        if "weighted_bound" in rows:  # with a planner, runs of one seed may have several
            bound = rows.groupby("seed")["weighted_bound"].max().mean()
        panels.append(_Panel(title, points, float(bound)))
    return panels


def _point(policy: str, rows: pd.DataFrame) -> _Point:
    runs = rows[rows["policy"] == policy]
    return _Point(
        policy, estimate(runs["slo_attainment"], highest=1.0), estimate(runs["mean_serving_accuracy"], highest=100.0)
    )


def _scale(axes: Axes, points: Iterable[_Point], decades: int, rows: int) -> None:
    accuracies = [end for point in points for end in (point.accuracy.low, point.accuracy.high)] or [0.0, 100.0]
    margin = 0.09 * (max(accuracies) - min(accuracies)) or 1.0
    axes.set_xlim(min(accuracies) - margin, max(accuracies) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    attainment.set_scale(axes, decades, every=1 if rows == 1 else math.ceil((decades + 1) / _MOST_TICKS))


def _draw_points(axes: Axes, panel: _Panel, decades: int) -> None:
    attainment.mark_break(axes, decades)
    if not panel.points:
        axes.text(0.5, 0.5, "no runs", ha="center", va="center", color=style.GREY, transform=axes.transAxes)
    # The first in the legend is drawn last: nothing hides the policy that the figure is about.
    for depth, point in enumerate(reversed(panel.drawn)):
        look = style.look(point.policy)
        x, y = point.accuracy, point.attainment
        interval: dict[str, Any] = {"color": look.colour, "linewidth": 0.7, "zorder": 2.5}
        axes.plot([x.low, x.high], [y.mean, y.mean], **interval)
        axes.plot([x.mean, x.mean], [y.low, y.high], **interval)
        axes.plot([x.mean], [y.mean], linestyle="none", label=point.policy, zorder=3 + depth / 100, **look.marks())


def _draw_bound(axes: Axes, bound: float) -> None:
    """Draw the line on which SLO attainment times accuracy is the bound: all policies lie below it."""
    left, right = axes.get_xlim()
    accuracy = np.linspace(max(left, 100 * bound), max(right, 100 * bound), 200)
    axes.plot(accuracy, 100 * bound / accuracy, zorder=2, **style.REFERENCE)


def _legend(figure: Figure, points: Iterable[_Point], *, bounded: bool) -> None:
    """Draw a legend of families below the panels; the parameters of members are labels at their markers."""
    families = sorted({style.family(point.policy) for point in points}, key=style.order)
    if families:
        names = [style.display_name(name) for name in families]
        names = [f"{name} (its accuracy)" if name == "Clipper+" else name for name in names]
        handles: list[Artist] = [style.handle(name) for name in families]
        if bounded:
            handles.append(Line2D([], [], **style.REFERENCE))
            names.append("bound on any policy")
        style.legend_below(figure, handles, names)


def _write(axes: Axes, panel: _Panel) -> None:
    """Write parameters at the markers, and a note of policies that met no query."""
    lines = [line for line in axes.lines if line.get_transform() == axes.transData]
    markers = [line.get_window_extent() for line in lines if line.get_marker() != "None"]
    # An interval is a line of no width: without a rim a text on it would cover nothing.
    intervals = [line.get_window_extent().padded(2) for line in lines if line.get_marker() == "None"]
    labels = [
        Label(
            style.parameters(point.policy).replace(", ", "\n"),
            point.accuracy.mean,
            point.attainment.mean,
            style.look(point.policy).colour,
        )
        for point in panel.drawn
        if style.parameters(point.policy)
    ]
    texts = place(axes, labels, markers, intervals)
    absent = [style.display_name(point.policy) for point in panel.points if point not in panel.drawn]
    if absent:
        width = axes.get_window_extent().width / axes.figure.dpi
        note = textwrap.fill(f"no query met: {', '.join(absent)}", _characters(width))
        place_note(axes, note, [*markers, *intervals, *texts], style.GREY)


def _title(title: str, characters: int) -> str:
    """Return a title wrapped to a number of characters, with breaks between settings only."""
    whole = "\N{NO-BREAK SPACE}"
    return textwrap.fill(title.replace(" ", whole).replace(f",{whole}", ", "), characters).replace(whole, " ")


def _characters(width: float) -> int:
    """Return the approximate number of characters of the smallest font in a width in inches."""
    return max(8, int(16 * width))
