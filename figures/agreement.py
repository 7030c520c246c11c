"""A live run beside simulations that have more and more of what it met (not in the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from figures import style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd

_PANELS = {
    "slo_attainment": ("SLO attainment (%)", 100),
    "mean_serving_accuracy": ("Serving accuracy (%)", 1),
    "mean_batch_size": ("Batch size", 1),
}


def draw(steps: pd.DataFrame, width: float = style.PAGE_IN) -> Figure:
    """Return a panel for each figure of a run: a point for each simulation, a line at the live run.

    Args:
        steps: A row for the live run, the first, and each simulation, with the columns `shown`, `slo_attainment` (0 to
            1), `mean_serving_accuracy` (percent) and `mean_batch_size`.
        width: In inches.

    Raises:
        DataError: A column is missing.
    """
    if steps.empty:
        return style.empty(width)
    check_columns(steps, ("shown", *_PANELS), "steps")
    names = list(steps["shown"])
    with style.applied():
        figure = Figure(figsize=(width, 0.9 + 0.18 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(_PANELS), sharey=True)
        for axes, (column, (label, factor)) in zip(panels, _PANELS.items(), strict=True):
            values = steps[column] * factor
            axes.axvline(values.iloc[0], color="0.6", linewidth=0.8)
            axes.plot(values.iloc[1:], range(1, len(names)), "o", color=style.look("slackfit").colour, markersize=4)
            axes.plot(values.iloc[:1], [0], "D", color="black", markersize=4)
            axes.set_xlabel(label)
            axes.margins(x=0.15)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
    return figure
