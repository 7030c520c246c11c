"""`ssim run FILE`: run an experiment, print its table, draw its figures."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from ssim.expand import Experiment
    from ssim.runner import Finished
    from ssim.store import Store
    from ssim.summary import Row


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder of results."
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, such as trace.mean_qps=4000."
)
@click.option("--jobs", type=click.IntRange(1), default=_cores, show_default="cores", help="Runs at once.")
@click.option("--force", is_flag=True, help="Run also what is stored already.")
@click.option("--no-requests", is_flag=True, help="Do not store a row for each query (requests.parquet).")
@click.option("--no-figures", is_flag=True, help="Draw nothing.")
def run(
    file: Path, out: Path, overrides: tuple[str, ...], jobs: int, *, force: bool, no_requests: bool, no_figures: bool
) -> None:
    """Run the experiment of FILE; what is stored already is not computed again."""
    from rich.console import Console

    from sim.whole_file import whole_file
    from ssim.expand import read_experiment
    from ssim.runner import run_experiment
    from ssim.store import Store
    from ssim.summary import as_csv, by_policy, summary_rows

    experiment = read_experiment(file, overrides)
    store = Store(out / experiment.name)
    progress = _Progress(Console(stderr=True))
    with progress:
        failed = run_experiment(
            experiment,
            store,
            jobs=jobs,
            force=force,
            requests=not no_requests,
            on_start=progress.start,
            on_finished=progress.finished,
        )
    rows = summary_rows(experiment.runs, store)
    with whole_file(store.folder / "summary.csv") as path:
        path.write_text(as_csv(rows, experiment.swept), encoding="utf-8")
    console = Console()
    _print_tables(console, experiment, by_policy(experiment.runs, rows))
    console.print(f"Table: {store.folder / 'summary.csv'}", soft_wrap=True)
    if not no_figures and rows:
        _draw(console, store, anew=progress.done > 0)
    for finished in failed:
        click.echo(f"ssim: {finished.run.label}, seed {finished.run.seed}: {finished.error}", err=True)
    if failed:
        click.echo(f"ssim: {len(failed)} of {len(experiment.runs)} runs failed", err=True)
        raise click.exceptions.Exit(max(finished.error.exit_code for finished in failed if finished.error))


class _Progress:
    """Progress on a terminal as a bar with rate and remaining time, elsewhere as a line a run."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._console = console
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._begin = time.perf_counter()
        self._task = self._bar.add_task("runs", total=None, rate="")
        self._queries = 0
        self.done = 0
        self.todo = 0

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, todo: int, stored: int) -> None:
        self.todo = todo
        self._begin = time.perf_counter()
        self._bar.update(self._task, total=todo)
        if stored:
            self._console.print(f"{stored} of {stored + todo} runs are stored already")

    def finished(self, one: Finished) -> None:
        self.done += 1
        self._queries += one.queries
        rate = self._queries / max(1e-9, time.perf_counter() - self._begin)
        self._bar.update(self._task, advance=1, rate=f"{rate / 1e6:.2f} M queries/s")
        if not self._console.is_terminal:
            outcome = "failed" if one.error else f"{one.queries} queries"
            self._console.print(
                f"[{self.done}/{self.todo}] {one.run.label} seed {one.run.seed}: {outcome}",
                markup=False,
                soft_wrap=True,
            )


def _print_tables(console: Console, experiment: Experiment, rows: Sequence[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ssim.summary import headlines

    order = [run.label for run in experiment.runs]
    for point in dict.fromkeys(row.swept for row in rows):
        here = [row for row in rows if row.swept == point]
        repeats = len(here[0].runs)
        values = ", ".join(f"{key} = {value}" for key, value in point)
        over = f"mean and 95 % interval over {repeats} seeds" if repeats > 1 else "one seed, no interval"
        title = f"{experiment.name}{': ' + values if values else ''} ({over})"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        table.add_column("policy", overflow="fold")
        for name in ("SLO attainment", "accuracy %", "p99 ms", "batch", "busy"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in here:
            table.add_row(
                row.policy,
                _cell(row, "slo_attainment", 6),
                _cell(row, "mean_serving_accuracy", 2),
                _cell(row, "p99_latency_ms", 1, interval=False),
                _cell(row, "mean_batch_size", 1, interval=False),
                _cell(row, "utilisation", 2, interval=False),
            )
        console.print(table)
        for line in headlines(sorted(here, key=lambda row: order.index(row.policy))):
            console.print(line, soft_wrap=True, highlight=False)


def _cell(row: Row, column: str, digits: int, *, interval: bool = True) -> str:
    mean, half = row.over_repeats(column)
    if math.isnan(mean):
        return "-"
    shown = half if half > 1e-12 * abs(mean) else 0.0  # what is left of rounding is no doubt
    return f"{mean:.{digits}f}" + (f" ±{shown:.1g}" if interval and not math.isnan(half) else "")


def _draw(console: Console, store: Store, *, anew: bool) -> None:
    from ssim.drawing import draw_experiment, drawn

    paths = draw_experiment(store) if anew or not drawn(store) else drawn(store)
    for path in paths:
        if path.suffix == ".png":
            console.print(f"Picture: {path} (and .pdf, .svg)", soft_wrap=True)
