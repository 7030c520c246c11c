"""`ssim run FILE`: run an experiment, print its table, draw its figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from ssim.commands.options import experiment_options
from ssim.commands.printing import console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from ssim.jobs.experiment.expand import Experiment
    from ssim.jobs.experiment.summary import Row
    from ssim.results.store import Store


@click.command()
@experiment_options
@click.option(
    "--backend",
    type=click.Choice(["local", "ray", "dask"]),
    default="local",
    show_default=True,
    help="Who does the runs: this machine, or the machines of a cluster.",
)
@click.option(
    "--address",
    help="Where the cluster is, if not at RAY_ADDRESS or DASK_SCHEDULER_ADDRESS; without either, one of --jobs "
    "workers is started here.",
)
@click.option("--force", is_flag=True, help="Run also what is stored already.")
@click.option("--no-figures", is_flag=True, help="Draw nothing.")
def run(
    file: Path,
    out: Path,
    overrides: tuple[str, ...],
    jobs: int,
    backend: str,
    address: str | None,
    *,
    force: bool,
    no_figures: bool,
) -> None:
    """Run the experiment of FILE; what is stored already is not computed again."""
    from rich.console import Console

    from sim.base.errors import SpecError
    from ssim.commands.progress import Progress, interruptible, tell_failures
    from ssim.execution.backends.machines import way_to
    from ssim.execution.runner import run_experiment
    from ssim.jobs.experiment.expand import read_experiment
    from ssim.results.store import Store

    if address is not None and backend == "local":
        raise SpecError("--address", "is where a cluster is", repr(address), "--backend ray or dask with it")
    way = None if backend == "local" else way_to(backend, address)
    experiment = read_experiment(file, overrides)
    store = Store(out / experiment.name)
    progress = Progress(Console(stderr=True))
    with interruptible("what had finished is stored, and the same command goes on from there"), store.writing():
        with progress:
            failed = run_experiment(
                experiment,
                store,
                jobs=jobs,
                backend=way,
                force=force,
                on_start=progress.start,
                on_finished=progress.finished,
            )
        _report(experiment, store, figures=not no_figures)
    tell_failures(failed, len(experiment.runs))


def _report(experiment: Experiment, store: Store, *, figures: bool) -> None:
    """Write summary.csv, print the tables and draw the figures of what is stored."""
    from ssim.jobs.experiment.summary import COLUMNS, by_policy, summary_rows, write_csv

    rows = summary_rows(store)
    if not rows:
        return
    table = store.folder / "summary.csv"
    write_csv(table, rows, [*COLUMNS, *experiment.swept, "unfinished", "run"])
    screen = console()
    _print_tables(screen, experiment, by_policy(experiment.runs, rows))
    screen.print(f"Table: {table}", soft_wrap=True)
    if figures:
        from ssim.jobs.experiment.drawn import drawn

        for path in drawn(store) or _draw(store):
            if path.suffix == ".png":
                screen.print(f"Picture: {path} (and .pdf, .svg)", soft_wrap=True)


def _draw(store: Store) -> list[Path]:
    from ssim.jobs.experiment.drawing import draw_experiment

    return draw_experiment(store)


def _print_tables(screen: Console, experiment: Experiment, rows: Sequence[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ssim.jobs.experiment.summary import headlines

    order = [run.label for run in experiment.runs]
    changed = f", with {', '.join(experiment.overrides)}" if experiment.overrides else ""
    for point in dict.fromkeys(row.swept for row in rows):
        here = [row for row in rows if row.swept == point]
        repeats = here[0].repeats
        values = ", ".join(f"{key} = {value}" for key, value in point)
        over = f"mean and 95 % interval over {repeats} seeds" if repeats > 1 else "one seed, no interval"
        title = f"{experiment.name}{': ' + values if values else ''}{changed} ({over})"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        table.add_column("policy", overflow="fold")
        for name in ("SLO attainment", "accuracy %", "p99 ms", "batch", "busy"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in here:
            missing = f" ({len(row.runs)} of {repeats} seeds)" if len(row.runs) < repeats else ""
            table.add_row(
                row.policy + missing,
                _cell(row, "slo_attainment", 6),
                _cell(row, "mean_serving_accuracy", 2),
                _cell(row, "p99_latency_ms", 1, interval=False),
                _cell(row, "mean_batch_size", 1, interval=False),
                _cell(row, "utilisation", 2, interval=False),
            )
        screen.print(table)
        for row in here:
            unfinished = sum(run["unfinished"] for run in row.runs)
            if unfinished:
                line = f"{row.policy}: {unfinished} queries were never started: no worker was left."
                screen.print(line, soft_wrap=True)
        for line in headlines(sorted(here, key=lambda row: order.index(row.policy))):
            screen.print(line, soft_wrap=True)


def _cell(row: Row, column: str, digits: int, *, interval: bool = True) -> str:
    mean, half = row.over_repeats(column)
    if math.isnan(mean):
        return "-"
    shown = half if half > 1e-12 * abs(mean) else 0.0  # what is left of rounding is no doubt
    return f"{mean:.{digits}f}" + (f" ±{shown:.1g}" if interval and not math.isnan(half) else "")
