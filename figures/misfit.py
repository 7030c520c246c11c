"""How far the nearest setting is from a paper, over one choice, for each scheduler (not in the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from figures import style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd


def draw(points: pd.DataFrame, x: str, label: str, width: float = style.PAGE_IN) -> Figure:
    """Return a panel for each set of figures: the least misfit over the values of one choice, a line a scheduler.

    Args:
        points: One row per point of the search, with the columns `panel`, `scheduler`, `misfit` and `x`.
        x: The column of the choice.
        label: The label of its axis.
        width: In inches.

    Raises:
        DataError: A column is missing.
    """
    if points.empty:
        return style.empty(width)
    check_columns(points, ("panel", "scheduler", "misfit", x), "points")
    schedulers, panels = list(dict.fromkeys(points["scheduler"])), list(dict.fromkeys(points["panel"]))
    bucketed = [each for each in schedulers if style.family(each) == "slackfit"]
    colours = dict(zip(bucketed, mpl.colormaps["viridis"](np.linspace(0, 0.9, len(bucketed))), strict=True))
    with style.applied():
        figure = Figure(figsize=(width, 2.9), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            here = points[points["panel"] == panel]
            for scheduler in schedulers:
                least = here[here["scheduler"] == scheduler].groupby(x)["misfit"].min()
                look = style.look(scheduler)
                single = scheduler not in colours
                axes.plot(
                    least.index,
                    least,
                    color=look.colour if single else colours[scheduler],
                    marker=look.marker if single else "o",
                    markersize=4 if single else 2.5,
                    linestyle="dashed" if single else "solid",
                    label=style.display_name(scheduler),
                )
            axes.set_title(panel)
            axes.set_xlabel(label)
            axes.set_ylim(bottom=0)
        figure.axes[0].set_ylabel("least misfit, whatever the other choices")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center")
    return figure
