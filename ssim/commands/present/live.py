"""Live runs: served one after the other, and what is told of them beside the table of every experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssim.commands.present.job import run_and_report
from ssim.commands.printing import console, tell

if TYPE_CHECKING:
    from pathlib import Path

    from serving.comparison import RunFigures
    from ssim.jobs.job import Job

_COLUMNS = {
    "send lag": "send_lag_ms",
    "receive": "receive_lag_ms",
    "decide": "decide_ms",
    "dispatch": "dispatch_ms",
    "beyond table": "extra_ms",
}


_COUNTS = ("rejected", "cancelled", "failed", "lost")

_KEPT = "what was served is stored; the same command serves everything again"


def serve_and_report(job: Job, out: Path, *, figures: bool) -> None:
    """Serve the runs of an experiment in real time, and report them.

    Raises:
        SpecError: The experiment has something that is not served live.
        click.exceptions.Exit: Some run failed; with its exit code.
    """
    from ssim.jobs.experiment.live import live_job
    from ssim.jobs.job import ExecutionOptions
    from ssim.results.store import Store

    job = live_job(job, tell)
    try:
        run_and_report(job, out, options=ExecutionOptions(), figures=figures, kept=_KEPT)
    finally:
        print_live([(str(run), found) for run in job.runs if (found := Store(out / job.name).manifest(run.id))])


def print_live(runs: list[tuple[str, dict[str, Any]]]) -> None:
    """Print delays, the client's view, and what went wrong; nothing without runs."""
    if not runs:
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    screen = console()
    title = "Live: delays in ms, median / 99th percentile"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("run", overflow="fold")
    for name in ("attainment", "at client", *_COLUMNS, *_COUNTS):
        table.add_column(name, justify="right", no_wrap=True)
    for name, manifest in runs:
        live = manifest["circumstances"]["live"]
        sides = (live[f"slo_attainment_{side}"] for side in ("router", "client"))
        shares = ("-" if share is None else f"{share:.4f}" for share in sides)
        delays = ("-" if (pair := live[key]) is None else f"{pair[0]:.2f}/{pair[1]:.2f}" for key in _COLUMNS.values())
        table.add_row(name, *shares, *delays, *(str(live[count]) for count in _COUNTS))
    screen.print(table)
    for name, manifest in runs:
        live = manifest["circumstances"]["live"]
        if live["unsent"]:
            counts = f"{live['received']} queries were sent, {live['unsent']} were not"
            screen.print(f"{name} was interrupted: {counts}.", soft_wrap=True)
        for sentence in void_sentences(manifest, name):
            screen.print(sentence, soft_wrap=True)
        for sentence in live["differences"]:
            screen.print(f"{name}: {sentence}", soft_wrap=True)
        for fault in live["faults"]:
            screen.print(f"{name}: {fault}", soft_wrap=True)


def void_sentences(manifest: dict[str, Any], name: str = "The run") -> list[str]:
    """Return why a live run is void, a sentence for each reason; none if it is not."""
    reasons = manifest["circumstances"]["live"]["void"]
    return [f"{name} is void: {reason}. The machine was too busy." for reason in reasons]


def compare_live(out: Path, name: str) -> None:
    """Print and draw what a live run and the simulator agree in.

    Args:
        out: The folder of results.
        name: The live run: a job that has one, or `JOB/RUN`.

    Raises:
        StoreError: There is no such run, or what it was made from has changed since.
    """
    from dataclasses import asdict

    import pandas as pd
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from figures.agreement import draw
    from figures.style import save
    from serving.comparison import PARTS, STEPS
    from ssim.execution.agreement import StoredLiveRun
    from ssim.results.stored import stored_run

    store, run_id = stored_run(out, name)
    stored = StoredLiveRun.read(store, run_id)
    found, screen = stored.agreement(), console()
    title = f"{store.folder.name}/{run_id}: {stored.run.label}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("", overflow="fold")
    for column in ("SLO attainment", "accuracy %", "batch", "off by points", "part"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("live", *_figures(found.live), "", "")
    before = found.live.slo_attainment
    for number, step in enumerate(found.steps):
        off = 100 * (step.slo_attainment - found.live.slo_attainment)
        part = f"{PARTS[step.name]} {100 * (step.slo_attainment - before):+.2f}" if number else ""
        table.add_row(STEPS[step.name], *_figures(step), f"{off:+.2f}", part)
        before = step.slo_attainment
    screen.print(table)
    middle, low, high = found.ratio
    spread = f"5th to 95th percentile {low:.3f} to {high:.3f}"
    if found.client is not None:
        screen.print(f"SLO attainment at the client: {found.client:.4f}.", soft_wrap=True)
    screen.print(f"Forward passes took {middle:.3f} times what was expected ({spread}).", soft_wrap=True)
    screen.print("The log, fed to a new scheduler, gives the same decisions: " + ("yes." if found.replays else "NO."))
    if stored.rejected:
        counted = "1 rejected query is" if stored.rejected == 1 else f"{stored.rejected} rejected queries are"
        why = "simulated queries are rejected one by one, by the bound of their queue"
        screen.print(f"{counted} left out, by live.queue or as whole requests: {why}.", soft_wrap=True)
    if stored.cancelled:
        counted = "1 cancelled query is" if stored.cancelled == 1 else f"{stored.cancelled} cancelled queries are"
        screen.print(f"{counted} left out: simulated clients wait for their answers.", soft_wrap=True)
    for sentence in void_sentences(stored.manifest):
        screen.print(sentence, soft_wrap=True)
    frame = pd.DataFrame([asdict(step) for step in (found.live, *found.steps)])
    shown = frame.assign(shown=["live", *(STEPS[step.name] for step in found.steps)])
    paths = save(draw(shown), store.folder / "figures" / f"agreement-{run_id}")
    screen.print(f"Picture: {paths[0]}", soft_wrap=True)


def _figures(step: RunFigures) -> tuple[str, str, str]:
    return f"{step.slo_attainment:.6f}", f"{step.mean_serving_accuracy:.2f}", f"{step.mean_batch_size:.2f}"
