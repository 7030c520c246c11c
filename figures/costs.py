"""SLO attainment against what a run cost: a marker for each policy, a line through the points of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures import attainment, style
from figures.labels import Label, place
from figures.tables import Estimate, check_columns, estimate, setting

if TYPE_CHECKING:
    import pandas as pd

AXES = {"cost": "cost ({currency})", "energy_kwh": "energy (kWh)", "worker_h": "worker hours"}
"""What is drawn along the axis: the first column that there is, and its label."""

_LEAST_SPAN = 0.1
"""The axis covers this share of the costs at least: costs that differ by less are nearly the same, and look it."""


def draw(summary: pd.DataFrame, currency: str = "", frontier: pd.DataFrame | None = None) -> Figure:
    """Return the figure: means over seeds, with 95 % Student-t intervals of the attainment.

    Args:
        summary: One row per run, with the columns `policy`, `seed`, `slo_attainment` and one of `AXES`. Columns with a
            dot in their name are swept parameters; if there is only one, its values stand beside the points.
        currency: The currency of the costs.
        frontier: Costs, and the attainment that no policy and no planner exceeds at each: the columns `cost` and
            `attainment_bound`.

    Raises:
        DataError: A column is missing.
    """
    if summary.empty:
        return style.empty(style.COLUMN_IN)
    along = next((name for name in AXES if name in summary), "cost")
    check_columns(summary, ("policy", "seed", "slo_attainment", along), "summary")
    swept = [str(name) for name in summary.columns if "." in str(name)]
    with style.applied():
        figure = Figure(figsize=(style.COLUMN_IN, 2.9), layout="constrained")
        axes = figure.subplots()
        policies = sorted(set(summary["policy"]), key=style.order)
        points = {policy: _points(summary[summary["policy"] == policy], swept, along) for policy in policies}
        decades = attainment.decades(point[1].mean for own in points.values() for point in own)
        attainment.set_scale(axes, decades)
        attainment.mark_break(axes, decades)
        for depth, policy in enumerate(reversed(policies)):
            look, own = style.look(policy), points[policy]
            for x, y, _ in own:
                axes.plot([x, x], [y.low, y.high], color=look.colour, linewidth=0.7)
            height = [y.mean for _, y, _ in own]
            line = "solid" if len(swept) == 1 else "none"
            axes.plot(
                [x for x, _, _ in own], height, linestyle=line, linewidth=0.7, zorder=3 + depth / 100, **look.marks()
            )
        if frontier is not None:
            axes.plot(frontier["cost"], frontier["attainment_bound"], scalex=False, scaley=False, **style.REFERENCE)
        axes.set_xlabel(AXES[along].format(currency=currency))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0.12)
        low, high = axes.get_xlim()
        wider = max(0.0, _LEAST_SPAN * high - (high - low)) / 2
        axes.set_xlim(low - wider, high + wider)
        axes.set_ylabel("SLO attainment")
        if len(swept) == 1:
            axes.set_title(f"beside the points: {setting(swept[0])}")
        axes.ticklabel_format(axis="x", useOffset=False)
        handles, names = [style.handle(name) for name in policies], [*map(style.display_name, policies)]
        if frontier is not None:
            handles.append(Line2D([], [], **style.REFERENCE))
            names.append("no policy exceeds this")
        style.legend_below(figure, handles, names)
        if len(swept) == 1:
            figure.draw_without_rendering()  # texts are placed when all else has its place
            labels = [
                Label(name, x, y.mean, style.look(policy).colour)
                for policy in policies
                for x, y, name in points[policy]
            ]
            marked = [line.get_window_extent() for line in axes.lines if line.get_marker() != "None"]
            place(axes, labels, marked)
    return figure


def _points(runs: pd.DataFrame, swept: list[str], along: str) -> list[tuple[float, Estimate, str]]:
    """Return cost, attainment and swept value of each point."""
    groups = list(runs.groupby(swept, sort=False, dropna=False)) if swept else [((), runs)]
    return [
        (
            float(np.mean(own[along])),
            estimate(own["slo_attainment"], highest=1.0),
            ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in point),
        )
        for point, own in groups
    ]
