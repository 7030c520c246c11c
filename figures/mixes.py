"""SLO attainment over the price of mixes of kinds of workers (`ssim capacity --rate R --cheapest`).

A panel for each policy and point of a sweep. The shape of a mark says which kinds a mix has; a ring marks the cheapest
mix that meets the target.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import attainment, style
from figures.tables import check_columns, setting, values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NEEDED = ("policy", "seed", "price_per_h", "currency", "slo_attainment", "target")
_WORKERS = "workers_"
_WRAP = 3
_MARKS = "osD^vPX"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_RING: dict[str, Any] = {"marker": "o", "color": "#000000", "fillstyle": "none", "linestyle": "none", "markersize": 9}


def draw(trials: pd.DataFrame, width: float | None = None) -> Figure:
    """Return the figure: means over seeds.

    Args:
        trials: A row for each mix and seed: `policy`, `seed`, a column `workers_NAME` for each kind, `price_per_h`,
            `currency`, `slo_attainment` (0 to 1) and `target`. Columns with a dot in their name are swept parameters.
        width: In inches; None for one column, or for the page if there are several panels.

    Raises:
        DataError: A column is missing.
    """
    if trials.empty:
        return style.empty(width or style.COLUMN_IN)
    check_columns(trials, _NEEDED, "trials")
    kinds = [str(name) for name in trials.columns if str(name).startswith(_WORKERS)]
    means = _means(trials, kinds)
    swept = [str(name) for name in trials.columns if "." in str(name) and len(values(trials, name)) > 1]
    panels = list(means.groupby([*swept, "policy"], sort=False, dropna=False))
    wide = width or (style.COLUMN_IN if len(panels) == 1 else style.PAGE_IN)
    columns = min(_WRAP, len(panels))
    rows = math.ceil(len(panels) / columns)
    target, sets = float(trials["target"].iloc[0]), list(dict.fromkeys(means["kinds"].sort_values()))
    with style.applied():
        figure = Figure(figsize=(wide, 0.9 + 1.9 * rows), layout="constrained")
        grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
        decades = attainment.decades([*means["slo_attainment"], target])
        attainment.set_scale(grid[0], decades, every=math.ceil((decades + 1) / 5))
        for axes, (point, frame) in zip(grid, panels, strict=False):
            *swept_at, policy = point
            axes.set_title(", ".join([*map(setting, swept, swept_at), style.display_name(str(policy))]))
            attainment.mark_break(axes, decades)
            _draw_marks(axes, frame, sets, target)
            axes.axhline(target, **style.REFERENCE)
            axes.set_xlabel(f"price in {trials['currency'].iloc[0]} per hour")
        for axes in grid[len(panels) :]:
            axes.remove()
        for axes in grid[::columns]:
            axes.set_ylabel("SLO attainment")
        handles = [Line2D([], [], **_look(number)) for number in range(len(sets))]
        handles += [Line2D([], [], **_RING), Line2D([], [], **style.REFERENCE)]
        style.legend_below(figure, handles, [*sets, "cheapest", f"target, {target:g}"])
    return figure


def _means(trials: pd.DataFrame, kinds: list[str]) -> pd.DataFrame:
    """Return a row for each mix: its mean attainment over seeds, and the kinds that it has in a column `kinds`."""
    swept = [str(name) for name in trials.columns if "." in str(name)]
    keys = ["policy", *swept, *kinds, "price_per_h"]
    means = trials.groupby(keys, sort=False, dropna=False)["slo_attainment"].mean().reset_index()
    names = [[name.removeprefix(_WORKERS) for name in kinds if row[name]] for _, row in means.iterrows()]
    return means.assign(kinds=[" and ".join(some) for some in names])


def _draw_marks(axes: Axes, frame: pd.DataFrame, sets: list[str], target: float) -> None:
    for number, some in enumerate(sets):
        own = frame[frame["kinds"] == some]
        axes.plot(own["price_per_h"], own["slo_attainment"], **_look(number))
    met = frame[frame["slo_attainment"] >= target]
    if not met.empty:
        best = met.sort_values(["price_per_h", "slo_attainment"], ascending=[True, False]).iloc[0]
        axes.plot([best["price_per_h"]], [best["slo_attainment"]], **_RING)


def _look(number: int) -> dict[str, Any]:
    mark, colour = _MARKS[number % len(_MARKS)], _COLOURS[number % len(_COLOURS)]
    return {"marker": mark, "color": colour, "linestyle": "none", "markersize": 4, "alpha": 0.8}
