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
    from ssim.run import Run
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
@click.option("--no-figures", is_flag=True, help="Draw nothing.")
def run(file: Path, out: Path, overrides: tuple[str, ...], jobs: int, *, force: bool, no_figures: bool) -> None:
    """Run the experiment of FILE; what is stored already is not computed again."""
    from rich.console import Console

    from sim.errors import SsimError
    from ssim.expand import read_experiment
    from ssim.runner import run_experiment
    from ssim.store import Store

    experiment = read_experiment(file, overrides)
    store = Store(out / experiment.name)
    progress = _Progress(Console(stderr=True))
    try:
        with store.writing():
            with progress:
                failed = run_experiment(
                    experiment,
                    store,
                    jobs=jobs,
                    force=force,
                    on_start=progress.start,
                    on_finished=progress.finished,
                )
            _report(experiment, store, figures=not no_figures)
    except KeyboardInterrupt as error:
        what = "what had finished is stored, and the same command goes on from there"
        raise SsimError("interrupted", what) from error
    if failed:
        _tell_failures(failed, len(experiment.runs))


def _report(experiment: Experiment, store: Store, *, figures: bool) -> None:
    """Write summary.csv, print the tables and draw the figures of what is stored."""
    from rich.console import Console

    from sim.whole_file import whole_file
    from ssim.summary import as_csv, by_policy, summary_rows

    rows = summary_rows(store)
    if not rows:
        return
    with whole_file(store.folder / "summary.csv") as path:
        path.write_text(as_csv(rows, experiment.swept), encoding="utf-8")
    console = Console()
    _print_tables(console, experiment, by_policy(experiment.runs, rows))
    console.print(f"Table: {store.folder / 'summary.csv'}", soft_wrap=True, highlight=False)
    if figures:
        from ssim.drawing import draw_experiment, drawn

        for path in drawn(store) or draw_experiment(store):
            if path.suffix == ".png":
                console.print(f"Picture: {path} (and .pdf, .svg)", soft_wrap=True, highlight=False)


def _tell_failures(failed: Sequence[Finished], runs: int) -> None:
    """Tell why runs failed, each reason once, and end with the exit code of the worst."""
    reasons: dict[str, list[Finished]] = {}
    for finished in failed:
        reasons.setdefault(str(finished.error), []).append(finished)
    for reason, alike in reasons.items():
        first = alike[0].run
        more = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
        click.echo(f"ssim: {_named(first)}{more}: {reason}", err=True)
        if click.get_current_context().obj:
            click.echo(alike[0].traceback, err=True)
    click.echo(f"ssim: {len(failed)} of {runs} runs failed", err=True)
    raise click.exceptions.Exit(max(finished.error.exit_code for finished in failed if finished.error))


def _named(run: Run) -> str:
    return f"{run.label}, seed {run.seed}" + "".join(f", {key} = {value}" for key, value in run.swept.items())


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
        self._told_of_numba = False
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
        from sim.engines import NO_NUMBA

        if one.engine_reason == NO_NUMBA and not self._told_of_numba:
            self._told_of_numba = True
            text = f"{NO_NUMBA}: SimPy runs, more slowly; pip install -e '.[fast]' brings the compiled engine"
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)
        self.done += 1
        self._queries += one.queries
        rate = self._queries / max(1e-9, time.perf_counter() - self._begin)
        self._bar.update(self._task, advance=1, rate=f"{rate / 1e6:.2f} M queries/s")
        if not self._console.is_terminal:
            outcome = "failed" if one.error else f"{one.queries} queries"
            self._console.print(
                f"[{self.done}/{self.todo}] {_named(one.run)}: {outcome}",
                markup=False,
                soft_wrap=True,
            )


def _print_tables(console: Console, experiment: Experiment, rows: Sequence[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ssim.summary import headlines

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
        console.print(table)
        for row in here:
            unfinished = sum(run["unfinished"] for run in row.runs)
            if unfinished:
                line = f"{row.policy}: {unfinished} queries were never started: no worker was left."
                console.print(line, soft_wrap=True, highlight=False)
        for line in headlines(sorted(here, key=lambda row: order.index(row.policy))):
            console.print(line, soft_wrap=True, highlight=False)


def _cell(row: Row, column: str, digits: int, *, interval: bool = True) -> str:
    mean, half = row.over_repeats(column)
    if math.isnan(mean):
        return "-"
    shown = half if half > 1e-12 * abs(mean) else 0.0  # what is left of rounding is no doubt
    return f"{mean:.{digits}f}" + (f" ±{shown:.1g}" if interval and not math.isnan(half) else "")
