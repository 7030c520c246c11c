"""Layout of topology diagrams, in inches: boxes in rows or rings, and edges that pass behind no box but their ends."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from topology.diagram import Diagram, Edge, Node

Point = tuple[float, float]

_LETTER = 0.068
_LINE = 0.11
_GAP = 0.15
_BETWEEN_ROWS = 0.62
_BUS = 0.11
"""Distance of two horizontal lines below a row."""
_LOOP = 0.22
_LABEL_HEIGHT = 0.14
_LABEL_PLACES = (0.5, 0.4, 0.6, 0.32, 0.68, 0.25, 0.75, 0.15, 0.85)
"""Where on an edge a label may be, as fractions of its length, in order of preference."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle around a centre."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> Point:
        """The middle of the upper side."""
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> Point:
        """The middle of the lower side."""
        return self.x, self.y - self.height / 2

    def overlaps(self, other: Box) -> bool:
        """Return whether two boxes have points in common."""
        wide, high = (self.width + other.width) / 2, (self.height + other.height) / 2
        return abs(self.x - other.x) < wide and abs(self.y - other.y) < high

    def meets(self, first: Point, second: Point) -> bool:
        """Return whether a segment has points inside of the box (Liang and Barsky 1984)."""
        start, end = 0.0, 1.0
        for p0, p1, centre, size in zip(first, second, (self.x, self.y), (self.width, self.height), strict=True):
            low, high, step = centre - size / 2 - p0, centre + size / 2 - p0, p1 - p0
            if step == 0:
                if low >= 0 or high <= 0:
                    return False
                continue
            near, far = sorted((low / step, high / step))
            start, end = max(start, near), min(end, far)
        return start < end


@dataclass(frozen=True, slots=True)
class Path:
    """The course of an edge.

    Attributes:
        edge: The edge.
        points: The ends of its segments.
        label: Where its label is; None without one.
    """

    edge: Edge
    points: tuple[Point, ...]
    label: Box | None = None

    @property
    def segments(self) -> Iterator[tuple[Point, Point]]:
        """The segments in order."""
        return itertools.pairwise(self.points)


@dataclass(frozen=True, slots=True)
class Layout:
    """A diagram with places.

    Attributes:
        boxes: Where nodes are, by id.
        paths: The course of each edge.
        captions: The role of nodes that show numbers only: its name and the left or the centre of where it goes.
        width: From 0 to the right end.
        bottom: The lower end.
        top: The upper end.
    """

    boxes: dict[str, Box]
    paths: tuple[Path, ...]
    captions: tuple[tuple[str, Point], ...]
    width: float
    bottom: float
    top: float


def layout(diagram: Diagram) -> Layout:
    """Return the layout of a diagram.

    Workers of a single role whose channels connect them in rings are put on circles, all else in rows by level.
    """
    roles, levels = {node.role for node in diagram.nodes}, {node.level for node in diagram.nodes}
    is_ring = len(roles) == len(levels) == 1 and len(diagram.edges) > 1 and not any(e.label for e in diagram.edges)
    return _circles(diagram) if is_ring else _rows(diagram)


def _size(node: Node) -> tuple[float, float]:
    lines = node.label.split("\n")
    return max(0.28, _LETTER * max(map(len, lines)) + 0.12), 0.18 + _LINE * (len(lines) - 1)


def _circles(diagram: Diagram) -> Layout:
    """Put the nodes of each ring on a circle; rings stand side by side."""
    rings = _components(diagram)
    sizes = [_size(node) for node in diagram.nodes]
    wide, high = max(size[0] for size in sizes), max(size[1] for size in sizes)
    step = math.hypot(wide, high) + _GAP
    boxes: dict[str, Box] = {}
    captions = []
    x = 0.0
    caption = diagram.nodes[0].role if all(node.label.isdecimal() for node in diagram.nodes) else ""
    radii = [max(step / (2 * math.sin(math.pi / max(len(ring), 2))), 0.45) for ring in rings]
    for ring, radius in zip(rings, radii, strict=True):
        centre = x + radius + wide / 2
        for number, id_ in enumerate(ring):
            angle = 2 * math.pi * number / len(ring)
            boxes[id_] = Box(centre + radius * math.sin(angle), radius * math.cos(angle), wide, high)
        captions.append((caption, (centre, 0.0)))
        x += 2 * radius + wide + _GAP
    paths = tuple(
        Path(edge, tuple((boxes[id_].x, boxes[id_].y) for id_ in (edge.first, edge.second))) for edge in diagram.edges
    )
    bottom, top = min(box.bottom[1] for box in boxes.values()), max(box.top[1] for box in boxes.values())
    return Layout(boxes, paths, tuple(captions), x - _GAP, bottom - 0.05, top + 0.05)


def _components(diagram: Diagram) -> list[list[str]]:
    """Return the ids of nodes that are connected, in order."""
    component = {node.id: [node.id] for node in diagram.nodes}
    for edge in diagram.edges:
        first, second = component[edge.first], component[edge.second]
        if first is not second:
            first += second
            component |= dict.fromkeys(second, first)
    order = {node.id: number for number, node in enumerate(diagram.nodes)}
    return [sorted(ring, key=order.__getitem__) for ring in {id(ring): ring for ring in component.values()}.values()]


