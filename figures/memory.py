"""Memory footprint over the number of models (after SuperServe, NSDI 2025, Figure 5a)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from figures import style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd

BYTES_PER_MB = 10**6
FEW = 10
"""Maximum number of models with a marker each."""
_COLOURS = ("#009E73", "#0072B2", "#D55E00", "#CC79A7")


def draw_memory(held: pd.DataFrame) -> Figure:
    """Return a figure with a line per system: total megabytes over the number of models, on logarithmic axes.

    Args:
        held: Columns `system`, `models` (their number) and `bytes`; systems in the order of the legend.

    Raises:
        DataError: A column is missing.
    """
    check_columns(held, ("system", "models", "bytes"), "memory")
    if held.empty:
        return style.empty(style.COLUMN_IN)
    with style.applied():
        figure = Figure(figsize=(style.COLUMN_IN, 2.6), layout="constrained")
        axes = figure.subplots()
        for number, (system, rows) in enumerate(held.groupby("system", sort=False)):
            colour, dash = _COLOURS[number % len(_COLOURS)], style.DASHES[number % len(style.DASHES)]
            (line,) = axes.plot(rows["models"], rows["bytes"] / BYTES_PER_MB, label=str(system))
            line.set(color=colour, linestyle=dash, marker="o" if len(rows) <= FEW else "", markersize=3.5)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(LogFormatter())
        axes.set_xlabel("models held")
        axes.set_ylabel("memory (MB)")
        style.legend_below(figure, *axes.get_legend_handles_labels())
    return figure
