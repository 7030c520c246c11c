"""`ssim optimum FILE`: what each policy reached, as a share of what any could have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ssim.commands import printing
from ssim.commands.group import example
from ssim.commands.options import job_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from rich.console import Console

    from ssim.jobs.job import Job
    from ssim.results.store import Store


@click.command(epilog=example("ssim optimum azure --set trace.duration_s=20"))
@job_options()
@click.option(
    "--exact",
    is_flag=True,
    help="Also solve for the optimum itself (a zero-one program); for traces of a few dozen queries.",
)
def optimum(file: Path, out: Path, overrides: tuple[str, ...], jobs: int, *, exact: bool) -> None:
    """Compare the stored runs of FILE with an upper bound on what any policy can reach, even one that knows the future.

    A met query counts 1 for SLO attainment, and the accuracy of its subnet for accuracy-weighted attainment. The table
    shows each policy's share of the bound; docs/optimum.md has the bound and its proof. Where workers come and go, the
    bound is that of any planner at the same cost. Runs must be stored already: `ssim run FILE` first.
    """
    from sim.base.errors import SsimError, StoreError
    from ssim.jobs.reading import read_job
    from ssim.results.store import Store

    experiment = read_job(file, overrides, "experiment/1")
    store = Store(out / experiment.name)
    if not any(store.manifest(run.id) for run in experiment.runs):
        words = "".join(f" --set {setting}" for setting in overrides)
        raise StoreError(str(store.folder), "no run of this experiment is stored", "", f"run `ssim run {file}{words}`")
    try:
        with store.writing():
            _compare(experiment, store, jobs, printing.console(), exact=exact)
    except KeyboardInterrupt as error:
        what = "finished bounds are stored; the same command computes the rest"
        raise SsimError("interrupted", what) from error


def _compare(experiment: Job, store: Store, jobs: int, console: Console, *, exact: bool) -> None:
    from rich.console import Console

    from ssim.execution.gap import find_gaps, write_gaps
    from ssim.jobs.experiment.drawing import draw_gap

    beside = Console(stderr=True)

    def tell(done: int, of: int) -> None:
        beside.print(f"{done} of {of} bounds", highlight=False)

    gaps = find_gaps(experiment, store, jobs=jobs, exact=exact, on_bound=tell)
    if gaps.rows:
        table = write_gaps(experiment, store, gaps)
        _print(console, experiment, gaps.rows)
        for line in dict.fromkeys(_looseness(experiment)):
            console.print(line, soft_wrap=True, highlight=False)
        console.print(f"Table: {table}", soft_wrap=True, highlight=False)
        for path in draw_gap(store, gaps.rows):
            if path.suffix == ".png":
                console.print(f"Picture: {path} (and .pdf, .svg)", soft_wrap=True, highlight=False)
    for run in gaps.missing:
        click.echo(f"ssim: not stored, therefore not compared: {run}", err=True)
    if gaps.missing:
        raise click.exceptions.Exit(1)


def _looseness(experiment: Job) -> Iterator[str]:
    """Yield for each run whose latencies are drawn what the bound takes in their place."""
    import numpy as np

    from sim.tables.service_times import service_times

    for run in experiment.runs:
        law = run.parts.cluster.latency
        if law.is_drawn:
            times = [service_times(pool.table, law) for pool in run.parts.cluster.pools(run.parts.table)]
            ratios = np.concatenate([(one.smallest_ns[:, 1:] / one.fixed_ns[:, 1:]).ravel() for one in times])
            least = f"{ratios.min():.2f} to {ratios.max():.2f} of the latency in the table"
            yield f"Latencies are drawn ({law}): the bound takes the smallest of each cell, {least}."
        if (drawn := run.parts.cluster.dispatch_drawn) is not None:
            least = f"{drawn.nodes_ns[0] / run.parts.cluster.dispatch_ns:.2f} of the median"
            yield f"Overheads of batches are drawn: the bound takes the smallest, {least}."


def _print(console: Console, experiment: Job, rows: Sequence[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from sim.base.intervals import mean_and_half_width

    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(repr([row["policy"], *(row[key] for key in experiment.swept)]), []).append(row)
    title = f"{experiment.name}: accuracy-weighted attainment as a share of its upper bound (mean over seeds)"
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in printing.headings(experiment.swept).values():
        table.add_column(name.replace("_", " ").replace(".", ". "), max_width=9)
    table.add_column("policy", overflow="fold", min_width=14)
    columns = {
        "slo_attainment": "attainment",
        "weighted_attainment": "weighted",
        "weighted_bound": "bound",
        "weighted_share": "share",
        "queues_attainment": "by weight",
        "queues_bound": "bound ",
        "cost": "cost",
        "least_cost": "at least",
        "optimum_lower": "optimum from",
        "optimum_upper": "to",
    }
    shown = [column for column in columns if column in rows[0]]
    for column in shown:
        table.add_column(columns[column], justify="right", no_wrap=True)

    def mean(members: Sequence[dict[str, Any]], column: str) -> str:
        found = mean_and_half_width([row[column] for row in members])[0]
        return f"{found:.4g}" if column in {"cost", "least_cost"} else f"{found:.4f}"

    for members in groups.values():
        point = [str(members[0][key]) for key in experiment.swept]
        table.add_row(*point, members[0]["policy"], *(mean(members, column) for column in shown))
    console.print(table)
