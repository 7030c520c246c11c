"""Live runs: served one after the other, and what is told of them beside the table of every experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssim.commands.present.job import run_and_report
from ssim.commands.printing import console

if TYPE_CHECKING:
    from pathlib import Path

    from ssim.jobs.job import Job

_COLUMNS = {
    "send lag": "send_lag_ms",
    "receive": "receive_lag_ms",
    "decide": "decide_ms",
    "dispatch": "dispatch_ms",
    "beyond table": "extra_ms",
}


def serve_and_report(job: Job, out: Path, *, figures: bool) -> None:
    """Serve the runs of an experiment in real time, and report them.

    Raises:
        SpecError: The experiment has something that is not served live.
        click.exceptions.Exit: Some run failed; with its exit code.
    """
    from ssim.jobs.experiment.live import live_job
    from ssim.jobs.job import ExecutionOptions
    from ssim.results.store import Store

    job = live_job(job)
    run_and_report(job, out, options=ExecutionOptions(), figures=figures)
    _print_live([(str(run), found) for run in job.runs if (found := Store(out / job.name).manifest(run.id))])


def _print_live(runs: list[tuple[str, dict[str, Any]]]) -> None:
    """Print delays, the client's view, and what went wrong."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    screen = console()
    title = "Live: delays in ms, median / 99th percentile"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("run", overflow="fold")
    for name in ("attainment", "at client", *_COLUMNS, "rejected", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, manifest in runs:
        live = manifest["circumstances"]["live"]
        shares = (f"{live[f'slo_attainment_{side}']:.4f}" for side in ("router", "client"))
        delays = ("-" if (pair := live[key]) is None else f"{pair[0]:.2f}/{pair[1]:.2f}" for key in _COLUMNS.values())
        table.add_row(name, *shares, *delays, str(live["rejected"]), str(live["lost"]))
    screen.print(table)
    for name, manifest in runs:
        live = manifest["circumstances"]["live"]
        for reason in live["void"]:
            screen.print(f"{name} is void: {reason}. The machine was too busy.", soft_wrap=True)
        for fault in live["faults"]:
            screen.print(f"{name}: {fault}", soft_wrap=True)
