"""The style of all figures: sizes, fonts, a colour and a marker for each policy, and reproducible files.

A policy's family (the label up to its parameters) has one colour and one marker, the same in every figure. The colours
are those of Okabe and Ito, which colour-blind readers can distinguish; the markers distinguish families in grey.
Baselines are hollow and larger than what they may cover, so that two policies at one point are both visible.
"""

from __future__ import annotations

from shutil import which
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.style import context

from sim.base.errors import SpecError
from sim.base.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from matplotlib.artist import Artist

COLUMN_IN = 3.35
"""Width of one column of a two-column paper, in inches."""
PAGE_IN = 7.0
"""Width of its page."""
SMALL_PT = 7
"""The smallest font size."""
GREY = "#6E6E6E"
PNG_DPI = 300

STYLE = "figures.ssim"
"""The style as matplotlib finds it: `matplotlib.pyplot.style.use("figures.ssim")`; `figures/ssim.mplstyle` has it."""

DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 1.5)), (0, (2, 2)))
"""Line styles of the members of a family, in the order of their labels."""


class Look(NamedTuple):
    """The marker and colour of one family of policies; size in points."""

    name: str
    colour: str
    marker: str
    size: float
    filled: bool = False

    def marks(self) -> dict[str, Any]:
        """Return the properties of a line's markers."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": self.size,
            "markerfacecolor": self.colour if self.filled else "none",
            "markeredgewidth": 0.4 if self.filled else 1.1,
            "markeredgecolor": "white" if self.filled else self.colour,
        }


_LOOKS = {
    "slackfit": Look("SlackFit", "#D55E00", "*", 9.5, filled=True),
    "clipper": Look("Clipper+", "#0072B2", "o", 5.0, filled=True),
    "infaas": Look("INFaaS", "#009E73", "D", 7.0),
    "maxacc": Look("MaxAcc", "#CC79A7", "^", 7.5),
    "maxbatch": Look("MaxBatch", "#E69F00", "s", 9.0),
    "coarse": Look("Coarse", "#56B4E9", "v", 7.5),
    "queuefit": Look("QueueFit", "#000000", ">", 7.0),
    "residentfit": Look("ResidentFit", "#6E6E6E", "p", 7.5),
}
_LONGEST_NAME = 40
"""Maximum number of characters beside a marker in one column of a paper."""
_SPARE_COLOURS = ("#000000", "#6E6E6E", "#8A6D00")
_SPARE_MARKERS = ("p", "h", "X", "P", "<", ">", "8")


def family(label: str) -> str:
    """Return a policy's label without its parameters.

    Example:
        >>> family("my_policy:Mine(margin_ms=2)")
        'my_policy:Mine'
    """
    return label.partition("(")[0]


def parameters(label: str) -> str:
    """Return a policy's parameters as short text, or "".

    Example:
        >>> parameters("clipper(accuracy=78.25)"), parameters("slackfit(buckets=32)"), parameters("maxacc")
        ('78.25', 'buckets=32', '')
    """
    inside = label.partition("(")[2].removesuffix(")")
    return inside.removeprefix("accuracy=").removeprefix("subnet=") if family(label) == "clipper" else inside


def display_name(label: str) -> str:
    """Return the name of a policy in figures.

    Example:
        >>> display_name("clipper(accuracy=78.25)"), display_name("infaas"), display_name("slackfit(buckets=32)")
        ('Clipper+ 78.25', 'INFaaS', 'SlackFit(buckets=32)')
    """
    if not parameters(label) or family(label) == "clipper":
        return f"{look(label).name} {parameters(label)}".strip()
    return f"{look(label).name}({parameters(label)})"


def look(label: str) -> Look:
    """Return the look of a policy: that of its family, or for a user's own policy one derived from its name."""
    name = family(label)
    if name in _LOOKS:
        return _LOOKS[name]
    number = crc32(name.encode())
    colour = _SPARE_COLOURS[number % len(_SPARE_COLOURS)]
    return Look(name, colour, _SPARE_MARKERS[number // len(_SPARE_COLOURS) % len(_SPARE_MARKERS)], 7.0)


def order(label: str) -> tuple[int, str, str]:
    """Return the sort key of policies in legends: shipped ones first, in the order above, then by name."""
    names = list(_LOOKS)
    place = names.index(family(label)) if family(label) in names else len(names)
    return place, family(label), parameters(label)


def handle(label: str, **line: Any) -> Line2D:
    """Return a legend entry: the marker of a policy, with a line if requested."""
    properties: dict[str, Any] = {"linestyle": "none", **look(label).marks(), **line}
    return Line2D([], [], **properties)


REFERENCE: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "linestyle": (0, (1, 1.5))}
"""The properties of a reference line."""


def legend_below(figure: Figure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Draw a legend below the panels, in as many columns as fit; long names keep their end, which is specific."""
    shown = [name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}" for name in names]
    for columns in range(min(6, len(shown)), 0, -1):
        legend = figure.legend(handles, shown, loc="outside lower center", ncols=columns)
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def panel_title(text: str, panels: int) -> str:
    """Return the title of one of some panels side by side, in lines that fit above it."""
    width = max(8, min(50, 100 // panels))
    return "\n".join(line for each in text.splitlines() for line in wrap(each, width))


def first_of(title: str, what: str, shown: int, there: int) -> str:
    """Return the title of a figure, which says so if it shows only the first runs or queues."""
    return title if shown >= there else f"{title}{'; ' if title else ''}the first {shown} of {there} {what}"


def applied() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in this style; settings outside it have no influence."""
    return context(["default", STYLE])


def empty(width: float) -> Figure:
    """Return a figure with the note that there are no runs."""
    with applied():
        figure = Figure(figsize=(width, 1.0))
        figure.text(0.5, 0.5, "no runs", ha="center", va="center", color=GREY)
        return figure


_METADATA: Mapping[str, dict[str, str | None]] = {
    # The time of drawing would make files differ.
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".png": {"Software": None},
    ".pgf": {},
}

FORMATS = (".pdf", ".svg", ".png")
"""The formats in which figures are saved if none is named, as endings of paths."""

_TEX = ("xelatex", "lualatex", "pdflatex")
"""What matplotlib asks for the sizes of texts in a .pgf, one of them."""


def save(figure: Figure, stem: Path) -> tuple[Path, ...]:
    """Write a figure as PDF, SVG and PNG and return the three paths; the same figure gives the same bytes.

    Args:
        figure: The figure.
        stem: The path without its ending; its folder is created if missing.

    Raises:
        StoreError: A file can't be written.
    """
    return tuple(save_as(figure, stem.with_name(stem.name + ending)) for ending in FORMATS)


def save_as(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's ending and return the path; the same figure gives the same bytes.

    Args:
        figure: The figure.
        path: Ends in .pdf, .svg or .png; or in .pgf, for which LaTeX must be installed.

    Raises:
        SpecError: The path has another suffix, or LaTeX is missing.
        StoreError: The file can't be written.
    """
    if path.suffix not in _METADATA:
        known = ", ".join(_METADATA)
        raise SpecError(str(path), "unknown image format", path.suffix or "no ending", f"one of {known}")
    tex: dict[str, Any] = {}
    if path.suffix == ".pgf":
        if (found := next(filter(which, _TEX), None)) is None:
            hint = f"install one of {', '.join(_TEX)}, or save as .pdf or .svg"
            raise SpecError(str(path), "a .pgf needs LaTeX, which is not installed", "", hint)
        tex = {"pgf.texsystem": found}
    with whole_file(path) as unfinished, applied(), context(tex):
        figure.savefig(unfinished, format=path.suffix[1:], dpi=PNG_DPI, metadata=_METADATA[path.suffix])
    return path
