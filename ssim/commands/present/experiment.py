"""Experiments: tables over seeds, the headline comparisons, and figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ssim.commands.printing import console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from ssim.jobs.experiment.summary import Row
    from ssim.jobs.job import Job
    from ssim.results.store import Store


def report(job: Job, store: Store, *, figures: bool) -> None:
    """Write summary.csv, print the tables and draw the figures of what is stored."""
    from ssim.jobs.experiment.drawn import drawn
    from ssim.jobs.experiment.summary import by_policy, summary_file, write_summary

    rows = write_summary(store, job.swept)
    if not rows:
        return
    screen = console()
    _print_tables(screen, job, by_policy(job.runs, rows))
    screen.print(f"Table: {summary_file(store)}", soft_wrap=True)
    if figures:
        for path in drawn(store) or _draw(store):
            if path.suffix == ".png":
                screen.print(f"Picture: {path} (and .pdf, .svg)", soft_wrap=True)


def _draw(store: Store) -> list[Path]:
    from ssim.jobs.experiment.drawing import draw_experiment

    return draw_experiment(store)


def _print_tables(screen: Console, job: Job, rows: Sequence[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ssim.jobs.experiment.summary import headlines

    order = [run.label for run in job.runs]
    changed = f", with {', '.join(job.overrides)}" if job.overrides else ""
    for point in dict.fromkeys(row.swept for row in rows):
        here = [row for row in rows if row.swept == point]
        repeats = here[0].repeats
        values = ", ".join(f"{key} = {value}" for key, value in point)
        over = f"mean and 95 % interval over {repeats} seeds" if repeats > 1 else "one seed, no interval"
        title = f"{job.name}{': ' + values if values else ''}{changed} ({over})"
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
