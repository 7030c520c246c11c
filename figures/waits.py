"""Who waits for whom in a federated training, and how that changes from round to round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures import style
from figures.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd

MAX_WORKERS = 24
"""With more workers than this, roles are shown instead."""
_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2", "#000000")
_COLUMNS = ("round", "worker", "awaited", "seconds")


def draw(waits: pd.DataFrame) -> Figure:
    """Return a figure of the seconds that each worker waited for each other, and of the waiting of each role by round.

    Args:
        waits: Columns `round`, `worker`, `awaited` (who ended the wait) and `seconds`.

    Raises:
        DataError: A column is missing.
    """
    check_columns(waits, _COLUMNS, "waits")
    if waits.empty:
        return style.empty(style.PAGE_IN)
    roles = waits.assign(role=waits["worker"].str.rpartition("/")[0])
    shown = waits
    if len(set(waits["worker"]) | set(waits["awaited"])) > MAX_WORKERS:
        by_role = {
            name: waits[name].where(~waits[name].str.contains("/"), waits[name].str.rpartition("/")[0])
            for name in ("worker", "awaited")
        }
        shown = waits.assign(**by_role)
    matrix = shown.pivot_table(values="seconds", index="worker", columns="awaited", aggfunc="sum", fill_value=0.0)
    matrix = matrix.loc[sorted(matrix.index, key=_order), sorted(matrix.columns, key=_order)]
    rounds = sorted(set(roles["round"]))
    per_worker = roles.pivot_table(values="seconds", index="round", columns="role", aggfunc="sum", fill_value=0.0)
    counts = roles.groupby("role")["worker"].nunique()
    with style.applied():
        height = max(2.4, 0.9 + 0.16 * len(matrix.index))
        figure = Figure(figsize=(style.PAGE_IN, height), layout="constrained")
        who, when = figure.subplots(1, 2, width_ratios=(1.5, 1))
        image = who.imshow(matrix, cmap="Blues", aspect="auto", vmin=0.0)
        who.set_xticks(range(len(matrix.columns)), list(matrix.columns), rotation=90)
        who.set_yticks(range(len(matrix.index)), list(matrix.index))
        who.grid(visible=False)
        who.set_xlabel("whose message ended the wait")
        who.set_ylabel("who waited")
        figure.colorbar(image, ax=who, label=f"seconds in {len(rounds)} rounds")
        for number, role in enumerate(sorted(per_worker.columns)):
            colour = _COLOURS[number % len(_COLOURS)]
            when.plot(rounds, per_worker[role] / counts[role], color=colour, label=role, marker=".")
        when.xaxis.set_major_locator(MaxNLocator(integer=True))
        when.set_ylim(bottom=0)
        when.set_xlabel("round")
        when.set_ylabel("waiting of a worker in s")
        when.legend()
    return figure


def _order(worker: str) -> tuple[bool, str, int]:
    """Return the sort key of a worker, role or `nobody`, which comes last."""
    role, _, number = worker.rpartition("/")
    return not role and worker == "nobody", role or worker, int(number) if number.isdecimal() else 0
