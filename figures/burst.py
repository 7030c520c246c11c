"""A run as a film: its batches on the decision surface, beside rate, queue and subnets over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from figures import style
from sim.base.whole_file import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

FRAMES, PER_SECOND = 120, 12
_BINS, _DPI = 240, 110
_ORANGE = "#D55E00"
_SHADES = colormaps["Blues"](np.linspace(0.25, 1, 256))


def film(
    target: Path,
    surface: tuple[Floats, npt.NDArray[np.int64], Floats],
    at_s: Floats,
    slack_ms: Floats,
    queue_length: npt.NDArray[np.int64],
    accuracy: Floats,
    arrival_s: Floats,
    title: str = "",
) -> Path:
    """Write a film of a run as GIF, of `FRAMES` pictures, and return its path; the same run gives the same bytes.

    Args:
        target: The file.
        surface: Edges of the slack axis in milliseconds, shape (slacks + 1,); queue lengths, shape (lengths,); the
            accuracy in percent of the subnet that is chosen there, NaN where none is, shape (lengths, slacks).
        at_s: The start of each batch, ascending, shape (batches,).
        slack_ms: The slack of its most urgent query, same shape.
        queue_length: The queries that waited, same shape.
        accuracy: The accuracy of its subnet in percent, same shape.
        arrival_s: The arrivals, ascending, shape (queries,).
        title: Title of the film.

    Raises:
        StoreError: The file can't be written.
    """
    end_s = max(at_s[-1], arrival_s[-1])
    edges = np.linspace(0, end_s, _BINS + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    rate = np.histogram(arrival_s, edges)[0] / (end_s / _BINS)
    batches = np.histogram(at_s, edges)[0]
    with np.errstate(invalid="ignore"):
        curves = [rate, *(np.histogram(at_s, edges, weights=one)[0] / batches for one in (queue_length, accuracy))]
    with style.applied():
        figure = Figure(figsize=(style.PAGE_IN, 3.0), dpi=_DPI, layout="constrained")
        grid = figure.add_gridspec(3, 2, width_ratios=(1.1, 1))
        plane, *panels = (figure.add_subplot(grid[:, 0]), *(figure.add_subplot(grid[row, 1]) for row in range(3)))
        slack_edges, lengths, chosen = surface
        length_edges = np.append(lengths - 0.5, lengths[-1] + 0.5)
        shades = plane.pcolormesh(slack_edges, length_edges, chosen, cmap=ListedColormap(_SHADES), rasterized=True)
        figure.colorbar(shades, ax=plane, location="bottom", label="accuracy of the chosen subnet (%)", shrink=0.8)
        limits = {"xlim": (slack_edges[0], slack_edges[-1]), "ylim": (length_edges[0], length_edges[-1])}
        plane.set(xlabel="slack (ms)", ylabel="queries waiting", **limits)
        plane.grid(visible=False)
        (trail,) = plane.plot([], [], ".", markersize=3, color=_ORANGE, alpha=0.5)
        cursors = []
        names = ("ingest\n(q/s)", "queries\nwaiting", "accuracy\n(%)")
        for panel, values, name in zip(panels, curves, names, strict=True):
            panel.plot(middle, values, color="0.75")
            (line,) = panel.plot([], [], color=_ORANGE)
            cursors.append((line, values))
            panel.set_ylabel(name)
            panel.set_ylim(bottom=None if values is curves[-1] else 0)
            panel.set_xlim(0, end_s)
            panel.tick_params(labelbottom=panel is panels[-1])
        panels[-1].set_xlabel("time (s)")
        figure.suptitle(title)

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        figure.set_layout_engine("none")  # it has its places now
        pictures = []
        for frame in range(FRAMES):
            now = end_s * (frame + 1) / FRAMES
            first, last = np.searchsorted(at_s, (now - end_s / FRAMES, now))
            trail.set_data(slack_ms[first:last], queue_length[first:last])
            for line, values in cursors:
                line.set_data(middle[middle <= now], values[middle <= now])
            canvas.draw()
            pictures.append(PIL.Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB").quantize(64))
    with whole_file(target) as unfinished:
        first_one, *others = pictures
        milliseconds = 1000 // PER_SECOND
        first_one.save(unfinished, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    return target
