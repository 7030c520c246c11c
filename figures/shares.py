"""Queues over time: the load of each, the workers that are busy with it, and its SLO attainment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from figures import attainment, style
from figures.tables import check_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pandas as pd

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_BINS = 60
_MOST = 4
"""Panels side by side."""


def draw(queries: pd.DataFrame, queues: Sequence[str], title: str = "") -> Figure:
    """Return the figure: a column for each run, with load, busy workers and attainment of each queue over time.

    A worker is busy with a queue while it runs one of its batches.

    Args:
        queries: A row for each query: `run` (the title of its column), `class` (its queue), `arrival_ns`, `start_ns`
            and `finish_ns` of its batch (NaN without one, or if it was lost), `batch_size`, `outcome`.
        queues: The queues that are shown, from the lowest area to the highest.
        title: Title of the figure.

    Raises:
        DataError: A column is missing.
    """
    if queries.empty:
        return style.empty(style.PAGE_IN)
    names = ("run", "class", "arrival_ns", "start_ns", "finish_ns", "batch_size", "outcome")
    check_columns(queries, names, "requests")
    runs = list(dict.fromkeys(queries["run"]))[:_MOST]
    title = style.first_of(title, "runs", len(runs), queries["run"].nunique())
    title = style.first_of(title, "queues", len(_COLOURS), len(queues))
    queues = list(queues)[: len(_COLOURS)]
    edges_s = np.linspace(0, queries["arrival_ns"].max() / 1e9, _BINS + 1)
    found = {
        (run, queue): over_time(queries[(queries["run"] == run) & (queries["class"] == queue)], edges_s)
        for run in runs
        for queue in queues
    }
    with style.applied():
        width = max(style.COLUMN_IN, min(1, len(runs) / 3) * style.PAGE_IN)
        figure = Figure(figsize=(width, 4.0), layout="constrained")
        grid = figure.subplots(3, len(runs), sharex=True, sharey="row", squeeze=False, height_ratios=[1, 1.4, 1.4])
        attained = np.concatenate([met for _, _, met in found.values()])
        decades = attainment.decades(attained[~np.isnan(attained)])
        attainment.set_scale(grid[2, 0], decades, every=math.ceil((decades + 1) / 5))
        for column, run in enumerate(runs):
            above, middle, below = grid[:, column]
            above.set_title(style.panel_title(run, len(runs)))
            base = np.zeros(_BINS + 1)
            for queue, colour in zip(queues, _COLOURS, strict=False):
                load, busy, met = (np.append(values, values[-1]) for values in found[run, queue])
                above.plot(edges_s, load, color=colour, linewidth=0.9, drawstyle="steps-post")
                middle.fill_between(edges_s, base, base + busy, step="post", color=colour, linewidth=0)
                below.plot(edges_s, met, color=colour, linewidth=0.9, drawstyle="steps-post")
                base += busy
            attainment.mark_break(below, decades)
            below.set_xlim(0, edges_s[-1])
            below.set_xlabel("time (s)")
        for axes, name in zip(grid[:, 0], ("load (q/s)", "busy workers", "SLO attainment"), strict=True):
            axes.set_ylabel(name)
        for axes in grid[:2, 0]:
            axes.set_ylim(bottom=0)
        grid[1, 0].yaxis.set_major_locator(MaxNLocator(5, integer=True))
        figure.align_ylabels(grid[:, 0])
        figure.suptitle(title)
        style.legend_below(figure, [Patch(facecolor=colour) for colour in _COLOURS[: len(queues)]], queues)
    return figure


def over_time(
    queries: pd.DataFrame, edges_s: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return load, busy workers and SLO attainment of a queue between instants.

    Args:
        queries: Its queries, as `draw` takes them.
        edges_s: The instants in seconds, float64, shape (windows + 1,).

    Returns:
        Queries/s, workers, and the share of the arrivals that met their SLO, NaN without any; float64, shape
        (windows,).
    """
    lengths_s = np.diff(edges_s)
    arrival_s = queries["arrival_ns"].to_numpy() / 1e9
    arrived = np.histogram(arrival_s, edges_s)[0]
    met = np.histogram(arrival_s[(queries["outcome"] == "met").to_numpy()], edges_s)[0]
    served = queries[queries["finish_ns"].notna()]
    share = 1 / served["batch_size"].to_numpy(np.float64)
    sides = (served[name].to_numpy(np.float64) / 1e9 for name in ("start_ns", "finish_ns"))
    begun, ended = (_until(at_s, share, edges_s) for at_s in sides)
    with np.errstate(invalid="ignore"):
        return arrived / lengths_s, np.diff(begun - ended) / lengths_s, met / arrived


def _until(
    at_s: npt.NDArray[np.float64], share: npt.NDArray[np.float64], edges_s: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the time from some instants until each edge, each weighted by its share, summed; none after the edge."""
    order = np.argsort(at_s)
    weight, moment = (np.append(0, np.cumsum(values[order])) for values in (share, share * at_s))
    before = np.searchsorted(at_s[order], edges_s)
    found: npt.NDArray[np.float64] = weight[before] * edges_s - moment[before]
    return found
