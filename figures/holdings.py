"""Who holds what: the examples of each class that each client of a federated training has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from figures import style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd

MOST_CLIENTS = 40
"""As many clients as have room for a name."""
_AREA_PT2 = 110.0  # of the largest disc


def draw(held: pd.DataFrame) -> Figure:
    """Return a row a client and a column a class, with discs whose areas are numbers of examples; totals at the right.

    Args:
        held: Columns `party`, `label` and `examples`; clients in the order of the rows.

    Raises:
        DataError: A column is missing.
    """
    check_columns(held, ("party", "label", "examples"), "holdings")
    if held.empty:
        return style.empty(style.COLUMN_IN)
    clients, labels = list(dict.fromkeys(held["party"])), sorted(held["label"].unique())
    shown = clients[:MOST_CLIENTS]
    rows = held[held["party"].isin(shown)]
    with style.applied():
        figure = Figure(figsize=(style.COLUMN_IN, 1.0 + 0.2 * len(shown)), layout="constrained")
        axes, sums = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        places = {client: number for number, client in enumerate(shown)}
        area = _AREA_PT2 * rows["examples"] / max(1, rows["examples"].max())
        axes.scatter(rows["label"], rows["party"].map(places), s=area, color="#0072B2", linewidths=0)
        totals = rows.groupby("party", sort=False)["examples"].sum()
        sums.barh([places[str(client)] for client in totals.index], totals, height=0.6, color="#56B4E9")
        axes.set_yticks(range(len(shown)), [str(client) for client in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xticks(labels)
        axes.set_xlim(labels[0] - 0.6, labels[-1] + 0.6)
        axes.set_xlabel("class")
        sums.set_xlabel("examples")
        sums.grid(visible=False, axis="y")
        if len(clients) > len(shown):
            axes.set_title(f"{len(clients) - len(shown)} more clients are not shown")
    return figure
