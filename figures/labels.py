"""Short texts beside points, placed so that they hide neither each other nor the points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.text import Text

_PT_PER_IN = 72
_DIRECTIONS = tuple((math.sin(angle), math.cos(angle)) for angle in np.linspace(0, 2 * math.pi, 16, endpoint=False))
_NEAR_PT = 4.0
"""From a point to the nearest edge of its text."""
_RINGS_PT = (0.0, 4.0, 8.0, 13.0, 19.0, 26.0, 34.0)
"""How much further out a text may go; beyond the first, a thin line leads to it."""
_AIR_PT = 1.0
"""Kept free around a text."""


class Label(NamedTuple):
    """A text and the point it belongs to, in data coordinates."""

    text: str
    x: float
    y: float
    colour: str


def place(axes: Axes, labels: Iterable[Label], obstacles: Sequence[Bbox]) -> None:
    """Write labels near their points, each where it covers least, and nearest among equals.

    The figure must have been laid out: only then do texts have their final size and axes their final place. Nothing
    is left to chance: the same labels come to lie at the same places.

    Args:
        axes: Where the points are.
        labels: In the order in which they choose their places.
        obstacles: What should not be covered, in pixels.
    """
    taken = list(obstacles)
    pixels = axes.figure.dpi / _PT_PER_IN
    frame = axes.get_window_extent()
    for label in labels:
        text = _text(axes, label, (0, 0))
        extent = text.get_window_extent()
        size = np.array([extent.width, extent.height]) / pixels + 2 * _AIR_PT
        text.remove()
        point = axes.transData.transform((label.x, label.y))

        def cost(offset: npt.NDArray[np.float64], ring: float) -> float:
            box = _box(point + offset * pixels, size * pixels)  # noqa: B023 - used in this round of the loop only
            outside = box.width * box.height - _overlap(box, frame)
            # A covered square pixel outweighs any distance.
            return sum(_overlap(box, other) for other in taken) + 4 * outside + ring / 100

        places = [(_offset(direction, ring, size), ring) for ring in _RINGS_PT for direction in _DIRECTIONS]
        offset, ring = min(places, key=lambda each: cost(*each))
        _text(axes, label, (offset[0], offset[1]))
        if ring:
            _leader(axes, label, offset, size)
        taken.append(_box(point + offset * pixels, size * pixels))


def _text(axes: Axes, label: Label, offset_pt: tuple[float, float]) -> Text:
    text = axes.annotate(
        label.text,
        (label.x, label.y),
        offset_pt,
        textcoords="offset points",
        color=label.colour,
        ha="center",
        va="center",
        linespacing=0.95,
        zorder=6,
    )
    text.set_in_layout(False)  # the layout is done: a text must not move the axes that it was placed in
    return text


def _leader(axes: Axes, label: Label, offset: npt.NDArray[np.float64], size: npt.NDArray[np.float64]) -> None:
    """Draw a thin line from a point to the edge of its text."""
    start = offset - np.clip(offset, -size / 2, size / 2)
    line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2}
    leader = axes.annotate("", (label.x, label.y), tuple(start), textcoords="offset points", arrowprops=line)
    leader.set_in_layout(False)


def _offset(direction: tuple[float, float], ring: float, size: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return where the middle of a text of a size goes, in points from its point."""
    towards = np.array(direction)
    edge = towards / np.abs(towards).max() * size / 2
    return towards * (_NEAR_PT + ring) + edge


def _box(centre: npt.NDArray[np.float64], size: npt.NDArray[np.float64]) -> Bbox:
    return Bbox([centre - size / 2, centre + size / 2])


def _overlap(a: Bbox, b: Bbox) -> float:
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0
