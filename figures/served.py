"""The rate of queries and the rate answered in time, one panel per setting (after SuperServe, NSDI 2025, Figure 1c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from figures import style
from figures.tables import check_columns, window_ends

if TYPE_CHECKING:
    import pandas as pd

_NEEDED = ("panel", "start_s", "ingest_per_s", "slo_attainment")


def draw(windows: pd.DataFrame, width: float = style.COLUMN_IN) -> Figure:
    """Return a figure with a panel for each value of `panel`, in their order; the missed share is filled.

    Args:
        windows: One row per window, one run per panel, with the columns of `sim.engine.metrics.windows`; `panel`:
            heading.
        width: In inches.

    Raises:
        DataError: A column is missing.
    """
    if windows.empty:
        return style.empty(width)
    check_columns(windows, _NEEDED, "windows")
    headings = list(dict.fromkeys(windows["panel"]))
    with style.applied():
        figure = Figure(figsize=(width, 0.5 + 1.3 * len(headings)), layout="constrained")
        panels = list(figure.subplots(len(headings), sharex=True, sharey=True, squeeze=False).flat)
        for axes, heading in zip(panels, headings, strict=True):
            rows = windows[windows["panel"] == heading].sort_values("start_s")
            start, ingest = rows["start_s"].to_numpy(float), rows["ingest_per_s"].to_numpy(float)
            ends = window_ends(rows)
            edges, length = np.append(start, ends[-1]), ends - start
            met = ingest * np.nan_to_num(rows["slo_attainment"].to_numpy(float))
            axes.stairs(ingest, edges, baseline=met, fill=True, color="#F0B488", linewidth=0, label="late")
            axes.stairs(ingest, edges, baseline=None, color="black", linewidth=0.5, label="queries")
            axes.stairs(met, edges, baseline=None, color="#D55E00", linewidth=1.0, label="answered in time")
            late = 1 - (met * length).sum() / (ingest * length).sum()
            axes.set_title(f"{heading}: {100 * late:.2g} % late" if late > 0 else f"{heading}: none late")
            axes.set_xlim(edges[0], edges[-1])
            axes.set_ylim(bottom=0)
            axes.set_ylabel("rate (q/s)")
        panels[-1].set_xlabel("time (s)")
        handles, names = panels[-1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure
