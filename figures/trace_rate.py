"""The rate of a trace over time, in windows of one second and of a minute of a day shrunk to 120 s (1/12 s)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import numpy.typing as npt


def draw(
    counts_83ms: npt.NDArray[np.int64], counts_1s: npt.NDArray[np.int64], *, duration_s: float, title: str = ""
) -> Figure:
    """Return a figure of the rates, one step a window; the incomplete last windows are left out.

    Args:
        counts_83ms: Arrivals in each window of 1/12 s, int64, shape (windows,).
        counts_1s: Arrivals in each window of 1 s, int64, shape (windows,).
        duration_s: The length of the trace in seconds.
        title: What stands above.
    """
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.add_subplot()
    for counts, per_s, label, color, width in (
        (counts_83ms, 12, "1/12 s", "0.7", 0.6),
        (counts_1s, 1, "1 s", "C0", 1.4),
    ):
        # Windows after the last arrival belong to the trace, too.
        rates = np.zeros(int(duration_s * per_s))
        rates[: len(counts)] = counts[: len(rates)] * per_s
        axes.stairs(rates, np.arange(len(rates) + 1) / per_s, baseline=None, label=label, color=color, linewidth=width)
    axes.set(xlabel="Time (s)", ylabel="Rate (queries/s)", title=title, xlim=(0, duration_s))
    axes.set_ylim(bottom=0)
    axes.legend(title="Window", frameon=False, ncols=2)
    return figure
