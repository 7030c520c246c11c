"""What `ssim capacity --cheapest` shows: the cheapest mix of kinds of workers for each policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssim.commands.printing import headings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from ssim.execution.mixes import Cheapest
    from ssim.jobs.job import Job


def print_cheapest(screen: Console, experiment: Job, found: Sequence[Cheapest]) -> None:
    """Print the table and what it does not say."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    target, seeds, kinds = found[0].search.target, len(found[0].runs), found[0].kinds
    over = f"mean and 95 % interval over {seeds} seeds" if seeds > 1 else "one seed, no interval"
    title = f"{experiment.name}: cheapest workers that meet {target:g} at {found[0].rate_qps:g} queries per second"
    table = Table(title=f"{title} ({over})", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (*headings(experiment.swept).values(), "policy"):
        table.add_column(name, overflow="fold")
    currency = str(found[0].row()["currency"])
    each = ["each seed"] * (seeds > 1)
    for name in (*kinds, f"{currency} per hour", *each, "attainment", "mixes tried"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        row = one.row()
        numbers = ["-" if row[f"workers_{name}"] is None else str(row[f"workers_{name}"]) for name in kinds]
        price = "-" if row["price_per_h"] is None else f"{row['price_per_h']:.4g}"
        span = "-" if row["price_from"] is None else f"{row['price_from']:.4g} to {row['price_to']:.4g}"
        half = "" if row["attainment_half_width"] is None else f" \N{PLUS-MINUS SIGN}{row['attainment_half_width']:.2g}"
        attainment = "-" if row["attainment"] is None else f"{row['attainment']:.6f}{half}"
        point = [str(one.runs[0].swept[name]) for name in experiment.swept]
        table.add_row(
            *point, one.runs[0].label, *numbers, price, *[span] * (seeds > 1), attainment, str(row["mixes_tried"])
        )
    screen.print(table)
    for line in _notes(found):
        screen.print(line, soft_wrap=True)
    over = "mean attainment over seeds" if seeds > 1 else "attainment"
    screen.print(
        f"Workers of each kind in the cheapest mix with which the {over} is at least {target:g}. A mix is not tried if "
        "one of the same kinds with no fewer workers of each missed the target, except near the answer."
        f"{of_queues(experiment)}",
        soft_wrap=True,
    )


def of_queues(experiment: Job) -> str:
    """Return the sentence that says which attainment counts if there are queues."""
    return " Attainment: that of the queue with the lowest." if experiment.spec.queues else ""


def _notes(found: Sequence[Cheapest]) -> Iterator[str]:
    """Yield what the table does not say, a line for each search."""
    for one in found:
        search, row = one.search, one.row()
        who = one.runs[0].label + "".join(f", {key} = {value}" for key, value in one.runs[0].swept.items())
        if one.error is not None:
            continue
        if search.cheapest is None:
            best = max(map(search.mean, search.attained), default=float("nan"))
            yield (
                f"{who}: no mix meets the target; the highest attainment is {best:.6f}. The batches of this policy are "
                "too slow for the SLO, or it waits or drops."
            )
        elif row["attainment"] - (row["attainment_half_width"] or 0) < search.target:
            yield f"{who}: the interval of the attainment includes the target; more repeats or a longer trace decide."
