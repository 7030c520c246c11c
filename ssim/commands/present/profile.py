"""Profiles: a bar of measurements, and what was measured how well."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.printing import console

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from rich.console import Console

    from profiler.grid import Grid
    from profiler.profile import ProfilePlan
    from sim.tables.latency import LatencyTable
    from ssim.jobs.job import Job, Watch
    from ssim.results.store import Store


@contextmanager
def watching(screen: Console) -> Generator[Watch]:
    """Give what is called with each measurement: a bar on a terminal; cells that can't be measured are told."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} measurements"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def watch(_run: Any, step: Any) -> None:
            bar.update(
                task,
                completed=step.done,
                total=step.done + step.ahead,
                description=f"{step.doubtful} cells below the precision",
            )
            if step.failed:
                screen.print(step.failed, soft_wrap=True, highlight=False, markup=False)

        yield watch


def report(job: Job, store: Store, *, figures: bool) -> None:
    """Say what was measured and how well, for each run."""
    del figures  # they belong to the report of a profile
    from sim.tables.files import find_table

    done = [run for run in job.runs if store.has(run.id)]
    for run in done:
        folder = store.folder / run.id
        if len(job.runs) == 1:
            run.publish(store)
            folder = store.folder
        profile, grid = run.parts.profile, run.grid(store)
        table = None if profile.rated is None else find_table(folder / "table.parquet")
        _tell(profile, grid, table, folder)


def _tell(profile: ProfilePlan, grid: Grid, table: LatencyTable | None, folder: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from profiler.grid import count_statuses
    from profiler.report import LATENCY_NOTE, latency_rows, warnings

    found = profile.estimates(grid)
    counts = ", ".join(f"{count} {status}" for status, count in count_statuses(found).items())
    header, *rows = latency_rows(table or profile, found)
    shown = Table(title="Latency in ms", title_justify="left", box=SIMPLE_HEAD, padding=0)
    for name in header:
        shown.add_column(name, overflow="fold", justify="left" if name == header[0] else "right")
    for row in rows:
        shown.add_row(*row)
    console().print(shown)
    click.echo(LATENCY_NOTE)
    click.echo(f"{len(found)} cells: {counts}")
    if table is None:
        for sentence in warnings(grid):
            click.echo(sentence)
        hint = "--subnets FILE.csv (subnet,accuracy) makes one, without measuring again"
        click.echo(f"Latencies: {folder / 'cells.csv'}; no table, since accuracies are unknown: {hint}")
        return
    timed = {subnet.id for subnet in table.subnets}
    for subnet in profile.subnets:
        if subnet.id not in timed:
            click.echo(f"not in the table, since it can't be timed: {subnet.id}")
    sizes = [str(size) for size in profile.batch_sizes if size not in table.batch_sizes]
    if sizes:
        click.echo(f"not in the table, since some subnet was not measured there: batch {', '.join(sizes)}")
    for sentence in warnings(grid):
        click.echo(sentence)
    click.echo(f"Table: {folder / 'table.parquet'}")
    click.echo(f"Report: {folder / 'report.md'}")
