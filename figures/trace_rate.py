"""The rate of a trace over time, in windows of one second and of 1/12 s (a minute of a day compressed to 120 s)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from figures import style

if TYPE_CHECKING:
    import numpy.typing as npt


def draw(
    counts_83ms: npt.NDArray[np.int64], counts_1s: npt.NDArray[np.int64], *, duration_s: float, title: str = ""
) -> Figure:
    """Return a figure of the rates, one step per window; the incomplete last windows are left out.

    Args:
        counts_83ms: Arrivals in each window of 1/12 s, int64, shape (windows,).
        counts_1s: Arrivals in each window of 1 s, int64, shape (windows,).
        duration_s: The length of the trace in seconds.
        title: Title of the figure.
    """
    with style.applied():
        figure = Figure(figsize=(style.PAGE_IN, 2.2), layout="constrained")
        axes = figure.add_subplot()
        for counts, per_s, label, color, width in (
            (counts_83ms, 12, "in 1/12 s", "0.7", 0.5),
            (counts_1s, 1, "in 1 s", "C0", 1.2),
        ):
            # Windows after the last arrival belong to the trace, too.
            rates = np.zeros(int(duration_s * per_s))
            rates[: len(counts)] = counts[: len(rates)] * per_s
            edges = np.arange(len(rates) + 1) / per_s
            axes.stairs(rates, edges, baseline=None, label=label, color=color, linewidth=width)
        axes.set(xlabel="time (s)", ylabel="rate (q/s)", title=title, xlim=(0, duration_s))
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower left", ncols=2)
    return figure
