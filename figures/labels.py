"""Placement of text labels beside points, so that they cover neither each other nor the points."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    _Floats = npt.NDArray[np.float64]

_PT_PER_IN = 72
_DIRECTIONS = tuple((math.sin(angle), math.cos(angle)) for angle in np.linspace(0, 2 * math.pi, 16, endpoint=False))
_NEAR_PT = 4.0
"""Distance from a point to the nearest edge of its text."""
_RINGS_PT = (0.0, 4.0, 8.0, 13.0, 19.0, 26.0, 34.0)
"""Further distances for a text; beyond the first, a thin leader line connects it."""
_LINE_SPACING = 0.95
_AIR_PT = 1.0
"""Kept free around a text."""
_ROUNDS = 5
"""Maximum number of rounds in which each pair of texts is placed again."""

# What a place costs. By the square point:
_HIDDEN = 20.0
"""Cost of a text on another text, or outside."""
_COVERED = 2.0
"""Cost of a covered marker or interval."""
# By the point:
_PIERCED = 40.0
"""Cost of a leader line through a text or another point's marker."""
_GRAZED = 4.0
"""Cost of a leader line along an interval."""
_ENTERED_PT = 3.0
"""Added to the length of a line in a box, if there is any: to cut a corner is not cheap."""
_FAR = 1.5
"""Between a text and its point."""
# Once:
_CROSSED = 400.0
"""Two lines that cross."""
_MISLEADING = 300.0
"""A text as near to another point as to its own."""
_WORST = 3.0
"""How much of it is the most, where a text is nearer to another point."""
_LED = 0.3
"""The same where a line leads to the text's own point."""
_DISORDERED = 60.0
"""Two texts that do not lie to each other as their points do."""


class Label(NamedTuple):
    """A text and the point it belongs to, in data coordinates."""

    text: str
    x: float
    y: float
    colour: str


def place(axes: Axes, labels: Sequence[Label], markers: Sequence[Bbox], intervals: Sequence[Bbox] = ()) -> list[Bbox]:
    """Write labels near their points, with minimal overlap and without ambiguity about their point.

    The figure must have been laid out: only then do texts have their final size and axes their final position. The
    result is deterministic.

    Args:
        axes: The axes of the points.
        labels: The labels.
        markers: The markers in the panel, those of the labels' own points among them, in pixels. What is in the
            middle of a marker is a point that a text nearby could be taken to belong to.
        intervals: What else should not be covered, likewise.

    Returns:
        The boxes of the texts, in pixels.
    """
    pixels = axes.figure.dpi / _PT_PER_IN
    places = [_places(axes, label, pixels) for label in labels]
    frame = _extents([axes.get_window_extent()]) / pixels
    alone = [_costs(own, frame, _extents(markers) / pixels, _extents(intervals) / pixels) for own in places]
    together: dict[tuple[int, int], _Floats] = {}
    for a, b in itertools.combinations(range(len(labels)), 2):
        together[a, b] = _costs_together(places[a], places[b])
        together[b, a] = together[a, b].T
    chosen = _choose(alone, together)
    for label, own, pick in zip(labels, places, chosen, strict=True):
        _write(axes, label, own, pick)
    return [Bbox.from_extents(*own.box[pick] * pixels) for own, pick in zip(places, chosen, strict=True)]


def place_note(axes: Axes, text: str, obstacles: Sequence[Bbox], colour: str) -> None:
    """Write a note of several lines in the emptiest part of a panel: the lowest, then the leftmost of them."""
    note = axes.text(0, 0, text, transform=axes.transAxes, color=colour, zorder=6)
    note.set_in_layout(False)
    frame, extent = axes.get_window_extent(), note.get_window_extent()
    size = np.array([extent.width, extent.height])
    free = np.array([frame.width, frame.height]) - size
    corners = [frame.min + free * (x, y) for y in np.linspace(0.03, 0.97, 15) for x in (0.04, 0.5, 0.96)]
    boxes = [Bbox([corner, corner + size]) for corner in corners]
    best = boxes[int(np.argmin(_overlaps(_extents(boxes), _extents(obstacles)).sum(axis=1)))]
    note.set_position(((best.x0 - extent.x0) / frame.width, (best.y0 - extent.y0) / frame.height))


class _Places(NamedTuple):
    """Candidate positions of one text, all in points."""

    point: _Floats
    """Where its point is, shape (2,)."""
    ring: _Floats
    """How far out, shape (places,)."""
    middle: _Floats
    """The middle of the text, from the point, shape (places, 2)."""
    start: _Floats
    """Where the line begins that leads to the point, likewise."""
    box: _Floats
    """The text's x0, y0, x1, y1, shape (places, 4)."""
    line: _Floats
    """The line's two ends, shape (places, 2, 2); twice the point where there is no line."""


def _places(axes: Axes, label: Label, pixels: float) -> _Places:
    point = axes.transData.transform((label.x, label.y)) / pixels
    size = _size(axes, label) + 2 * _AIR_PT
    ring = np.repeat(_RINGS_PT, len(_DIRECTIONS))
    towards = np.tile(_DIRECTIONS, (len(_RINGS_PT), 1))
    edge = towards / np.abs(towards).max(axis=1, keepdims=True) * size / 2
    middle = towards * (_NEAR_PT + ring[:, None]) + edge
    start = middle - np.clip(middle, -size / 2, size / 2)
    box = np.hstack([point + middle - size / 2, point + middle + size / 2])
    line = point + np.stack([start * (ring > 0)[:, None], np.zeros_like(start)], axis=1)
    return _Places(point, ring, middle, start, box, line)


