"""The decision surface of a policy: which subnet and which batch size over slack and queue length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from figures import style

if TYPE_CHECKING:
    import numpy.typing as npt


def draw_decisions(
    slack_ms: npt.NDArray[np.float64],
    queue_lengths: npt.NDArray[np.int64],
    accuracy: npt.NDArray[np.float64],
    batch_size: npt.NDArray[np.float64],
    title: str = "",
) -> Figure:
    """Return two maps side by side: the accuracy of the subnet that is chosen, and the batch size.

    Args:
        slack_ms: The edges of the slack axis in milliseconds, shape (slacks + 1,).
        queue_lengths: The queue lengths, shape (lengths,).
        accuracy: In percent, NaN where nothing is dispatched, shape (lengths, slacks).
        batch_size: In queries, NaN likewise, shape (lengths, slacks).
        title: What stands above.
    """
    with style.applied():
        figure = Figure(figsize=(style.PAGE_IN, 2.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, values, label, digits in (
            (panels[0], accuracy, "accuracy of the subnet (%)", 2),
            (panels[1], batch_size, "batch size", 0),
        ):
            levels = np.unique(values[~np.isnan(values)])
            # One step of one hue for each value that occurs: the order of the colours is that of their greys.
            rank = np.where(np.isnan(values), np.nan, np.searchsorted(levels, values).astype(float))
            norm = BoundaryNorm(np.arange(-0.5, max(len(levels), 1)), 256)
            edges = np.append(queue_lengths - 0.5, queue_lengths[-1] + 0.5)
            cells = axes.pcolormesh(slack_ms, edges, rank, cmap=colormaps["Blues"], norm=norm)
            bar = figure.colorbar(cells, ax=axes, ticks=range(len(levels)))
            bar.ax.set_yticklabels([f"{level:.{digits}f}" for level in levels])
            bar.ax.minorticks_off()
            bar.set_label(label)
            axes.set_xlabel("slack (ms)")
            axes.grid(visible=False)
        panels[0].set_ylabel("queries waiting")
        figure.suptitle(title)
    return figure
