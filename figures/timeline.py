"""The timeline of a run on a topology: when workers compute and wait, and the messages between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist

    from topology.report import Span

MAX_ROWS = 60
"""At most this many workers are shown; the title counts the others."""
_COMPUTE, _WAIT = "#56B4E9", "#EDEDED"
_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2", "#000000")


def draw(
    spans: Sequence[Span], workers: Sequence[str], title: str = "", window_s: tuple[float, float] | None = None
) -> Figure:
    """Return the figure: a row for each worker, the first at the top; a line for each message.

    Args:
        spans: The spans of a report.
        workers: The ids of the workers, in order.
        title: The title.
        window_s: The start and the end, in seconds; None for the whole run.
    """
    rows = {worker: row for row, worker in enumerate(workers[:MAX_ROWS])}
    if not rows or not spans:
        return style.empty(style.PAGE_IN)
    channels = sorted({span.what for span in spans if span.kind == "message"})
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(channels)}
    with style.applied():
        figure = Figure(figsize=(style.PAGE_IN, 1.0 + 0.16 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for kind, colour, high in (("wait", _WAIT, 0.7), ("compute", _COMPUTE, 0.7)):
            for worker, row in rows.items():
                own = [s for s in spans if s.kind == kind and s.worker == worker]
                bars = [(s.start_ns / 1e9, (s.end_ns - s.start_ns) / 1e9) for s in own]
                axes.broken_barh(bars, (row - high / 2, high), facecolor=colour, linewidth=0)
        for channel in channels:
            own = [s for s in spans if s.kind == "message" and s.what == channel and {s.worker, s.peer} <= set(rows)]
            ends = [[(s.start_ns / 1e9, rows[s.worker]), (s.end_ns / 1e9, rows[s.peer])] for s in own]
            axes.add_collection(LineCollection(ends, colors=colours[channel], linewidths=0.5, alpha=0.8))
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time (s)")
        axes.set_xlim(window_s or (0, max(span.end_ns for span in spans) / 1e9))
        left_out = len(workers) - len(rows)
        axes.set_title(f"{title} ({left_out} more workers are not shown)".lstrip() if left_out else title)
        handles: list[Artist] = [Patch(facecolor=_COMPUTE), Patch(facecolor=_WAIT)]
        handles += [Line2D([], [], color=colours[name]) for name in channels]
        names = ["computing", "waiting", *channels]
        figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)))
    return figure