def _costs(own: _Places, frame: _Floats, markers: _Floats, intervals: _Floats) -> _Floats:
    """Return the cost of each position of a text independent of the other texts, shape (places,)."""
    area = (own.box[:, 2:] - own.box[:, :2]).prod(axis=1)
    cost = _HIDDEN * (area - _overlaps(own.box, frame)[:, 0]) + _FAR * own.ring
    cost += _COVERED * _overlaps(own.box, np.vstack([markers, intervals])).sum(axis=1)
    # A line begins in its own marker, and crosses what lies about it.
    for weight, boxes in ((_PIERCED, markers), (_GRAZED, intervals)):
        about = ((boxes[:, :2] <= own.point) & (own.point <= boxes[:, 2:])).all(axis=1)
        cost += weight * _lengths(own.line, boxes[~about]).sum(axis=1)
    points = (markers[:, :2] + markers[:, 2:]) / 2
    others = points[np.linalg.norm(points - own.point, axis=1) > _AIR_PT]
    away = _distances(own.box, others).min(axis=1, initial=math.inf)
    doubt = 2 * _distances(own.box, own.point[None])[:, 0] / np.maximum(away, _AIR_PT) - 1
    misleading = np.where(own.ring > 0, _LED * np.clip(doubt, 0, 1), np.clip(doubt, 0, _WORST))
    return np.asarray(cost + _MISLEADING * misleading)


def _costs_together(one: _Places, two: _Places) -> _Floats:
    """Return the mutual cost of the positions of two texts, shape (places of first, places of second)."""
    cost = _HIDDEN * _overlaps(one.box, two.box) + _CROSSED * _crossings(one.line, two.line)
    cost += _PIERCED * (_lengths(one.line, two.box) + _lengths(two.line, one.box).T)
    # Points side by side have their texts in the same order, and so have points one above the other.
    gap = two.point - one.point
    axis = int(np.argmax(np.abs(gap)))
    gaps = gap[axis] + two.middle[:, axis] - one.middle[:, axis, None]
    return np.asarray(cost + _DISORDERED * (gaps * gap[axis] < 0))


def _choose(alone: Sequence[_Floats], together: Mapping[tuple[int, int], _Floats]) -> list[int]:
    """Return a position for each text, by pairwise descent: each pair is placed jointly, given the others.

    Descent by single texts would stop where two have to move together.
    """
    chosen = [int(np.argmin(cost)) for cost in alone]
    numbers = range(len(alone))
    for _ in range(_ROUNDS):
        before = chosen.copy()
        for pair in itertools.combinations(numbers, 2):
            others = [number for number in numbers if number not in pair]
            one, two = (alone[own] + sum(together[own, other][:, chosen[other]] for other in others) for own in pair)
            best = int(np.argmin(one[:, None] + two + together[pair]))
            chosen[pair[0]], chosen[pair[1]] = divmod(best, len(two))
        if chosen == before:
            break
    return chosen


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


def _extents(boxes: Sequence[Bbox]) -> _Floats:
    return np.array([box.extents for box in boxes]).reshape(-1, 4)


def _overlaps(boxes: _Floats, others: _Floats) -> _Floats:
    """Return the area that each box shares with each other one, shape (boxes, others)."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = np.maximum(high - low, 0)
    return np.asarray(shared[..., 0] * shared[..., 1])


def _distances(boxes: _Floats, points: _Floats) -> _Floats:
    """Return how far each box is from each point, shape (boxes, points)."""
    nearest = np.clip(points, boxes[:, None, :2], boxes[:, None, 2:])
    return np.asarray(np.linalg.norm(points - nearest, axis=2))


def _lengths(lines: _Floats, boxes: _Floats) -> _Floats:
    """Return how much of each line lies in each box, and a bit more, or 0, shape (lines, boxes)."""
    start, along = lines[:, None, 0], lines[:, None, 1] - lines[:, None, 0]
    slope = np.where(along == 0, 1e-9, along)  # an upright line is inside a box's left and right all along, or never
    low, high = (boxes[:, :2] - start) / slope, (boxes[:, 2:] - start) / slope
    enter, leave = np.minimum(low, high), np.maximum(low, high)
    share = np.minimum(np.minimum(leave[..., 0], leave[..., 1]), 1) - np.maximum(
        np.maximum(enter[..., 0], enter[..., 1]), 0
    )
    return np.where(share > 0, share * np.linalg.norm(along, axis=2) + _ENTERED_PT, 0)


def _crossings(lines: _Floats, others: _Floats) -> npt.NDArray[np.bool_]:
    """Return whether each line crosses each other one, shape (lines, others); to touch is not to cross."""
    apart = _sides(lines, others[:, 0]) * _sides(lines, others[:, 1]) < 0
    return apart & (_sides(others, lines[:, 0]) * _sides(others, lines[:, 1]) < 0).T


def _sides(lines: _Floats, points: _Floats) -> _Floats:
    """Return on which side of each line each point lies, by its sign, shape (lines, points)."""
    along, to = (lines[:, 1] - lines[:, 0])[:, None], points - lines[:, None, 0]
    return np.asarray(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])
