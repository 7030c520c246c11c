"""Histogram of the slack that queries have left when answered (after SuperServe, arXiv v1, appendix B, Figure 14)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures import attainment, style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_EARLIEST = -0.2
"""Lateness as a fraction of the SLO from which queries are drawn in the leftmost bar."""
_BINS = 48
_COLUMNS = 4


def draw(slacks: pd.DataFrame, slo_ms: float, width: float = style.PAGE_IN) -> Figure:
    """Return a histogram per policy: share of queries by remaining slack, negative for late ones.

    Args:
        slacks: One row for each policy and each slack in whole parts, with the columns `policy`, `slack_ms` (time left,
            negative if late, -inf for a query that was never answered) and `queries`.
        slo_ms: The latency SLO.
        width: In inches.

    Raises:
        DataError: A column is missing.
    """
    if slacks.empty:
        return style.empty(width)
    check_columns(slacks, ("policy", "slack_ms", "queries"), "slacks")
    policies = sorted(set(slacks["policy"]), key=style.order)
    columns = min(_COLUMNS if width > style.COLUMN_IN else 2, len(policies))
    rows = math.ceil(len(policies) / columns)
    edges = np.linspace(_EARLIEST * slo_ms, slo_ms, _BINS + 1)
    highest = 0.0
    overflow: list[tuple[Axes, float]] = []
    with style.applied():
        figure = Figure(figsize=(width, 0.4 + 1.35 * rows), layout="constrained")
        grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for axes, policy in zip(grid, policies, strict=False):
            runs = slacks[slacks["policy"] == policy]
            left, queries = runs["slack_ms"].to_numpy(float), runs["queries"].to_numpy(float)
            shares = np.histogram(np.maximum(left, edges[0]), edges, weights=queries / queries.sum())[0]
            late = float(queries[left < 0].sum() / queries.sum())
            axes.stairs(shares, edges, fill=True, color=style.look(policy).colour, linewidth=0)
            highest = max(highest, float(shares[1:].max()))
            overflow.append((axes, float(shares[0])))
            axes.axvline(0, **style.REFERENCE)
            axes.set_title(f"{style.display_name(policy)}: {1 - late:.4f} met")
        for axes in grid[len(policies) :]:
            axes.remove()
        for axes in grid[max(0, len(policies) - columns) : len(policies)]:
            axes.tick_params(labelbottom=True)
        grid[0].set_ylim(0, 1.1 * highest)
        for axes, share in overflow:
            if share > 1.1 * highest:  # it would flatten all others: cut, and said
                at = (edges[1], 1.05 * highest)
                axes.annotate(f" {share:.2f}", at, va="top", fontsize=style.SMALL_PT, color=style.GREY)
                attainment.slashes(axes, 0.9)
        grid[0].set_xlim(edges[0], edges[-1])
        grid[0].xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        figure.supxlabel("time left when answered (ms); the first bar: as late or later")
        figure.supylabel("share of queries")
    return figure
