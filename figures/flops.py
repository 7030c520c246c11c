"""Accuracy over operations (after SuperServe, NSDI 2025, Figure 2), and operations of batches (after Figure 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from figures import attainment, style
from figures.latency import draw_cells
from sim.base.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sim.tables.latency import LatencyTable


class Model(NamedTuple):
    """A model by itself: name, operations for one query in 1e9 multiply-accumulates, accuracy in percent."""

    name: str
    gmacs: float
    accuracy: float


_BREAK = 0.05


def draw_accuracy(table: LatencyTable, others: Mapping[str, Sequence[Model]], width: float = style.COLUMN_IN) -> Figure:
    """Return the accuracy of subnets and of other models over their operations.

    Args:
        table: The subnets, with their operations.
        others: Families of models by name.
        width: In inches.

    Raises:
        DataError: The table does not say how many operations a subnet takes.
    """
    subnets = [Model("", gmacs, subnet.accuracy) for subnet, gmacs in zip(table.subnets, _gmacs(table), strict=True)]
    looks: list[dict[str, Any]] = [
        {"color": "#D55E00", "marker": "*", "markersize": 9, "linestyle": "solid"},
        {"color": style.GREY, "marker": "o", "markersize": 4.5, "linestyle": (0, (1, 1))},
        {"color": "#0072B2", "marker": "s", "markersize": 4.5, "linestyle": (0, (4, 1.2)), "markerfacecolor": "white"},
    ]
    with style.applied():
        figure = Figure(figsize=(width, 2.7), layout="constrained")
        axes = figure.add_subplot()
        families = {"the six subnets": subnets, **others}
        for look, (name, models) in zip(looks, families.items(), strict=False):
            axes.plot([each.gmacs for each in models], [each.accuracy for each in models], label=name, **look)
            for each in models:
                if each.name:
                    at = (each.gmacs, each.accuracy)
                    axes.annotate(each.name, at, (3, -9), textcoords="offset points", fontsize=6, color=look["color"])
        axes.set_xlabel("GMACs of one query")
        axes.set_ylabel("top-1 accuracy (%)")
        axes.set_xlim(left=0, right=1.12 * axes.get_xlim()[1])
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.1 * (high - low), high)
        attainment.slashes(axes, _BREAK)
        axes.legend(loc="lower right")
    return figure


def draw_batches(table: LatencyTable, width: float = style.COLUMN_IN) -> Figure:
    """Return the heat map of operations: batch size over accuracy, GMACs of the batch in each cell.

    Raises:
        DataError: The table does not say how many operations a subnet takes.
    """
    grid = np.outer(table.batch_sizes, _gmacs(table))
    accuracies = [subnet.accuracy for subnet in table.subnets]
    return draw_cells(grid, accuracies, table.batch_sizes, "GMACs", "GMACs of a batch", digits=3, width=width)


def _gmacs(table: LatencyTable) -> list[float]:
    found = [subnet.gmacs for subnet in table.subnets]
    if None in found:
        location, problem = f"table of {table.device}", "the operations of a subnet are not known"
        raise DataError(location, problem, table.subnets[found.index(None)].id, "a table with gmacs")
    return [gmacs for gmacs in found if gmacs is not None]
