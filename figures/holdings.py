"""The partition of a data set: number of examples per class and client of a federated training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from figures import style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd

MAX_CLIENTS = 40
"""Maximum number of clients with a readable name."""
_AREA_PT2 = 110.0  # of the largest disc


def draw(held: pd.DataFrame) -> Figure:
    """Return a figure with a row per client and a column per class; disc areas are numbers of examples.

    Args:
        held: Columns `party`, `label` and `examples`; clients in the order of the rows. Without labels, each client has
            one row, and classes are not drawn.

    Raises:
        DataError: A column is missing.
    """
    check_columns(held, ("party", "label", "examples"), "holdings")
    if held.empty:
        return style.empty(style.COLUMN_IN)
    clients, labels = list(dict.fromkeys(held["party"])), sorted(held["label"].dropna().unique())
    named = clients[:MAX_CLIENTS]
    rows = held[held["party"].isin(named)]
    with style.applied():
        figure = Figure(figsize=(style.COLUMN_IN, 1.0 + 0.2 * len(named)), layout="constrained")
        if labels:
            axes, sums = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        else:
            axes = sums = figure.subplots()
        places = {client: number for number, client in enumerate(named)}
        totals = rows.groupby("party", sort=False)["examples"].sum()
        sums.barh([places[str(client)] for client in totals.index], totals, height=0.6, color="#56B4E9")
        axes.set_yticks(range(len(named)), [str(client) for client in named])
        axes.set_ylim(len(named) - 0.4, -0.6)
        if labels:
            area = _AREA_PT2 * rows["examples"] / max(1, rows["examples"].max())
            axes.scatter(rows["label"], rows["party"].map(places), s=area, color="#0072B2", linewidths=0)
            axes.set_xticks(labels)
            axes.set_xlim(labels[0] - 0.6, labels[-1] + 0.6)
            axes.set_xlabel("class")
        sums.set_xlabel("examples")
        sums.grid(visible=False, axis="y")
        if len(clients) > len(named):
            figure.suptitle(f"{len(clients) - len(named)} more clients are not shown")
    return figure
