"""Capacity: the highest rate at which a policy attains its target (after SuperServe, Figures 5c and 11b).

A swept number is the horizontal axis with one line per policy; other swept parameters become panels. Without a swept
number each policy has a row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures import style
from figures.tables import Estimate, check_columns, estimate, setting, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEEDED = ("policy", "seed", "capacity")


def draw(capacities: pd.DataFrame, rate: str, width: float | None = None) -> Figure:
    """Return the figure: means over seeds with 95 % Student-t intervals, none for a single seed.

    Args:
        capacities: One row per search, with the columns `policy`, `seed` and `capacity` (NaN if there is none).
            Columns with a dot in their name are swept parameters.
        rate: The parameter of the trace that was searched.
        width: In inches; None for one column, or for the page if there are several panels.

    Raises:
        DataError: A column is missing.
    """
    if capacities.empty:
        return style.empty(width or style.COLUMN_IN)
    check_columns(capacities, _NEEDED, "capacities")
    swept = [str(name) for name in capacities.columns if "." in str(name) and len(values(capacities, name)) > 1]
    along = next((name for name in swept if _is_axis(capacities[name])), None)
    with style.applied():
        if along is None:
            return _rows(capacities, swept, rate, width or style.COLUMN_IN)
        return _lines(capacities, along, [name for name in swept if name != along], rate, width)


def _is_axis(column: pd.Series) -> bool:
    """Return whether the values of a column fit on an axis: they are all numbers."""
    return pd.api.types.is_numeric_dtype(column) and not column.isna().any()


def _lines(capacities: pd.DataFrame, along: str, panel_columns: list[str], rate: str, width: float | None) -> Figure:
    panels = list(capacities.groupby(panel_columns, sort=False, dropna=False)) if panel_columns else [((), capacities)]
    wide = width or (style.COLUMN_IN if len(panels) == 1 else style.PAGE_IN)
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(wide, 0.5 + 2.1 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes, (point, frame) in zip(grid, panels, strict=False):
        axes.set_title(", ".join(map(setting, panel_columns, point)))
        _draw_lines(axes, frame, along)
        axes.set_xlabel(setting(along))
        axes.set_ylabel(_label(rate))
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        if pd.api.types.is_integer_dtype(capacities[along]):
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for axes in grid[len(panels) :]:
        axes.remove()
    policies = sorted(set(capacities["policy"]), key=style.order)
    handles = [style.handle(name, linestyle="solid") for name in policies]
    names = [style.display_name(name) for name in policies]
    if along == "cluster.workers":
        handles.append(Line2D([], [], **style.REFERENCE))
        names.append("linear scaling")
    style.legend_below(figure, handles, names)
    return figure


def _draw_lines(axes: Axes, frame: pd.DataFrame, along: str) -> None:
    x = np.array(values(frame, along), dtype=float)
    for depth, policy in enumerate(sorted(set(frame["policy"]), key=lambda policy: -style.look(policy).size)):
        estimates = [_estimate(frame[(frame["policy"] == policy) & (frame[along] == at)]) for at in x]
        look = style.look(policy)
        mean = np.array([result.mean for result in estimates])
        for at, result in zip(x, estimates, strict=True):
            axes.plot([at, at], [result.low, result.high], color=look.colour, linewidth=0.7)
        axes.plot(x, mean, linestyle="solid", zorder=3 + depth / 100, **look.marks())
        if along == "cluster.workers" and not math.isnan(mean[0]):
            axes.plot([0, x[-1]], [0, mean[0] / x[0] * x[-1]], zorder=2, **style.REFERENCE)


def _rows(capacities: pd.DataFrame, swept: list[str], rate: str, width: float) -> Figure:
    groups = list(capacities.groupby([*swept, "policy"], sort=False, dropna=False))
    figure = Figure(figsize=(width, 0.6 + 0.25 * len(groups)), layout="constrained")
    axes = figure.subplots()
    labels = []
    for row, (key, frame) in enumerate(groups):
        *point, label = key
        policy = str(label)
        result = _estimate(frame)
        axes.plot([result.low, result.high], [row, row], color=style.look(policy).colour, linewidth=0.7)
        axes.plot([result.mean], [row], linestyle="none", **style.look(policy).marks())
        labels.append(", ".join([style.display_name(policy), *map(setting, swept, point)]))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel(_label(rate))
    return figure


def _estimate(frame: pd.DataFrame) -> Estimate:
    return estimate(frame["capacity"], highest=math.inf)


def _label(rate: str) -> str:
    return "capacity (q/s)" if rate == "mean_qps" else f"capacity: {setting(rate)}"
