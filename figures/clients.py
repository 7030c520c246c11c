"""The accuracy of each client of a federated training on its own examples: how fair it is, and how that changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures import style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd

MAX_CLIENTS = 30
"""Maximum number of clients with a readable name."""


def draw(measured: pd.DataFrame, metric: str = "accuracy") -> Figure:
    """Return a figure of all clients over the rounds, and of the last accuracy of each, with the worst tenth apart.

    Args:
        measured: Columns `round`, `party` and `accuracy` in percent.
        metric: What the accuracies are, for the axis.

    Raises:
        DataError: A column is missing.
    """
    check_columns(measured, ("round", "party", "accuracy"), "clients")
    if measured.empty:
        return style.empty(style.PAGE_IN)
    rounds = measured.groupby("round")["accuracy"]
    last = measured.sort_values("round").groupby("party")["accuracy"].last().sort_values()
    with style.applied():
        figure = Figure(figsize=(style.PAGE_IN, 2.2), layout="constrained")
        over, each = figure.subplots(1, 2, sharey=True)
        mean = rounds.mean()
        over.fill_between(mean.index, rounds.min(), rounds.max(), color="#56B4E9", alpha=0.4, linewidth=0)
        over.plot(mean.index, mean, color="#0072B2", marker="." if len(mean) == 1 else "")
        over.xaxis.set_major_locator(MaxNLocator(integer=True))
        over.set_xlabel("round (mean, lowest and highest client)")
        over.set_ylabel(f"{metric} of a client in %")
        tenth = math.ceil(len(last) / 10)
        each.bar(range(len(last)), last, width=0.8, color=["#E69F00"] * tenth + ["#0072B2"] * (len(last) - tenth))
        each.axhline(float(last.mean()), color="#D55E00", linewidth=1)
        each.set_title(f"mean {last.mean():.1f} % (line), worst tenth {last[:tenth].mean():.1f} %", fontsize="medium")
        named = len(last) <= MAX_CLIENTS
        each.set_xticks(range(len(last)) if named else [], [str(name) for name in last.index] if named else [])
        each.tick_params(axis="x", rotation=90 if len(last) > 4 else 0)  # noqa: PLR2004 - as many names fit side by side
        each.set_xlabel("" if named else f"{len(last)} clients")
    return figure
