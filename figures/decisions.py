"""The decision surface of a policy: subnet and batch size over slack and queue length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import style

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.artist import Artist

_HATCHES = {"hold": "....", "drop": "////"}
_GREY = {"hold": "0.97", "drop": "0.85"}
"""How areas are drawn in which nothing is dispatched."""

_DOTS: dict[str, Any] = {
    "linestyle": "none",
    "marker": ".",
    "markersize": 2,
    "color": "#D55E00",
    "alpha": 0.15,
    "rasterized": True,
}
"""How batches of a run are drawn: where many are, they are dense."""

_PALEST = 0.25
"""The shade of the smallest value: well apart from white."""


def draw_decisions(
    slack_ms: npt.NDArray[np.float64],
    queue_lengths: npt.NDArray[np.int64],
    accuracy: npt.NDArray[np.float64],
    batch_size: npt.NDArray[np.float64],
    other: npt.NDArray[np.str_],
    title: str = "",
    visited: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]] | None = None,
) -> Figure:
    """Return two maps side by side: the accuracy of the chosen subnet, and the batch size.

    Where nothing is dispatched they are hatched: one way where queries are held, another where some are dropped.

    Args:
        slack_ms: Edges of the slack axis in milliseconds, shape (slacks + 1,).
        queue_lengths: Queue lengths, shape (lengths,).
        accuracy: In percent, NaN where nothing is dispatched, shape (lengths, slacks).
        batch_size: In queries, NaN likewise, shape (lengths, slacks).
        other: What is done where nothing is dispatched, `hold` or `drop`; "" elsewhere. Same shape.
        title: Title of the figure.
        visited: Slack in milliseconds and queue length of each batch of a run, shape (batches,) each; drawn as dots.
    """
    with style.applied():
        figure = Figure(figsize=(style.PAGE_IN, 2.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, values, label, digits in (
            (panels[0], accuracy, "accuracy of the subnet (%)", 2),
            (panels[1], batch_size, "batch size", 0),
        ):
            levels = np.unique(values[~np.isnan(values)])
            # One step of one hue for each value, so that the order holds in grey, too. White is left to NaN.
            rank = np.where(np.isnan(values), np.nan, np.searchsorted(levels, values).astype(float))
            steps = max(len(levels), 1)
            shades = ListedColormap(colormaps["Blues"](np.linspace(_PALEST, 1, steps)))
            norm = BoundaryNorm(np.arange(-0.5, steps), steps)
            edges = np.append(queue_lengths - 0.5, queue_lengths[-1] + 0.5)
            # Thousands of cells are one picture in a file of vectors, not megabytes of paths.
            cells = axes.pcolormesh(slack_ms, edges, rank, cmap=shades, norm=norm, rasterized=True)
            for what, hatch in _HATCHES.items():
                if (other == what).any():
                    where = np.where(other == what, 1.0, np.nan)
                    grey = ListedColormap([_GREY[what]])
                    # Edges would draw every cell; a contour hatches the area as one.
                    axes.pcolormesh(slack_ms, edges, where, cmap=grey, rasterized=True)
                    middle = (slack_ms[:-1] + slack_ms[1:]) / 2
                    axes.contourf(
                        middle, queue_lengths, other == what, levels=[0.5, 1.5], colors="none", hatches=[hatch]
                    )
            bar = figure.colorbar(cells, ax=axes, ticks=range(len(levels)))
            bar.ax.set_yticklabels([f"{level:.{digits}f}" for level in levels])
            bar.ax.minorticks_off()
            axes.set_title(label)
            axes.set_xlabel("slack (ms)")
            axes.grid(visible=False)
            # Its own numbers: the right panel would otherwise seem to take those of the left colour bar.
            axes.tick_params(labelleft=True)
            axes.set_ylabel("queries waiting")
            if visited is not None:
                axes.set(xlim=(slack_ms[0], slack_ms[-1]), ylim=(edges[0], edges[-1]))
                axes.plot(*visited, **_DOTS)
        figure.suptitle(title)
        there = [what for what in _HATCHES if (other == what).any()]
        handles: list[Artist] = [Patch(facecolor=_GREY[it], hatch=_HATCHES[it], edgecolor="black") for it in there]
        if visited is not None:
            outside = np.mean((visited[0] > slack_ms[-1]) | (visited[0] < slack_ms[0]) | (visited[1] > edges[-1]))
            more = f", {outside:.1%} outside" if outside else ""
            there.append(f"a batch of the run ({len(visited[0]):,}{more})")
            opaque: dict[str, Any] = {**_DOTS, "alpha": 1}
            handles.append(Line2D([], [], **opaque))
        if there:
            figure.legend(handles, there, loc="outside lower center", ncols=len(there))
    return figure
