"""What it takes to load a model beside what it takes to run it (after SuperServe, NSDI 2025, Figure 1a)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from figures import style
from sim.errors import DataError
from sim.units import NS_PER_MS

if TYPE_CHECKING:
    from sim.latency import LatencyTable

BYTES_PER_WEIGHT = 4
_HATCHES = ("", "////", "xx")
_GREYS = ("#9ECAE1", "#4292C6", "#08306B")


def draw(table: LatencyTable, bytes_per_s: float, source: str, width: float = style.COLUMN_IN) -> Figure:
    """Return bars for each subnet: the time to load its weights, and to run its smallest and its largest batch.

    Args:
        table: Its subnets with their numbers of weights, of 4 bytes each.
        bytes_per_s: How fast weights are loaded.
        source: Where that rate comes from, for the legend.
        width: In inches.

    Raises:
        DataError: The table does not say how many weights a subnet has.
    """
    weights = [subnet.params for subnet in table.subnets]
    if None in weights:
        where, what = f"table of {table.device}", "a subnet's number of weights is not known"
        raise DataError(where, what, table.subnets[weights.index(None)].id, "a table with params")
    loading = np.array(weights, dtype=float) * BYTES_PER_WEIGHT / bytes_per_s * 1e3
    columns = {
        f"load, {source}": loading,
        f"run, batch {table.batch_sizes[0]}": table.latency_ns[:, 0] / NS_PER_MS,
        f"run, batch {table.max_batch}": table.latency_ns[:, -1] / NS_PER_MS,
    }
    with style.applied():
        figure = Figure(figsize=(width, 2.5), layout="constrained")
        axes = figure.add_subplot()
        x = np.arange(len(loading))
        for place, (name, ms) in enumerate(columns.items()):
            look: dict[str, Any] = {
                "facecolor": _GREYS[place],
                "hatch": _HATCHES[place],
                "edgecolor": "white",
                "linewidth": 0.3,
            }
            axes.bar(x + 0.27 * (place - 1), ms, 0.25, label=name, **look)
        axes.set_xticks(x, [f"{subnet.accuracy:.2f}" for subnet in table.subnets])
        axes.set_xlabel("subnet accuracy (%)")
        axes.set_ylabel("time (ms)")
        axes.grid(visible=False, axis="x")
        axes.legend(loc="upper left")
    return figure
