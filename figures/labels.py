"""Short texts beside points, placed so that they hide neither each other nor the points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    _Floats = npt.NDArray[np.float64]

_PT_PER_IN = 72
_DIRECTIONS = tuple((math.sin(angle), math.cos(angle)) for angle in np.linspace(0, 2 * math.pi, 16, endpoint=False))
_NEAR_PT = 4.0
"""From a point to the nearest edge of its text."""
_RINGS_PT = (0.0, 4.0, 8.0, 13.0, 19.0, 26.0, 34.0)
"""How much further out a text may go; beyond the first, a thin line leads to it."""
_LINE_SPACING = 0.95
_AIR_PT = 1.0
"""Kept free around a text."""
_DOTS = 8
_ROUNDS = 3
"""How often each text may choose again, now that the others have."""

# In square pixels: a text outside or on a text is worst, and a far one is worse than one that grazes a marker.
_HIDDEN = 10.0
_CROSSED = 4.0
_FAR = 1.5


class Label(NamedTuple):
    """A text and the point it belongs to, in data coordinates."""

    text: str
    x: float
    y: float
    colour: str


def place(axes: Axes, labels: Sequence[Label], obstacles: Sequence[Bbox]) -> list[Bbox]:
    """Write labels near their points, each where it covers least and is not far.

    The figure must have been laid out: only then do texts have their final size and axes their final place. Nothing
    is left to chance: the same labels come to lie at the same places.

    Args:
        axes: Where the points are.
        labels: In the order in which they choose their places.
        obstacles: What should not be covered, in pixels.

    Returns:
        The boxes of the texts, in pixels.
    """
    if not labels:
        return []
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    options = [_places(axes, label, point) for label, point in zip(labels, points, strict=True)]
    fixed = [_fixed_costs(axes, own, point, points, obstacles) for own, point in zip(options, points, strict=True)]
    chosen: dict[int, int] = {}
    for number in [*range(len(labels))] * _ROUNDS:
        others = [options[other] for other in chosen if other != number]
        picks = [chosen[other] for other in chosen if other != number]
        texts = np.array([other.box[pick] for other, pick in zip(others, picks, strict=True)]).reshape(-1, 4)
        lines = np.array([other.line[pick] for other, pick in zip(others, picks, strict=True)]).reshape(-1, 4)
        own = options[number]
        cost = fixed[number] + _HIDDEN * _overlaps(own.box, texts) + _CROSSED * _overlaps(own.box, lines)
        cost += _CROSSED * _overlaps(own.line.reshape(-1, 4), texts).reshape(len(cost), -1).sum(axis=1)
        chosen[number] = int(np.argmin(cost))
    for number, label in enumerate(labels):
        _write(axes, label, options[number], chosen[number])
    return [Bbox.from_extents(*options[number].box[pick]) for number, pick in chosen.items()]


def place_note(axes: Axes, text: str, obstacles: Sequence[Bbox], colour: str) -> None:
    """Write a note of several lines where a panel is emptiest: the lowest such place, the leftmost of them."""
    note = axes.text(0, 0, text, transform=axes.transAxes, color=colour, zorder=6)
    note.set_in_layout(False)
    frame, extent = axes.get_window_extent(), note.get_window_extent()
    size = np.array([extent.width, extent.height])
    free = np.array([frame.width, frame.height]) - size
    corners = [frame.min + free * (x, y) for y in np.linspace(0.03, 0.97, 15) for x in (0.04, 0.5, 0.96)]
    boxes = [Bbox([corner, corner + size]) for corner in corners]
    others = np.array([box.extents for box in obstacles]).reshape(-1, 4)
    best = boxes[int(np.argmin(_overlaps(np.array([box.extents for box in boxes]), others)))]
    note.set_position(((best.x0 - extent.x0) / frame.width, (best.y0 - extent.y0) / frame.height))


class _Places(NamedTuple):
    """Where one text may go."""

    ring: _Floats
    """How far out, in points, shape (places,)."""
    middle: _Floats
    """The middle of the text, in points from the point, shape (places, 2)."""
    start: _Floats
    """Where the line begins that leads to the point, likewise."""
    box: _Floats
    """The text's x0, y0, x1, y1 in pixels, shape (places, 4)."""
    line: _Floats
    """The line as small boxes, likewise, shape (places, dots, 4); empty ones where there is no line."""


