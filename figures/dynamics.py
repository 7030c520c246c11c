"""A run over time: ingest, serving accuracy, batch size and SLO attainment (after SuperServe, NSDI 2025, Figure 8c)."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures import attainment, style
from figures.tables import check_columns, window_ends

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_PANELS = {
    "ingest_per_s": "ingest (q/s)",
    "serving_accuracy": "serving\naccuracy (%)",
    "batch_size": "batch size",
    "slo_attainment": "SLO attainment",
}
_BREAK = 0.07
"""Height of the break in the axis of accuracies, as a fraction of the axis."""
_SAME = 1e-6
"""Tolerance for equal accuracies in percent, which may be summed in another order."""
_MANY = 3.0
"""From so many on, queries and batches are counted by whole numbers on an axis."""
_MARKS = 7
"""Number of markers along a line, which distinguish lines in grey."""


class _Line(NamedTuple):
    """A policy over time: means over its seeds by column, NaN for missing windows; float64, shape (windows,)."""

    policy: str
    dashes: int
    columns: dict[str, npt.NDArray[np.float64]]


def draw(windows: pd.DataFrame, title: str = "", width: float = style.COLUMN_IN) -> Figure:
    """Return the figure: four panels over time, one line per policy, the mean over its seeds.

    Args:
        windows: One row per window, with the columns of `sim.engine.metrics.windows`; `policy` and `seed` if there are
            several. NaN or a missing window leaves a gap; the last window may be shorter than the others.
        title: Title of the figure.
        width: In inches.

    Raises:
        DataError: A column is missing.
    """
    if windows.empty:
        return style.empty(width)
    check_columns(windows, ("start_s", *_PANELS), "windows")
    named = "policy" in windows.columns
    starts = np.unique(windows["start_s"].to_numpy(np.float64))
    end = float(window_ends(windows).max())
    step = float(np.diff(starts).min()) if len(starts) > 1 else end - starts[0]
    # Windows missing in all runs are gaps, too.
    starts = starts[0] + step * np.arange(round((starts[-1] - starts[0]) / step) + 1)
    edges = np.append(starts, end)
    lines = _lines(windows if named else windows.assign(policy=""), starts, step)
    with style.applied():
        figure = Figure(figsize=(width, 4.4), layout="constrained")
        panels = figure.subplots(len(_PANELS), sharex=True, height_ratios=[1, 1, 1, 1.6])
        for axes, (column, name) in zip(panels, _PANELS.items(), strict=True):
            axes.set_ylabel(name)
            _scale(axes, column, [line.columns[column] for line in lines])
            shown = _ingest(lines) if column == "ingest_per_s" else lines
            for rank, line in enumerate(shown):
                _draw_line(axes, edges, line, column, rank if len(shown) > 1 else None)
        panels[-1].set_xlim(edges[0], end)
        panels[-1].xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        panels[-1].set_xlabel("time (s)")
        figure.align_ylabels(panels)
        figure.suptitle(title)
        if named:
            handles = [_handle(line, alone=len(lines) == 1) for line in lines]
            names = [style.display_name(line.policy) for line in lines]
            style.legend_below(figure, handles, names)
    return figure


def _lines(windows: pd.DataFrame, starts: npt.NDArray[np.float64], step: float) -> list[_Line]:
    lines = []
    for _, members in itertools.groupby(sorted(set(windows["policy"]), key=style.order), key=style.family):
        for dashes, policy in enumerate(members):
            runs = windows[windows["policy"] == policy]
            place = np.rint((runs["start_s"] - starts[0]) / step).astype(np.int64)
            means = runs[list(_PANELS)].groupby(place).mean().reindex(range(len(starts)))
            lines.append(_Line(policy, dashes, {name: means[name].to_numpy(np.float64) for name in _PANELS}))
    return lines


def _ingest(lines: list[_Line]) -> list[_Line]:
    """Return one line without a policy if all policies have the same arrivals; else one line per policy."""
    ingest = pd.DataFrame([line.columns["ingest_per_s"] for line in lines])
    if np.isclose(ingest.min(), ingest.max(), equal_nan=True).all():
        return [_Line("", 0, {"ingest_per_s": ingest.max().to_numpy(np.float64)})]
    return lines


def _scale(axes: Axes, column: str, values: list[npt.NDArray[np.float64]]) -> None:
    """Set the limits of a panel: from 0, or from a marked break."""
    known = np.concatenate(values)
    known = known[~np.isnan(known)]
    if column == "slo_attainment":
        decades = attainment.decades(known)
        attainment.set_scale(axes, decades, every=math.ceil((decades + 1) / 5))
        attainment.mark_break(axes, decades)
    elif column == "serving_accuracy" and len(known):
        spread = float(np.ptp(known))
        margin = 0.2 * spread if spread > _SAME else 1.0
        low, high = float(known.min()) - 2 * margin, float(known.max()) + margin
        axes.set_yticks(_ticks(low + 2 * _BREAK * (high - low), high))
        axes.set_ylim(low, high)
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        attainment.slashes(axes, _BREAK)
    else:
        axes.set_ylim(0, 1.08 * known.max(initial=0.0) or 1.0)
        is_many = known.max(initial=0.0) >= _MANY
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=is_many))


def _ticks(low: float, high: float) -> list[float]:
    """Return the ticks of a broken axis: at least two round numbers above the break, to show their step.

    A tick at the break would suggest an unbroken axis down to it.

    Example:
        >>> [float(round(tick, 9)) for tick in _ticks(79.27, 79.59)]
        [79.3, 79.4, 79.5]
    """
    tried = (MaxNLocator(bins, steps=[1, 2, 5, 10]).tick_values(low, high) for bins in itertools.count(3))
    shown = ([float(tick) for tick in ticks if low < tick <= high] for ticks in tried)
    return next(ticks for ticks in shown if len(ticks) > 1)


def _draw_line(axes: Axes, edges: npt.NDArray[np.float64], line: _Line, column: str, rank: int | None) -> None:
    """Draw a line as steps, so that a window between two gaps is visible; with markers if there are several lines."""
    look, values = style.look(line.policy), line.columns[column]
    colour = look.colour if line.policy else style.GREY
    # The first in the legend lies on top where lines agree.
    depth = 2.5 - 0.01 * (rank or 0)
    # Each window is a level from its start to its end.
    axes.plot(
        np.column_stack([edges[:-1], edges[1:]]).ravel(),
        np.repeat(values, 2),
        color=colour,
        linestyle=style.DASHES[line.dashes % len(style.DASHES)],
        label=line.policy,
        solid_capstyle="butt",
        zorder=depth,
    )
    if rank is not None:
        every = max(1, len(values) // _MARKS)
        some = slice((2 * rank) % every, None, every)
        marks: dict[str, Any] = {**_marks(line), "linestyle": "none", "zorder": depth}
        axes.plot((edges[:-1] + edges[1:])[some] / 2, values[some], **marks)


def _handle(line: _Line, *, alone: bool) -> Line2D:
    dashes = style.DASHES[line.dashes % len(style.DASHES)]
    return style.handle(line.policy, **_marks(line) | {"linestyle": dashes} | ({"marker": ""} if alone else {}))


def _marks(line: _Line) -> dict[str, Any]:
    """Return the properties of markers on a line: smaller than those of points, without a white rim."""
    look = style.look(line.policy)
    return look.marks() | {"markersize": 0.6 * look.size, "markeredgewidth": 0.8, "markeredgecolor": look.colour}
