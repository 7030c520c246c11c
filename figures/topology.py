"""A topology: roles and channels, or workers and who can send to whom. Data is at the bottom, a colour is a channel."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Arc, FancyArrowPatch, FancyBboxPatch

from figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from topology.diagram import Diagram, Edge, Node

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DATA, _OTHER = "#DCEBF5", "#F4F4F4"
_LEVEL = 1.0
"""Height of a level, in units of which a letter is about 0.1 wide."""
_GAP = 0.18
_LETTER = 0.085


def draw(diagram: Diagram) -> Figure:
    """Return the figure of a picture."""
    with style.applied():
        rows = [list(row) for _, row in itertools.groupby(diagram.nodes, key=lambda node: node.level)]
        places, width = _places(rows)
        colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(diagram.channels)}
        height = _LEVEL * len(rows) + 0.1
        inches = min(max(width * 0.8, 2.2), style.PAGE_IN)
        legend = not any(edge.label for edge in diagram.edges)
        figure = Figure(figsize=(inches, 0.8 * height + 0.35 + 0.2 * legend), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        margin = max((_GAP + _LETTER * len(_row_name(row)) for row in rows if _row_name(row)), default=0.0)
        axes.set_xlim(-margin, width)
        loops = any(edge.first == edge.second for edge in diagram.edges)
        axes.set_ylim(-0.6 if loops else -0.3, height - 0.7)
        for level, row in enumerate(rows):
            axes.text(-margin, level * _LEVEL, _row_name(row), color=style.GREY, ha="left", va="center")
        axes.set_title(diagram.title)
        for number, edge in enumerate(diagram.edges):
            _draw_edge(axes, edge, places, colours[edge.channel], number)
        for node in diagram.nodes:
            _draw_node(axes, node, places[node.id])
        if legend:
            handles = [Line2D([], [], color=colours[name]) for name in diagram.channels]
            style.legend_below(figure, handles, diagram.channels)
    return figure


def _row_name(row: list[Node]) -> str:
    """Return the roles of a row whose nodes show numbers only."""
    return ", ".join(dict.fromkeys(node.role for node in row if node.label.isdecimal()))


def _width(node: Node) -> float:
    return max(0.35, _LETTER * max(map(len, node.label.split("\n"))) + 0.15)


def _places(rows: list[list[Node]]) -> tuple[dict[str, tuple[float, float]], float]:
    """Return where nodes stand: by rows, each spread over the width of the widest."""
    widths = [sum(_width(node) + _GAP for node in row) for row in rows]
    whole = max(*widths, 2.6)
    places: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        stretch = whole / widths[level]
        x = 0.0
        for node in row:
            step = (_width(node) + _GAP) * stretch
            places[node.id] = (x + step / 2, level * _LEVEL)
            x += step
    return places, whole


def _draw_node(axes: Axes, node: Node, place: tuple[float, float]) -> None:
    x, y = place
    wide, high = _width(node), 0.22 + 0.14 * node.label.count("\n")
    box = FancyBboxPatch(
        (x - wide / 2, y - high / 2),
        wide,
        high,
        boxstyle=f"round,pad=0,rounding_size={0.1 if node.data else 0.02}",
        facecolor=_DATA if node.data else _OTHER,
        edgecolor="black",
        linewidth=0.6,
        zorder=3,
    )
    axes.add_patch(box)
    axes.text(x, y, node.label, ha="center", va="center", fontsize=style.SMALL_PT, zorder=4, linespacing=1.1)


def _draw_edge(axes: Axes, edge: Edge, places: dict[str, tuple[float, float]], colour: str, number: int) -> None:
    (x0, y0), (x1, y1) = places[edge.first], places[edge.second]
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    if edge.first == edge.second:
        below = y0 == 0  # nothing is in the way there; higher up, the loop stands at the side
        centre, angle = ((x0, y0 - 0.16), -90.0) if below else ((x0 + 0.35, y0), 0.0)
        loop: dict[str, Any] = {
            "angle": angle,
            "theta1": -120,
            "theta2": 120,
            "color": colour,
            "linewidth": 1.0,
            "zorder": 1,
        }
        axes.add_patch(Arc(centre, 0.42, 0.42, **loop))
        middle = (x0, y0 - 0.4) if below else (x0 + 0.62, y0)
    elif y0 == y1:
        far = abs(x1 - x0)
        bend = min(0.45, 0.58 / far) * (1 if x1 > x0 else -1)
        arrow: dict[str, Any] = {
            "arrowstyle": "-",
            "connectionstyle": f"arc3,rad={bend}",
            "color": colour,
            "linewidth": 0.8,
            "zorder": 1,
        }
        axes.add_patch(FancyArrowPatch((x0, y0), (x1, y1), **arrow))
        middle = (middle[0], y0 - 0.5 * abs(bend) * far)
    else:
        axes.plot([x0, x1], [y0, y1], color=colour, linewidth=1.0 if edge.label else 0.6, zorder=1)
    if edge.label:
        share = 0.5 if y0 == y1 else 0.42 + 0.08 * (number % 3)
        at = middle if y0 == y1 else (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
        axes.text(
            *at,
            edge.label,
            color=colour,
            ha="center",
            va="center",
            fontsize=style.SMALL_PT,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
