"""SLO attainment and serving accuracy over a swept parameter (after SuperServe, Figures 1b and 11c)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from figures import attainment, style
from figures.tables import Estimate, check_columns, estimate, setting, values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NEEDED = ("policy", "seed", "slo_attainment", "mean_serving_accuracy")
_WIDE = 30.0
"""Where the largest value is so many times the smallest above 0, the axis is logarithmic, but linear at 0."""
_BREAK = 0.06


def draw(summary: pd.DataFrame, along: str, label: str = "", width: float = style.COLUMN_IN) -> Figure:
    """Return two panels, one above the other: means over seeds with 95 % Student-t intervals, none for a single seed.

    Args:
        summary: One row per run, with the columns `policy`, `seed`, `slo_attainment` (0 to 1), `mean_serving_accuracy`
            (percent; NaN if no query met its SLO) and that of `along`.
        along: The column that is the horizontal axis; numbers.
        label: Its axis label; derived from its name if empty.
        width: In inches.

    Raises:
        DataError: A column is missing.
    """
    if summary.empty:
        return style.empty(width)
    check_columns(summary, (*_NEEDED, along), "summary")
    policies = sorted(set(summary["policy"]), key=style.order)
    x = [float(value) for value in values(summary, along)]
    with style.applied():
        figure = Figure(figsize=(width, 3.6), layout="constrained")
        upper, lower = figure.subplots(2, sharex=True, height_ratios=[1.3, 1])
        attained = {policy: _along(summary, policy, along, x, "slo_attainment", 1.0) for policy in policies}
        decades = attainment.decades(point.mean for line in attained.values() for point in line)
        attainment.set_scale(upper, decades, every=math.ceil((decades + 1) / 5))
        attainment.mark_break(upper, decades)
        accuracy = {policy: _along(summary, policy, along, x, "mean_serving_accuracy", 100.0) for policy in policies}
        for axes, lines in ((upper, attained), (lower, accuracy)):
            # The first in the legend is drawn last: nothing hides the policy that the figure is about.
            for depth, policy in enumerate(reversed(policies)):
                _draw_line(axes, x, lines[policy], policy, _dashes(policy, policies), depth)
        upper.set_ylabel("SLO attainment")
        lower.set_ylabel("serving\naccuracy (%)")
        _scale(lower, x, along, label)
        attainment.slashes(lower, _BREAK)
        figure.align_ylabels([upper, lower])
        handles = [style.handle(policy, linestyle=_dashes(policy, policies)) for policy in policies]
        style.legend_below(figure, handles, [style.display_name(policy) for policy in policies])
    return figure


def _along(
    summary: pd.DataFrame, policy: str, along: str, x: list[float], column: str, highest: float
) -> list[Estimate]:
    runs = summary[summary["policy"] == policy]
    return [estimate(runs[runs[along] == at][column], highest=highest) for at in x]


def _dashes(policy: str, policies: list[str]) -> Any:
    alike = [relative for relative in policies if style.family(relative) == style.family(policy)]
    return style.DASHES[alike.index(policy) % len(style.DASHES)]


def _draw_line(axes: Axes, x: list[float], line: list[Estimate], policy: str, dashes: Any, depth: int) -> None:
    look = style.look(policy)
    for at, point in zip(x, line, strict=True):
        axes.plot([at, at], [point.low, point.high], color=look.colour, linewidth=0.7)
    axes.plot(x, [point.mean for point in line], linestyle=dashes, zorder=3 + depth / 100, **look.marks())


def _scale(axes: Axes, x: list[float], along: str, label: str) -> None:
    """Give the horizontal axis its scale and a tick at each value, and the accuracies a margin for the break."""
    positive = [value for value in x if value > 0]
    if positive and max(positive) / min(positive) >= _WIDE:
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.7)
    axes.xaxis.set_major_locator(FixedLocator(x))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in x]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label or setting(along))
    low, high = axes.get_ylim()
    axes.set_ylim(low - 2 * _BREAK * (high - low), high + _BREAK * (high - low))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], prune="lower"))
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    axes.set_yticks(np.array(ticks))
