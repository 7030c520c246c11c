"""The latency table of a supernet as a heat map (after SuperServe, NSDI 2025, Figure 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sim.base.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sim.tables.latency import LatencyTable

COLUMN_INCHES = 3.35
"""The width of one column of a two-column paper."""

ROW_INCHES = 0.23
MARGIN_INCHES = 0.62
"""Above and below the cells: title, ticks and axis label."""

MAX_COLUMNS = 8
"""Accuracies of four digits in 7 points fit under so many columns; a wider table gets a colour bar and a few ticks."""

FEW_TICKS = 5

POINTS = 7.0
"""Font size: what is still read in print."""

# Light to dark in one hue: the order of the colours is the order of their greys, for every reader and every printer.
_COLOURS = colormaps["Blues"]

_LUMINANCE = (0.2126, 0.7152, 0.0722)
"""The shares of red, green and blue in how bright a colour looks: WCAG 2.1, relative luminance."""

_DARK = 0.179
"""Below this luminance, white has more contrast than black: the same definition, solved for equal contrast."""


def draw_latency(table: LatencyTable, title: str | None = None, width: float = COLUMN_INCHES) -> Figure:
    """Return the heat map of a table: batch size over accuracy, the latency in milliseconds in each cell.

    Colours are logarithmic in the latency. A table of more than eight subnets has a colour bar instead of numbers.

    Args:
        table: Subnets are columns, measured batch sizes are rows.
        title: Title of the figure; None for the table's device, "" for none.
        width: In inches.
    """
    latency_ms = table.latency_ns.T / NS_PER_MS
    # Two digits where the source has no more: a third would be made up.
    digits = 2 if all(float(f"{value:.2g}") == value for value in latency_ms.flat) else 3
    heading = table.device if title is None else title
    narrow = len(table.subnets) <= MAX_COLUMNS
    unit = " (latency in ms)" if narrow and heading else ""
    accuracies = [subnet.accuracy for subnet in table.subnets]
    return draw_cells(
        latency_ms, accuracies, table.batch_sizes, "latency (ms)", f"{heading}{unit}", digits=digits, width=width
    )


def draw_cells(
    cells: npt.NDArray[np.float64],
    accuracies: Sequence[float],
    batch_sizes: Sequence[int],
    label: str,
    title: str,
    *,
    digits: int = 3,
    width: float = COLUMN_INCHES,
) -> Figure:
    """Return the heat map of a quantity by subnet and batch size, with logarithmic colours.

    Args:
        cells: Positive, float64, shape (batch sizes, subnets).
        accuracies: Of the subnets, in percent.
        batch_sizes: In queries.
        label: Label of the colour bar, if there are too many subnets for numbers in the cells.
        title: Title of the figure; "" for none.
        digits: Number of digits in the cells.
        width: In inches.
    """
    rows, columns = cells.shape
    narrow = columns <= MAX_COLUMNS
    figure = Figure(figsize=(width, MARGIN_INCHES + ROW_INCHES * max(rows, 4)), layout="constrained")
    axes = figure.add_subplot()
    lowest, highest = float(cells.min()), float(cells.max())
    # A table of one value has no range: any will do.
    norm = LogNorm(lowest, highest if highest > lowest else 2 * lowest)
    shades = axes.pcolormesh(cells, norm=norm, cmap=_COLOURS, edgecolor="white", linewidth=0.5 if narrow else 0)
    if narrow:
        for row, column in np.ndindex(rows, columns):
            value = float(cells[row, column])
            colour = "white" if _luminance(_COLOURS(norm(value))) < _DARK else "black"
            text = milliseconds(value, digits)
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=POINTS)
    else:
        bar = figure.colorbar(shades, ax=axes, ticks=LogLocator(subs=(1, 2, 5)), format="{x:g}")
        bar.minorticks_off()
        bar.set_label(label, fontsize=POINTS)
        bar.ax.tick_params(labelsize=POINTS)
    shown = np.unique(np.linspace(0, columns - 1, columns if narrow else FEW_TICKS).astype(int))
    axes.set_xticks(shown + 0.5, [f"{accuracies[index]:.2f}" for index in shown])
    axes.set_yticks(np.arange(rows) + 0.5, [str(size) for size in batch_sizes])
    axes.tick_params(length=0, labelsize=POINTS)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("subnet accuracy (%)", fontsize=POINTS)
    axes.set_ylabel("batch size", fontsize=POINTS)
    if title:
        axes.set_title(title, fontsize=POINTS, wrap=True)
    return figure


def milliseconds(value: float, digits: int = 3) -> str:
    """Return a number of milliseconds to some digits, and at least all before the point.

    Example:
        >>> [milliseconds(value) for value in (0.0154, 4.4, 38.381, 364.1, 1818.4)]
        ['0.0154', '4.40', '38.4', '364', '1818']
        >>> [milliseconds(value, 2) for value in (4.4, 34.0, 120.0)]
        ['4.4', '34', '120']
    """
    return f"{value:#.{digits}g}".rstrip(".") if round(value) < 10**digits else f"{value:.0f}"


def _luminance(colour: tuple[float, float, float, float]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]  # noqa: PLR2004 - sRGB
    return float(np.dot(_LUMINANCE, linear))
