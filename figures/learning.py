"""Curves of a federated training: accuracy over time and over bytes, and bytes per round by channel.

Flame's evaluation (Daga et al., SoCC 2023) compares topologies by accuracy over time under a constrained uplink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from figures import style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BYTES_PER_MB = 10**6
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#6E6E6E")
_LABELLED = 0.15
"""Minimum width of a labelled part, as a fraction of the longest bar."""


def draw(curves: pd.DataFrame, traffic: pd.DataFrame, metric: str = "accuracy") -> Figure:
    """Return a figure of three panels, with one line per repeat.

    Args:
        curves: Columns `curve`, `seed`, `time_s`, `bytes` (sent so far; NaN if not known) and `accuracy` (percent).
        traffic: Columns `run`, `channel` and `bytes` (per round).
        metric: What the accuracies are, for the axis.

    Raises:
        DataError: A column is missing.
    """
    check_columns(curves, ("curve", "seed", "time_s", "bytes", "accuracy"), "learning")
    check_columns(traffic, ("run", "channel", "bytes"), "learning")
    if curves.empty:
        return style.empty(style.PAGE_IN)
    with style.applied():
        figure = Figure(figsize=(style.PAGE_IN, 2.6), layout="constrained")
        over_time, over_bytes, sent = figure.subplots(1, 3, width_ratios=(3, 3, 2))
        names = list(dict.fromkeys(curves["curve"]))
        for number, name in enumerate(names):
            colour, dash = _COLOURS[number % len(_COLOURS)], style.DASHES[number // len(_COLOURS) % len(style.DASHES)]
            for first, (_, rows) in enumerate(curves[curves["curve"] == name].groupby("seed")):
                label = "_" if first else name
                look = {"color": colour, "linestyle": dash, "label": label}
                for axes, x in ((over_time, rows["time_s"]), (over_bytes, rows["bytes"] / BYTES_PER_MB)):
                    axes.plot(x, rows["accuracy"], marker="o" if x.count() == 1 else "", **look)
        over_bytes.sharey(over_time)
        over_bytes.tick_params(labelleft=False)
        over_time.set_ylabel(f"{metric} (%)")
        over_time.set_xlabel("time (s)")
        over_bytes.set_xlabel("sent (MB)")
        for axes in (over_time, over_bytes):
            axes.set_xlim(left=0)
        _bars(sent, traffic)
        style.legend_below(figure, *over_time.get_legend_handles_labels())
    return figure


def _bars(axes: Axes, traffic: pd.DataFrame) -> None:
    """Draw megabytes per round: a bar per run in parts by channel, or a bar per channel if there is only one run."""
    mean = traffic.groupby(["run", "channel"], sort=False)["bytes"].mean().reset_index()
    runs = list(dict.fromkeys(mean["run"]))
    by = "run" if len(runs) > 1 else "channel"
    rows = list(dict.fromkeys(mean[by]))
    left, longest = np.zeros(len(rows)), mean.groupby(by)["bytes"].sum().max() / BYTES_PER_MB
    for number, channel in enumerate(dict.fromkeys(mean["channel"])):
        per_row = mean[mean["channel"] == channel].set_index(by)["bytes"]
        wide = np.array([float(per_row.get(row, 0.0)) for row in rows]) / BYTES_PER_MB
        axes.barh(range(len(rows)), wide, 0.6, left=left, color=_COLOURS[number % len(_COLOURS)], alpha=0.8)
        largest = int(wide.argmax())
        if by == "run" and wide[largest] > _LABELLED * longest:
            axes.text(left[largest] + wide[largest] / 2, largest, channel, ha="center", va="center", fontsize=5)
        left += wide
    axes.set_yticks(range(len(rows)), [str(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("sent in a round (MB)")
