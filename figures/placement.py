"""Placement: which queues each worker serves, with the SLO attainment of each queue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from figures import style
from figures.queues import COLOURS
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_WRAP = 4
_MOST = 40
"""Rows and columns in a panel."""
_FREE = to_rgb("#EEEEEE")


def draw(rows: pd.DataFrame, title: str = "") -> Figure:
    """Return a panel for each run: a row for each queue and a column for each worker, filled where it serves the queue.

    Args:
        rows: One row per queue of a run, with the columns `run` (the title of its panel), `queue`, `slo_attainment` (0
            to 1; NaN without queries), `placement` (the numbers of the workers, with a space between them) and
            `workers` (how many there are).
        title: Title of the figure.

    Raises:
        DataError: A column is missing.
    """
    if rows.empty:
        return style.empty(style.COLUMN_IN)
    check_columns(rows, ("run", "queue", "slo_attainment", "placement", "workers"), "placement")
    panels = [(name, panel.head(_MOST)) for name, panel in rows.groupby("run", sort=False)]
    columns = min(_WRAP, len(panels))
    lines = math.ceil(len(panels) / columns)
    queues = max(len(panel) for _, panel in panels)
    with style.applied():
        width = style.COLUMN_IN if columns == 1 else style.PAGE_IN
        figure = Figure(figsize=(width, 0.5 + lines * (0.75 + 0.22 * queues)), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes, (name, panel) in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, panel)
            axes.set_title(style.panel_title(str(name), columns), fontsize="small")
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.tick_params(labelleft=True)
        figure.supxlabel("worker; at the right, SLO attainment", fontsize="small")
        if title:
            figure.suptitle(title)
    return figure


def _draw_panel(axes: Axes, panel: pd.DataFrame) -> None:
    workers = min(_MOST, int(panel["workers"].iloc[0]))
    cells = np.full((len(panel), workers, 3), _FREE)
    for row, placed in enumerate(panel["placement"]):
        served = [int(number) for number in str(placed).split() if int(number) < workers]
        cells[row, served] = to_rgb(COLOURS[row % len(COLOURS)])
    axes.imshow(cells, aspect="auto", interpolation="none")
    axes.set_xticks(np.arange(workers), [str(number) for number in range(workers)])
    axes.set_yticks(np.arange(len(panel)), panel["queue"], fontsize="small")
    axes.grid(visible=False)
    for edge in range(1, workers):
        axes.axvline(edge - 0.5, color="white", linewidth=1.5)
    for edge in range(1, len(panel)):
        axes.axhline(edge - 0.5, color="white", linewidth=1.5)
    axes.tick_params(length=0, labelsize="small", labelleft=False)
    axes.spines[:].set_visible(False)
    for row, attainment in enumerate(panel["slo_attainment"]):
        shown = "" if math.isnan(attainment) else f"{math.floor(attainment * 1000) / 1000:.3f}"
        axes.text(workers - 0.4, row, shown, va="center", fontsize="x-small", clip_on=False)
