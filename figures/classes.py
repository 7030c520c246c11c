"""SLO attainment, serving accuracy and tail latency by class of queries, one marker per policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from figures import attainment, style
from figures.tables import Estimate, check_columns, estimate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_PANELS = {
    "slo_attainment": ("SLO attainment", 1.0),
    "mean_serving_accuracy": ("serving\naccuracy (%)", 100.0),
    "p99_latency_ms": ("p99 latency (ms)", math.inf),
}
"""Columns, with the label of their axis and the highest possible value."""
_MOST = 12
"""Classes in a figure: those with the most queries."""
_SHARE = 0.7
"""Part of the width of a class that its markers take."""


def draw(summary: pd.DataFrame, title: str = "", width: float = style.COLUMN_IN) -> Figure:
    """Return three panels, one above the other: means over seeds with 95 % Student-t intervals, none for a single seed.

    Within a class, policies stand side by side in the order of the legend.

    Args:
        summary: One row per class of a run, with the columns `policy`, `seed`, `class`, `queries`, `slo_attainment`
            (0 to 1), `mean_serving_accuracy` (percent) and `p99_latency_ms`; NaN for a missing value.
        title: Title of the figure.
        width: In inches.

    Raises:
        DataError: A column is missing.
    """
    if summary.empty:
        return style.empty(width)
    check_columns(summary, ("policy", "seed", "class", "queries", *_PANELS), "classes")
    every = list(dict.fromkeys(summary["class"]))
    largest = summary.groupby("class")["queries"].sum().nlargest(_MOST).index
    classes = [name for name in every if name in largest]
    if len(classes) < len(every):
        title = f"{title}{'; ' if title else ''}the {_MOST} largest of {len(every)} classes"
    policies = sorted(set(summary["policy"]), key=style.order)
    with style.applied():
        figure = Figure(figsize=(width, 4.4), layout="constrained")
        panels = figure.subplots(len(_PANELS), sharex=True)
        for axes, (column, (label, highest)) in zip(panels, _PANELS.items(), strict=True):
            found = {policy: _of(summary, policy, classes, column, highest) for policy in policies}
            if column == "slo_attainment":
                decades = attainment.decades(point.mean for line in found.values() for point in line if point.mean >= 0)
                attainment.set_scale(axes, decades, every=math.ceil((decades + 1) / 5))
                attainment.mark_break(axes, decades)
            axes.margins(y=0.2)  # room for half a marker
            _draw_points(axes, policies, found)
            if column == "p99_latency_ms":
                axes.set_ylim(bottom=0)
            axes.set_ylabel(label)
        panels[-1].xaxis.set_major_locator(FixedLocator(range(len(classes))))
        panels[-1].xaxis.set_major_formatter(FixedFormatter([str(name) for name in classes]))
        panels[-1].xaxis.set_minor_locator(NullLocator())
        panels[-1].set_xlim(-0.5, len(classes) - 0.5)
        is_long = sum(len(str(name)) for name in classes) > 14 * width
        panels[-1].tick_params(axis="x", labelrotation=45 if is_long else 0)
        figure.align_ylabels(panels)
        figure.suptitle(title)
        style.legend_below(
            figure, [style.handle(policy) for policy in policies], [style.display_name(policy) for policy in policies]
        )
    return figure


def _of(summary: pd.DataFrame, policy: str, classes: list[str], column: str, highest: float) -> list[Estimate]:
    runs = summary[summary["policy"] == policy]
    return [estimate(runs[runs["class"] == name][column], highest=highest) for name in classes]


def _draw_points(axes: Axes, policies: list[str], found: dict[str, list[Estimate]]) -> None:
    """Draw the policies of each class side by side."""
    places = np.linspace(-_SHARE / 2, _SHARE / 2, len(policies)) if len(policies) > 1 else np.zeros(1)
    for place, policy in zip(places.tolist(), policies, strict=True):
        look = style.look(policy)
        for number, point in enumerate(found[policy]):
            x = [number + place] * 2
            axes.plot(x, [point.low, point.high], color=look.colour, linewidth=0.7)
            axes.plot(x[:1], [point.mean], linestyle="none", **look.marks())
