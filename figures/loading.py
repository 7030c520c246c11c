"""Time to load a model, compared with the time to run it and to actuate it in place.

After SuperServe (NSDI 2025), Figures 1a and 5b.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from figures import style
from figures.tables import check_columns
from sim.base.errors import DataError
from sim.base.units import NS_PER_MS

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from sim.tables.latency import LatencyTable

BYTES_PER_WEIGHT = 4
_HATCHES = ("", "////", "xx")
_GREYS = ("#9ECAE1", "#4292C6", "#08306B")


def draw(table: LatencyTable, bytes_per_s: float, source: str, width: float = style.COLUMN_IN) -> Figure:
    """Return bars for each subnet: the time to load its weights, and to run its smallest and its largest batch.

    Args:
        table: Subnets with their numbers of weights, of 4 bytes each.
        bytes_per_s: Loading rate of weights.
        source: Source of that rate, for the legend.
        width: In inches.

    Raises:
        DataError: The table lacks the number of weights of a subnet.
    """
    loading = _loading_ms(table, bytes_per_s)
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


_MARKS = (
    ("load, {}", "loading_ms", "#08306B", "s"),
    ("actuate, first", "first_ms", "#4292C6", "^"),
    ("actuate, again", "again_ms", "#D55E00", "o"),
)


def draw_actuation(
    table: LatencyTable, actuated: pd.DataFrame, bytes_per_s: float, source: str, width: float = style.COLUMN_IN
) -> Figure:
    """Return marks for each subnet on a logarithmic axis: the time to load it, and to actuate it in a supernet.

    Args:
        table: Subnets with their numbers of weights, of 4 bytes each.
        actuated: Columns `first_ms` and `again_ms`, a row for each subnet, in the order of the table.
        bytes_per_s: Loading rate of weights.
        source: Source of that rate, for the legend.
        width: In inches.

    Raises:
        DataError: The table lacks the number of weights of a subnet, or a column or row is missing.
    """
    check_columns(actuated, ("first_ms", "again_ms"), "actuation")
    if len(actuated) != len(table.subnets):
        raise DataError(
            "actuation", "does not match the subnets of the table", str(len(actuated)), str(len(table.subnets))
        )
    times = actuated.assign(loading_ms=_loading_ms(table, bytes_per_s))
    with style.applied():
        figure = Figure(figsize=(width, 2.5), layout="constrained")
        axes = figure.add_subplot()
        x = np.arange(len(times))
        for name, column, colour, mark in _MARKS:
            axes.plot(x, times[column], mark, color=colour, label=name.format(source), markersize=5)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(x, [f"{subnet.accuracy:.2f}" for subnet in table.subnets])
        axes.set_xlabel("subnet accuracy (%)")
        axes.set_ylabel("time (ms)")
        style.legend_below(figure, *axes.get_legend_handles_labels())
    return figure


def _loading_ms(table: LatencyTable, bytes_per_s: float) -> npt.NDArray[np.float64]:
    """Return the loading time of each subnet.

    Raises:
        DataError: The table lacks the number of weights of a subnet.
    """
    weights = [subnet.params for subnet in table.subnets]
    if None in weights:
        location, problem = f"table of {table.device}", "lacks the number of weights of a subnet"
        raise DataError(location, problem, table.subnets[weights.index(None)].id, "a table with params")
    return np.array(weights, dtype=np.float64) * BYTES_PER_WEIGHT / bytes_per_s * 1e3
