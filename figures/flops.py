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
    """A stand-alone model: name, operations for one query in 1e9 multiply-accumulates, accuracy in percent."""

    name: str
    gmacs: float
    accuracy: float


_BREAK = 0.05


def draw_accuracy(
    table: LatencyTable, references: Mapping[str, Sequence[Model]], width: float = style.COLUMN_IN
) -> Figure:
    """Return the figure of accuracy over operations, of subnets and of reference models.

    Args:
        table: The subnets, with their operations.
        references: Families of models by name.
        width: In inches.

    Raises:
        DataError: The table lacks the operations of a subnet.
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
        families = {"the six subnets": subnets, **references}
        for look, (name, models) in zip(looks, families.items(), strict=False):
            axes.plot([model.gmacs for model in models], [model.accuracy for model in models], label=name, **look)
            for model in models:
                if model.name:
                    at = (model.gmacs, model.accuracy)
                    axes.annotate(model.name, at, (3, -9), textcoords="offset points", fontsize=6, color=look["color"])
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
        DataError: The table lacks the operations of a subnet.
    """
    grid = np.outer(table.batch_sizes, _gmacs(table))
    accuracies = [subnet.accuracy for subnet in table.subnets]
    return draw_cells(grid, accuracies, table.batch_sizes, "GMACs", "GMACs of a batch", digits=3, width=width)


def _gmacs(table: LatencyTable) -> list[float]:
    operations = [subnet.gmacs for subnet in table.subnets]
    if None in operations:
        location, problem = f"table of {table.device}", "lacks the operations of a subnet"
        raise DataError(location, problem, table.subnets[operations.index(None)].id, "a table with gmacs")
    return [gmacs for gmacs in operations if gmacs is not None]
