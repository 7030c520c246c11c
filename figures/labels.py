"""Short texts beside points, placed so that they hide neither each other nor the points."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

_PT_PER_IN = 72
_DIRECTIONS = tuple((math.sin(angle), math.cos(angle)) for angle in np.linspace(0, 2 * math.pi, 16, endpoint=False))
_NEAR_PT = 4.0
"""From a point to the nearest edge of its text."""
_RINGS_PT = (0.0, 4.0, 8.0, 13.0, 19.0, 26.0, 34.0)
"""How much further out a text may go; beyond the first, a thin line leads to it."""
_LINE_SPACING = 0.95
_AIR_PT = 1.0
"""Kept free around a text."""


class Label(NamedTuple):
    """A text and the point it belongs to, in data coordinates."""

    text: str
    x: float
    y: float
    colour: str


def place(axes: Axes, labels: Iterable[Label], obstacles: Sequence[Bbox]) -> list[Bbox]:
    """Write labels near their points, each where it covers least, and nearest among equals.

    The figure must have been laid out: only then do texts have their final size and axes their final place. Nothing
    is left to chance: the same labels come to lie at the same places.

    Args:
        axes: Where the points are.
        labels: In the order in which they choose their places.
        obstacles: What should not be covered, in pixels.

    Returns:
        The boxes of the texts and of the lines that lead to them, in pixels.
    """
    taken: list[Bbox] = []
    pixels = axes.figure.dpi / _PT_PER_IN
    frame = axes.get_window_extent()
    for label in labels:
        size = _size(axes, label) + 2 * _AIR_PT
        point = axes.transData.transform((label.x, label.y))
        best: tuple[float, _Place] | None = None
        for ring, direction in itertools.product(_RINGS_PT, _DIRECTIONS):
            spot = _spot(point, direction, ring, size, pixels)
            outside = spot.box.width * spot.box.height - _overlap(spot.box, frame)
            # A covered square pixel outweighs any distance; a line must not cross a text, but starts in its marker.
            covered = sum(_overlap(spot.box, other) for other in (*obstacles, *taken))
            crossed = sum(_overlap(dot, other) for dot in spot.line for other in taken)
            cost = covered + crossed + 4 * outside + ring / 100
            if best is None or cost < best[0]:
                best = cost, spot
        if best is not None:
            _write(axes, label, best[1])
            taken += [best[1].box, *best[1].line]
    return taken


def place_note(axes: Axes, text: str, obstacles: Sequence[Bbox], colour: str) -> None:
    """Write a note of several lines where a panel is emptiest: the lowest such place, the leftmost of them."""
    note = axes.text(0, 0, text, transform=axes.transAxes, color=colour, zorder=6)
    note.set_in_layout(False)
    frame, extent = axes.get_window_extent(), note.get_window_extent()
    size = np.array([extent.width, extent.height])
    free = np.array([frame.width, frame.height]) - size
    corners = [frame.min + free * (x, y) for y in np.linspace(0.03, 0.97, 15) for x in (0.04, 0.5, 0.96)]
    boxes = [Bbox([corner, corner + size]) for corner in corners]
    best = min(boxes, key=lambda box: sum(_overlap(box, other) for other in obstacles))
    note.set_position(((best.x0 - extent.x0) / frame.width, (best.y0 - extent.y0) / frame.height))


class _Place(NamedTuple):
    """Where a text may go: its middle and the near end of its line, in points from the point; its boxes in pixels."""

    middle_pt: tuple[float, float]
    start_pt: tuple[float, float]
    box: Bbox
    line: list[Bbox]


def _spot(
    point: npt.NDArray[np.float64],
    direction: tuple[float, float],
    ring: float,
    size: npt.NDArray[np.float64],
    pixels: float,
) -> _Place:
    towards = np.array(direction)
    edge = towards / max(map(abs, direction)) * size / 2
    middle = towards * (_NEAR_PT + ring) + edge
    start = middle - np.clip(middle, -size / 2, size / 2)
    box = Bbox([point + (middle - size / 2) * pixels, point + (middle + size / 2) * pixels])
    dots = [point + start * pixels * part for part in np.linspace(0.2, 0.9, 8)] if ring else []
    line = [Bbox([dot - pixels, dot + pixels]) for dot in dots]
    return _Place((middle[0], middle[1]), (start[0], start[1]), box, line)


def _size(axes: Axes, label: Label) -> npt.NDArray[np.float64]:
    """Return the width and the height of a label's text, in points."""
    text = axes.text(0, 0, label.text, linespacing=_LINE_SPACING)
    extent = text.get_window_extent()
    text.remove()
    return np.array([extent.width, extent.height]) / axes.figure.dpi * _PT_PER_IN


def _write(axes: Axes, label: Label, spot: _Place) -> None:
    look: dict[str, Any] = {"ha": "center", "va": "center", "linespacing": _LINE_SPACING, "zorder": 6}
    at: dict[str, Any] = {"xy": (label.x, label.y), "textcoords": "offset points"}
    texts = [axes.annotate(label.text, xytext=spot.middle_pt, color=label.colour, **at, **look)]
    if spot.line:
        line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2}
        texts.append(axes.annotate("", xytext=spot.start_pt, arrowprops=line, **at))
    for text in texts:
        text.set_in_layout(False)  # the layout is done: a text must not move the axes that it was placed in


def _overlap(a: Bbox, b: Bbox) -> float:
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0
