"""The axis of SLO attainment: logarithmic in the misses, so that 0.99, 0.999 and 0.9999 are equally spaced.

An attainment of exactly 1 is infinitely far on such a scale. It is drawn a decade above the last, behind a visible
break.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.path import Path
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from matplotlib.axes import Axes

MIN_DECADES = 2
MAX_DECADES = 9
"""Resolution at 1: no run has more queries than this distinguishes."""
_MARGIN = 0.55
"""Margin below 0 and above 1, in decades."""


def decades(attainments: Iterable[float]) -> int:
    """Return the number of decades of misses that shows all attainments below 1.

    Example:
        >>> decades([0.35, 0.9995, 1.0])
        4
        >>> decades([1.0])
        2
    """
    below = [value for value in attainments if value < 1]
    needed = math.ceil(-math.log10(1 - max(below, default=0.0)) - 1e-9)  # 0.999 needs 3, rounding or not
    return min(max(needed, MIN_DECADES), MAX_DECADES)


def position(attainment: npt.ArrayLike, decades: int) -> npt.NDArray[np.float64]:
    """Return the height of attainments, in decades: 0 for 0, 1 for 0.9, 2 for 0.99; `decades + 1` for exactly 1.

    Args:
        attainment: From 0 to 1, any shape; extrapolated beyond both ends, for margins.
        decades: Number of decades shown; values below 1 and above the last stay below the break.
    """
    a = np.asarray(attainment, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.minimum(-np.log10(1 - a), decades + 0.5)
    return np.where(a >= 1, decades + a, below)


def attainment_at(position: npt.ArrayLike, decades: int) -> npt.NDArray[np.float64]:
    """Return the attainment at a height: the inverse of `position`."""
    p = np.asarray(position, dtype=np.float64)
    return np.where(p >= decades + 1, p - decades, 1 - 10**-p)


def set_scale(axes: Axes, decades: int, every: int = 1) -> None:
    """Set the scale, ticks and limits of an axes and those that share its y axis.

    Args:
        axes: The axes whose y axis shows attainments.
        decades: Number of decades shown.
        every: Number of decades between two ticks.
    """
    axes.set_yscale("function", functions=(partial(position, decades=decades), partial(attainment_at, decades=decades)))
    nines = range(0, decades + 1, every)
    axes.yaxis.set_major_locator(FixedLocator([*(float(attainment_at(n, decades)) for n in nines), 1.0]))
    names = [f"{1 - 10.0**-n:.{n}f}" for n in nines]
    highest = "1\n(no miss)" if every == 1 else "1"  # where ticks are left out, there is no room for two lines
    axes.yaxis.set_major_formatter(FixedFormatter([*names, highest]))
    axes.yaxis.set_minor_locator(NullLocator())
    bottom, top = attainment_at([-_MARGIN, decades + 1 + _MARGIN], decades)
    axes.set_ylim(float(bottom), float(top))


def mark_break(axes: Axes, decades: int) -> None:
    """Draw the break of the scale between the last decade and 1 on the left edge, and shade the area above it."""
    middle = (decades + 0.5 + _MARGIN) / (decades + 1 + 2 * _MARGIN)
    axes.axhspan(
        float(attainment_at(decades + 0.5, decades)), axes.get_ylim()[1], color="#F1F1F1", linewidth=0, zorder=0
    )
    slashes(axes, middle)


def slashes(axes: Axes, height: float) -> None:
    """Draw the mark of a broken axis over the left edge, at a height from 0 to 1."""
    gap = [(-1.0, -0.7), (1.0, 0.1), (1.0, 0.7), (-1.0, -0.1)]
    edges = Path(gap, [Path.MOVETO, Path.LINETO, Path.MOVETO, Path.LINETO])
    place: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "linestyle": "none", "markersize": 6}
    axes.plot([0], [height], marker=Path(gap), color="white", markeredgewidth=0, zorder=5, **place)
    axes.plot([0], [height], marker=edges, markeredgecolor="black", markeredgewidth=0.6, zorder=5, **place)