def _rows(diagram: Diagram) -> Layout:
    rows = [list(row) for _, row in itertools.groupby(diagram.nodes, key=lambda node: node.level)]
    labels = max((_LETTER * len(edge.label) for edge in diagram.edges if edge.label), default=0.0)
    gap = labels + 0.3 if labels else _GAP
    widths = [sum(_size(node)[0] + gap for node in row) for row in rows]
    caption_width = max(_LETTER * len(_caption(row)) + _GAP if _caption(row) else 0.0 for row in rows)
    whole = max(*widths, 1.6)
    place = {node.id: (level, number) for level, row in enumerate(rows) for number, node in enumerate(row)}
    buses = _buses(diagram, place)
    boxes: dict[str, Box] = {}
    captions = []
    y = 0.0
    for level, row in enumerate(rows):
        height = max(_size(node)[1] for node in row)
        below = _BUS * len(buses[level]) + (_LOOP if _has_loops(diagram, row) else 0.0)
        y += height / 2 + below
        stretch = (whole - sum(_size(node)[0] for node in row)) / len(row)
        x = caption_width
        for node in row:
            width = _size(node)[0]
            boxes[node.id] = Box(x + (width + stretch) / 2, y, width, height)
            x += width + stretch
        captions.append((_caption(row), (0.0, y)))
        y += height / 2 + _BETWEEN_ROWS + (0.15 if labels else 0.0)
    top = max(box.top[1] for box in boxes.values())
    paths = [Path(edge, _course(edge, boxes, place, buses)) for edge in diagram.edges]
    has_label_below = any(edge.label and edge.first == edge.second for edge in diagram.edges)
    bottom = -0.05 - (_LABEL_HEIGHT if has_label_below else 0.0)
    return Layout(boxes, tuple(_labelled(paths, boxes)), tuple(captions), caption_width + whole, bottom, top + 0.05)


def _caption(row: Sequence[Node]) -> str:
    """Return the roles of a row whose nodes show numbers only."""
    return ", ".join(dict.fromkeys(node.role for node in row if node.label.isdecimal()))


def _has_loops(diagram: Diagram, row: Sequence[Node]) -> bool:
    ids = {node.id for node in row}
    return any(edge.first == edge.second and edge.first in ids for edge in diagram.edges)


_Places = dict[str, tuple[int, int]]


def _buses(diagram: Diagram, place: _Places) -> dict[int, list[str]]:
    """Return the channels of each row that connect nodes which are not neighbours: they get a line below the row."""
    buses: dict[int, list[str]] = defaultdict(list)
    for edge in diagram.edges:
        (level, first), (other, second) = place[edge.first], place[edge.second]
        if level == other and abs(first - second) > 1 and edge.channel not in buses[level]:
            buses[level].append(edge.channel)
    return buses


def _course(edge: Edge, boxes: dict[str, Box], place: _Places, buses: dict[int, list[str]]) -> tuple[Point, ...]:
    first, second = boxes[edge.first], boxes[edge.second]
    (level, number), (other, next_) = place[edge.first], place[edge.second]
    if edge.first == edge.second:
        x, y = first.bottom
        turn = [math.pi * (0.25 - 1.5 * part / 12) for part in range(13)]
        return tuple((x + 0.11 * math.cos(angle), y - 0.07 + 0.11 * math.sin(angle)) for angle in turn)
    if level != other:
        return (first.top, second.bottom) if level < other else (first.bottom, second.top)
    same_role = edge.first.rpartition("/")[0] == edge.second.rpartition("/")[0]
    if abs(number - next_) == 1 and (same_role or edge.channel not in buses[level]):
        left, right = sorted((first, second), key=lambda box: box.x)
        return (left.x + left.width / 2, left.y), (right.x - right.width / 2, right.y)
    bus = buses[level].index(edge.channel)
    depth, shift = first.bottom[1] - _BUS * (bus + 1), 0.07 * (bus - (len(buses[level]) - 1) / 2)
    ends = [(box.x + shift, box.bottom[1]) for box in (first, second)]
    return ends[0], (ends[0][0], depth), (ends[1][0], depth), ends[1]


def _labelled(paths: Sequence[Path], boxes: dict[str, Box]) -> Iterator[Path]:
    """Yield paths with places for their labels, free of boxes and other labels, and of other paths where possible."""
    taken: list[Box] = []
    for path in paths:
        if not path.edge.label:
            yield path
            continue
        others = [segment for other in paths if other is not path for segment in other.segments]
        candidates = [
            Box(*_point(path, part), _LETTER * len(path.edge.label) + 0.04, _LABEL_HEIGHT) for part in _LABEL_PLACES
        ]
        if path.edge.first == path.edge.second:
            candidates = [replace(box, y=min(y for _, y in path.points) - _LABEL_HEIGHT / 2) for box in candidates[:1]]
        free = [box for box in candidates if not any(map(box.overlaps, [*boxes.values(), *taken]))]
        clear = [box for box in free if not any(box.meets(*segment) for segment in others)]
        label = next(iter([*clear, *free, *candidates]))
        taken.append(label)
        yield replace(path, label=label)


def _point(path: Path, part: float) -> Point:
    """Return the point at a fraction of a path's length."""
    lengths = [math.dist(*segment) for segment in path.segments]
    rest = part * sum(lengths)
    for (first, second), length in zip(path.segments, lengths, strict=True):
        if rest <= length and length:
            return tuple(a + (b - a) * rest / length for a, b in zip(first, second, strict=True))  # type: ignore[return-value]
        rest -= length
    return path.points[-1]
