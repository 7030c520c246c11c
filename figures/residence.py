"""SLO attainment and serving accuracy over the memory of workers: a line for each policy and way to hold weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from figures import attainment, style
from figures.tables import Estimate, check_columns, estimate, setting, values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_PANELS = {"slo_attainment": ("SLO attainment", 1.0), "mean_serving_accuracy": ("serving\naccuracy (%)", 100.0)}


def draw(summary: pd.DataFrame, along: str, dashed: str = "", across: str = "") -> Figure:
    """Return a column of two panels for each value of `across`: means over seeds with 95 % Student-t intervals.

    Args:
        summary: One row per run, with the columns `policy`, `seed`, `slo_attainment` (0 to 1), `mean_serving_accuracy`
            (percent; NaN if no query met its SLO), `along`, and those of `dashed` and `across`.
        along: The column of the memory in gigabytes, the horizontal axis.
        dashed: The column whose values differ in the dashes of their lines; lines differ by policy only if empty.
        across: The column whose values stand side by side; one column of panels if empty.

    Raises:
        DataError: A column is missing.
    """
    if summary.empty:
        return style.empty(style.COLUMN_IN)
    given = [key for key in (along, dashed, across) if key]
    check_columns(summary, ("policy", "seed", *_PANELS, *given), "summary")
    policies = sorted(set(summary["policy"]), key=style.order)
    ways, places = (values(summary, key) if key else [None] for key in (dashed, across))
    x = [float(value) for value in values(summary, along)]
    with style.applied():
        width = min(style.PAGE_IN, style.COLUMN_IN if len(places) == 1 else 1.2 + 2.6 * len(places))
        figure = Figure(figsize=(width, 3.6), layout="constrained")
        panels = figure.subplots(2, len(places), sharex=True, sharey="row", squeeze=False, height_ratios=[1.4, 1])
        groups = summary.groupby(["policy", *given])["slo_attainment"].mean()
        decades = attainment.decades(groups.tolist())
        for number, place in enumerate(places):
            column = summary if place is None else summary[summary[across] == place]
            upper, lower = panels[0][number], panels[1][number]
            attainment.set_scale(upper, decades, every=math.ceil((decades + 1) / 5))
            attainment.mark_break(upper, decades)
            for axes, (name, (_, highest)) in zip((upper, lower), _PANELS.items(), strict=True):
                for depth, policy in enumerate(reversed(policies)):  # the first in the legend hides the others
                    for way, dashes in zip(ways, style.DASHES, strict=False):
                        runs = column[column["policy"] == policy]
                        runs = runs if way is None else runs[runs[dashed] == way]
                        line = [estimate(runs[runs[along] == at][name], highest=highest) for at in x]
                        _draw_line(axes, x, line, style.look(policy), {"linestyle": dashes, "zorder": 3 + depth / 100})
            if across:
                upper.set_title(style.panel_title(setting(across, place), len(places)))
            lower.xaxis.set_major_locator(FixedLocator(x))
            lower.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in x]))
            lower.xaxis.set_minor_locator(NullLocator())
            lower.set_xlabel("memory of a worker (GB)")
        for row, (label, _) in zip(panels, _PANELS.values(), strict=True):
            row[0].set_ylabel(label)
        figure.align_ylabels([row[0] for row in panels])
        handles: list[Any] = [style.handle(policy) for policy in policies]
        names = [style.display_name(policy) for policy in policies]
        if dashed:
            shown = list(zip(ways, style.DASHES, strict=False))
            handles += [Line2D([], [], color=style.GREY, linestyle=dashes) for _, dashes in shown]
            names += [setting(dashed, way) for way, _ in shown]
        style.legend_below(figure, handles, names)
    return figure


def _draw_line(axes: Axes, x: list[float], line: list[Estimate], look: style.Look, drawn: dict[str, Any]) -> None:
    for at, point in zip(x, line, strict=True):
        axes.plot([at, at], [point.low, point.high], color=look.colour, linewidth=0.7)
    axes.plot(x, [point.mean for point in line], **drawn, **look.marks())
