"""A topology: roles and channels, or workers and their peers. Data is at the bottom; each channel has a colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch

from figures import style
from figures.graph import layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from figures.graph import Box
    from topology.diagram import Diagram, Node

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DATA, _OTHER = "#DCEBF5", "#F4F4F4"


def draw(diagram: Diagram) -> Figure:
    """Return the figure of a diagram."""
    places = layout(diagram)
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(diagram.channels)}
    scale = min(1.0, (style.PAGE_IN - 0.1) / places.width)
    font_pt = max(style.SMALL_PT * scale, 3.0)
    has_labels = any(edge.label for edge in diagram.edges)
    with style.applied():
        height = (places.top - places.bottom) * scale
        size = (max(places.width * scale + 0.1, 2.0), height + 0.3 + (0.0 if has_labels else 0.22))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.set_xlim(-0.02, places.width + 0.02)
        axes.set_ylim(places.bottom, places.top)
        axes.set_title(diagram.title)
        for path in places.paths:
            colour = colours[path.edge.channel]
            axes.plot(*zip(*path.points, strict=True), color=colour, linewidth=1.0 if has_labels else 0.7, zorder=1)
            if path.label is not None:
                text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": font_pt, "zorder": 5}
                back = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
                axes.text(path.label.x, path.label.y, path.edge.label, color=colour, bbox=back, **text)
        for node in diagram.nodes:
            _draw_node(axes, node, places.boxes[node.id], font_pt)
        for caption, (x, y) in places.captions:
            align = "left" if x == 0 else "center"
            axes.text(x, y, caption, color=style.GREY, ha=align, va="center", fontsize=font_pt)
        if not has_labels and diagram.channels:
            handles = [Line2D([], [], color=colours[name]) for name in diagram.channels]
            style.legend_below(figure, handles, diagram.channels)
    return figure


def _draw_node(axes: Axes, node: Node, box: Box, font_pt: float) -> None:
    patch = FancyBboxPatch(
        (box.x - box.width / 2, box.y - box.height / 2),
        box.width,
        box.height,
        boxstyle=f"round,pad=0,rounding_size={0.08 if node.data else 0.02}",
        facecolor=_DATA if node.data else _OTHER,
        edgecolor="black",
        linewidth=0.6,
        zorder=3,
    )
    axes.add_patch(patch)
    axes.text(box.x, box.y, node.label, ha="center", va="center", fontsize=font_pt, zorder=4, linespacing=1.1)
