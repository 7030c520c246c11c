"""Memory of running statistics compared with the weights of their subnet (after SuperServe, NSDI 2025, Figure 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from figures import style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd

BYTES_PER_MB = 10**6
BAR = 0.3
"""Width of a bar; a subnet has width 1."""
_COLOUR = "#D55E00"


def draw_statistics(subnets: pd.DataFrame, shared_bytes: int) -> Figure:
    """Return two bars for each subnet, on a logarithmic axis: the weights that it uses, and the statistics of its own.

    Args:
        subnets: Columns `accuracy` (percent), `weights_bytes` and `statistics_bytes`, one row per subnet.
        shared_bytes: Size of the weights of the whole supernet, drawn as a line.

    Raises:
        DataError: A column is missing.
    """
    check_columns(subnets, ("accuracy", "weights_bytes", "statistics_bytes"), "statistics")
    if subnets.empty:
        return style.empty(style.COLUMN_IN)
    with style.applied():
        figure = Figure(figsize=(style.COLUMN_IN, 2.4), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(subnets))
        weights, statistics = subnets["weights_bytes"].to_numpy(), subnets["statistics_bytes"].to_numpy()
        axes.axhline(shared_bytes / BYTES_PER_MB, color="black", linestyle=style.DASHES[1], label="whole supernet")
        axes.bar(places - BAR / 2, weights / BYTES_PER_MB, BAR, color=style.GREY, label="weights used")
        hatched: dict[str, Any] = {"color": _COLOUR, "hatch": "////", "edgecolor": "white", "linewidth": 0.3}
        axes.bar(places + BAR / 2, statistics / BYTES_PER_MB, BAR, label="own statistics", **hatched)
        for place, weight_bytes, statistics_bytes in zip(places, weights, statistics, strict=True):
            # To the right of the grey bar, which is taller.
            at, above = (place, statistics_bytes / BYTES_PER_MB), (1, 1.5)
            axes.annotate(
                f"1/{weight_bytes / statistics_bytes:.0f}",
                at,
                above,
                textcoords="offset points",
                fontsize=style.SMALL_PT,
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(places, [f"{accuracy:.2f}" for accuracy in subnets["accuracy"]])
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("subnet accuracy (%)")
        axes.set_ylabel("memory (MB)")
        style.legend_below(figure, *axes.get_legend_handles_labels())
    return figure
