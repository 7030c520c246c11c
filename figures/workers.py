"""SLO attainment over the number of workers at one rate: how many workers a policy needs (`ssim capacity --rate`).

Swept parameters become panels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures import attainment, style
from figures.tables import Estimate, check_columns, estimate, setting, values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NEEDED = ("policy", "seed", "workers", "slo_attainment", "workers_any_policy")
_WRAP = 3


def draw(trials: pd.DataFrame, target: float, width: float | None = None) -> Figure:
    """Return the figure: means over seeds with 95 % Student-t intervals, none for a single seed.

    Args:
        trials: One row per run, with the columns `policy`, `seed`, `workers`, `slo_attainment` (0 to 1) and
            `workers_any_policy` (the least number that any policy needs; NaN if unknown). Columns with a dot in their
            name are swept parameters.
        target: The SLO attainment to meet.
        width: In inches; None for one column, or for the page if there are several panels.

    Raises:
        DataError: A column is missing.
    """
    if trials.empty:
        return style.empty(width or style.COLUMN_IN)
    check_columns(trials, _NEEDED, "trials")
    swept = [str(name) for name in trials.columns if "." in str(name) and len(values(trials, name)) > 1]
    panels = list(trials.groupby(swept, sort=False, dropna=False)) if swept else [((), trials)]
    wide = width or (style.COLUMN_IN if len(panels) == 1 else style.PAGE_IN)
    columns = min(_WRAP, len(panels))
    rows = math.ceil(len(panels) / columns)
    with style.applied():
        figure = Figure(figsize=(wide, 0.7 + 1.9 * rows), layout="constrained")
        grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
        decades = attainment.decades([*trials["slo_attainment"], target])
        attainment.set_scale(grid[0], decades, every=math.ceil((decades + 1) / 5))
        for axes, (point, frame) in zip(grid, panels, strict=False):
            axes.set_title(", ".join(map(setting, swept, point)))
            attainment.mark_break(axes, decades)
            _draw_lines(axes, frame)
            axes.axhline(target, **style.REFERENCE)
            if not math.isnan(least := float(frame["workers_any_policy"].iloc[0])):
                axes.axvline(least, color=style.GREY, linewidth=0.8, linestyle="dashed")
            axes.set_xlabel("workers")
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        for axes in grid[len(panels) :]:
            axes.remove()
        for axes in grid[::columns]:
            axes.set_ylabel("SLO attainment")
        policies = sorted(set(trials["policy"]), key=style.order)
        handles = [style.handle(name, linestyle="solid") for name in policies]
        handles.append(Line2D([], [], **style.REFERENCE))
        names = [*map(style.display_name, policies), f"target, {target:g}"]
        if trials["workers_any_policy"].notna().any():
            handles.append(Line2D([], [], color=style.GREY, linewidth=0.8, linestyle="dashed"))
            names.append("least for any policy")
        style.legend_below(figure, handles, names)
    return figure


def _draw_lines(axes: Axes, frame: pd.DataFrame) -> None:
    for depth, policy in enumerate(sorted(set(frame["policy"]), key=lambda policy: -style.look(policy).size)):
        own = frame[frame["policy"] == policy]
        numbers = np.array(values(own, "workers"), dtype=float)
        points = [_estimate(own[own["workers"] == number]) for number in numbers]
        look = style.look(policy)
        for number, point in zip(numbers, points, strict=True):
            axes.plot([number, number], [point.low, point.high], color=look.colour, linewidth=0.7)
        axes.plot(numbers, [point.mean for point in points], linestyle="solid", zorder=3 + depth / 100, **look.marks())


def _estimate(frame: pd.DataFrame) -> Estimate:
    return estimate(frame["slo_attainment"], highest=1.0)