def _places(axes: Axes, label: Label, point: _Floats) -> _Places:
    pixels = axes.figure.dpi / _PT_PER_IN
    size = _size(axes, label) + 2 * _AIR_PT
    ring = np.repeat(_RINGS_PT, len(_DIRECTIONS))
    towards = np.tile(_DIRECTIONS, (len(_RINGS_PT), 1))
    edge = towards / np.abs(towards).max(axis=1, keepdims=True) * size / 2
    middle = towards * (_NEAR_PT + ring[:, None]) + edge
    start = middle - np.clip(middle, -size / 2, size / 2)
    box = point + np.hstack([middle - size / 2, middle + size / 2]).reshape(-1, 2, 2) * pixels
    dots = point + start[:, None, :] * np.linspace(0.2, 0.9, _DOTS)[:, None] * pixels
    half = pixels * (ring > 0)[:, None, None]
    return _Places(ring, middle, start, box.reshape(-1, 4), np.concatenate([dots - half, dots + half], axis=2))


def _fixed_costs(axes: Axes, own: _Places, point: _Floats, points: _Floats, obstacles: Sequence[Bbox]) -> _Floats:
    """Return what each place of a text costs whatever the other texts do, in square pixels."""
    frame = np.array([axes.get_window_extent().extents])
    area = (own.box[:, 2] - own.box[:, 0]) * (own.box[:, 3] - own.box[:, 1])
    marks = np.array([box.extents for box in obstacles]).reshape(-1, 4)
    # A line begins in its own marker, and crosses what lies about it.
    foreign = np.array([box.extents for box in obstacles if not box.contains(*point)]).reshape(-1, 4)
    crossed = _overlaps(own.line.reshape(-1, 4), foreign).reshape(len(area), -1).sum(axis=1)
    # Without a line, a text belongs to the nearest point.
    near, far = own.box[:, None, :2], own.box[:, None, 2:]
    away = np.linalg.norm(points - np.clip(points, near, far), axis=2)
    misleading = (own.ring == 0) & (
        away.min(axis=1) < np.linalg.norm(point - np.clip(point, near[:, 0], far[:, 0]), axis=1)
    )
    outside = area - _overlaps(own.box, frame)
    cost = _overlaps(own.box, marks) + _CROSSED * crossed + _HIDDEN * outside + _FAR * own.ring
    return np.asarray(cost + area * misleading)


def _size(axes: Axes, label: Label) -> _Floats:
    """Return the width and the height of a label's text, in points."""
    text = axes.text(0, 0, label.text, linespacing=_LINE_SPACING)
    extent = text.get_window_extent()
    text.remove()
    return np.array([extent.width, extent.height]) / axes.figure.dpi * _PT_PER_IN


def _write(axes: Axes, label: Label, places: _Places, pick: int) -> None:
    look: dict[str, Any] = {"ha": "center", "va": "center", "linespacing": _LINE_SPACING, "zorder": 6}
    at: dict[str, Any] = {"xy": (label.x, label.y), "textcoords": "offset points"}
    texts = [axes.annotate(label.text, xytext=tuple(places.middle[pick]), color=label.colour, **at, **look)]
    if places.ring[pick]:
        line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2}
        texts.append(axes.annotate("", xytext=tuple(places.start[pick]), arrowprops=line, **at))
    for text in texts:
        text.set_in_layout(False)  # the layout is done: a text must not move the axes that it was placed in


def _overlaps(boxes: _Floats, others: _Floats) -> _Floats:
    """Return the area that each box shares with all others together, shape (boxes,)."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2).sum(axis=1))
