"""The optimality gap of policies to an upper bound on all policies (`docs/optimum.md`; not in the paper).

One row per policy over its gap in points of accuracy-weighted attainment: left is better, and no policy reaches 0.
Logarithmic, since gaps range from a hundredth of a point to eighty.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from figures import style
from figures.tables import Estimate, check_columns, estimate, setting, values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NEEDED = ("policy", "seed", "weighted_attainment", "weighted_bound")
_LOWEST, _HIGHEST = 0.01, 100.0
"""Range in points; smaller gaps are drawn at the lower edge."""
_TICKS = (0.01, 0.1, 1.0, 10.0, 100.0)
_WRAP = 3


class _Panel(NamedTuple):
    title: str
    bound: float
    points: dict[str, Estimate]


def draw(gaps: pd.DataFrame, width: float | None = None) -> Figure:
    """Return the figure: means over seeds with 95 % Student-t intervals, none for a single seed.

    Args:
        gaps: One row per run, with the columns `policy`, `seed`, `weighted_attainment` and `weighted_bound` (0 to 1).
            Columns with a dot in their name are swept parameters, which become panels.
        width: In inches; None for one column, or for the page if there are several panels.

    Raises:
        DataError: A column is missing.
    """
    if gaps.empty:
        return style.empty(width or style.COLUMN_IN)
    check_columns(gaps, _NEEDED, "gaps")
    swept = [str(name) for name in gaps.columns if "." in str(name) and len(values(gaps, name)) > 1]
    groups = list(gaps.groupby(swept, sort=True, dropna=False)) if swept else [((), gaps)]
    policies = sorted(set(gaps["policy"]), key=style.order)
    panels = [_panel(", ".join(map(setting, swept, point)), frame, policies) for point, frame in groups]
    wide = width or (style.COLUMN_IN if len(panels) == 1 else style.PAGE_IN)
    columns = min(_WRAP if wide > style.COLUMN_IN else 1, len(panels))
    rows = math.ceil(len(panels) / columns)
    with style.applied():
        figure = Figure(figsize=(wide, rows * (0.55 + 0.16 * len(policies)) + 0.35), layout="constrained")
        grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for axes, panel in zip(grid, panels, strict=False):
            _draw_panel(axes, panel, policies)
        for axes in grid[len(panels) :]:
            axes.remove()
        for axes in grid[max(0, len(panels) - columns) : len(panels)]:
            axes.tick_params(labelbottom=True)
        figure.supxlabel("points below what no policy can exceed")
    return figure


def _panel(title: str, frame: pd.DataFrame, policies: list[str]) -> _Panel:
    bound = 100 * float(frame.drop_duplicates("seed")["weighted_bound"].mean())
    points = {}
    for policy in policies:
        runs = frame[frame["policy"] == policy]
        points[policy] = estimate(100 * (runs["weighted_bound"] - runs["weighted_attainment"]), highest=100.0)
    return _Panel(title, bound, points)


def _draw_panel(axes: Axes, panel: _Panel, policies: list[str]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(_LOWEST / 1.4, _HIGHEST * 1.4)
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_major_formatter(FixedFormatter([f"≤{_TICKS[0]:g}", *(f"{tick:g}" for tick in _TICKS[1:])]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(policies)), [style.display_name(policy) for policy in policies])
    axes.set_ylim(len(policies) - 0.4, -0.6)
    heading = f"at most {panel.bound:.2f} %"
    axes.set_title(f"{panel.title}\n{heading}" if panel.title else heading)
    for row, policy in enumerate(policies):
        point, look = panel.points[policy], style.look(policy)
        if math.isnan(point.mean):
            continue
        low, mean, high = (max(_LOWEST, value) for value in (point.low, point.mean, point.high))
        interval: dict[str, Any] = {"color": look.colour, "linewidth": 0.7, "zorder": 2.5}
        axes.plot([low, high], [row, row], **interval)
        axes.plot([mean], [row], linestyle="none", clip_on=False, zorder=3, **look.marks())
