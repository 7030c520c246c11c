"""Workers that come and go: the load, the workers of each kind below it, and SLO attainment, over time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from figures import attainment, style
from figures.tables import check_columns, window_ends
from sim.engine.scaling import serving_over_time

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.axes import Axes

_KINDS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2")
_STARTING = "#BBBBBB"
_BINS = 180
"""At most this many windows over time, so that a day can be read."""
_MOST = 4
"""Panels side by side."""


def draw(windows: pd.DataFrame, workers: pd.DataFrame, title: str = "") -> Figure:
    """Return the figure: a column for each run, with the load, the workers and the attainment over time.

    Args:
        windows: The runs over time: `run` (the title of its column), `start_s`, `ingest_per_s` and `slo_attainment`.
        workers: A row for each worker: `run`, `kind`, `asked_ns`, `ready_ns`, and `gone_ns` (NaN if it stayed).
        title: Title of the figure.

    Raises:
        DataError: A column is missing.
    """
    if windows.empty:
        return style.empty(style.PAGE_IN)
    check_columns(windows, ("run", "start_s", "ingest_per_s", "slo_attainment"), "windows")
    check_columns(workers, ("run", "kind", "asked_ns", "ready_ns", "gone_ns"), "workers")
    runs = list(dict.fromkeys(windows["run"]))[:_MOST]
    title = style.first_of(title, "runs", len(runs), windows["run"].nunique())
    kinds = list(dict.fromkeys(workers["kind"]))
    with style.applied():
        figure = Figure(
            figsize=(max(style.COLUMN_IN, min(1, len(runs) / 3) * style.PAGE_IN), 4.0), layout="constrained"
        )
        grid = figure.subplots(3, len(runs), sharex=True, sharey="row", squeeze=False, height_ratios=[1, 1.4, 1])
        binned = [_binned(windows[windows["run"] == run]) for run in runs]
        known = np.concatenate([one[2][~np.isnan(one[2])] for one in binned])
        decades = attainment.decades(known)
        attainment.set_scale(grid[2, 0], decades, every=math.ceil((decades + 1) / 4))
        for column, (run, (edges, load, attained)) in enumerate(zip(runs, binned, strict=True)):
            above, middle, below = grid[:, column]
            above.set_title(style.panel_title(run, len(runs)))
            above.plot(edges, load, color=style.GREY, linewidth=0.9, drawstyle="steps-post")
            _draw_workers(middle, workers[workers["run"] == run], kinds, float(edges[-1]))
            below.plot(edges, attained, color="black", linewidth=0.9, drawstyle="steps-post")
            attainment.mark_break(below, decades)
            below.set_xlim(edges[0], edges[-1])
            below.set_xlabel("time (s)")
        grid[0, 0].set_ylim(0, 1.08 * max(np.nanmax(one[1]) for one in binned))
        for axes, name in zip(grid[:, 0], ("load (q/s)", "workers", "SLO attainment"), strict=True):
            axes.set_ylabel(name)
        grid[1, 0].yaxis.set_major_locator(MaxNLocator(5, integer=True))
        grid[1, 0].set_ylim(bottom=0)
        figure.align_ylabels(grid[:, 0])
        figure.suptitle(title)
        handles = [Patch(facecolor=_colour(number)) for number in range(len(kinds))]
        names = [kind or "workers" for kind in kinds]
        if (workers["ready_ns"] > workers["asked_ns"]).any():
            handles.append(Patch(facecolor=_STARTING))
            names.append("starting")
        style.legend_below(figure, handles, names)
    return figure


def _colour(number: int) -> str:
    return _KINDS[number % len(_KINDS)]


def _binned(
    windows: pd.DataFrame,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return edges of windows that are wide enough to be read, and load and attainment of a run from each edge on."""
    starts, load, attained = (
        windows[name].to_numpy(np.float64) for name in ("start_s", "ingest_per_s", "slo_attainment")
    )
    ends = window_ends(windows)
    first = np.arange(0, len(starts), max(1, math.ceil(len(starts) / _BINS)))
    queries = load * (ends - starts)
    arrivals, met = np.add.reduceat(queries, first), np.add.reduceat(np.nan_to_num(queries * attained), first)
    edges = np.append(starts[first], ends[-1])
    with np.errstate(invalid="ignore"):
        columns = arrivals / np.diff(edges), met / arrivals
    loads, attainments = (np.append(column, column[-1]) for column in columns)
    return edges, loads, attainments


def _draw_workers(axes: Axes, workers: pd.DataFrame, kinds: list[str], end_s: float) -> None:
    """Draw the workers of each kind on top of each other, and those that start on top of all."""
    gone = workers["gone_ns"].fillna(np.inf)
    ready, asked = workers["ready_ns"], workers["asked_ns"]
    layers = [(_colour(number), ready, gone, workers["kind"] == kind) for number, kind in enumerate(kinds)]
    layers.append((_STARTING, asked, ready.where(ready < gone, gone), ready > asked))
    marks = np.unique(np.concatenate([[0.0], *(layer[some] for _, *ends, some in layers for layer in ends)]))
    marks = marks[marks < end_s * 1e9]
    base = np.zeros(len(marks))
    for colour, since, until, some in layers:
        at_ns, numbers = serving_over_time(_whole(since[some]), _whole(until[some]))
        place = np.searchsorted(at_ns, marks, side="right") - 1
        height = base + np.where(place >= 0, np.append(numbers, 0)[place], 0)
        axes.fill_between(marks / 1e9, base, height, step="post", color=colour, linewidth=0)
        axes.fill_between([marks[-1] / 1e9, end_s], base[-1], height[-1], color=colour, linewidth=0)
        base = height


def _whole(times: pd.Series[float]) -> npt.NDArray[np.int64]:
    return np.minimum(times.to_numpy(np.float64), 2.0**62).astype(np.int64)
