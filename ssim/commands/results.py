"""`ssim results`: which runs of a job are stored, which failed, which are to do; and the time line of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.group import CommandGroup, example
from ssim.commands.options import completed, json_option, results_option, stored_jobs
from ssim.commands.printing import console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from ssim.results.store import Store

STATES = ("stored", "failed", "damaged", "to do")


@click.group(cls=CommandGroup)
def results() -> None:
    """Stored results: which runs are stored, which failed, and which are still to do; time lines."""


@results.command(epilog=example("ssim results status azure"))
@click.argument("name", shell_complete=completed(stored_jobs))
@json_option
@results_option
def status(name: str, out: Path, *, as_json: bool) -> None:
    """Print how many runs of the job NAME are stored, failed or to do, and why runs failed.

    The exit code is 0 if all runs are stored, else 1.
    """
    from ssim.results.stored import stored

    store = stored(out, name)
    runs = store.index()["runs"]
    states = _states(store)
    if as_json:
        found = [{**run, "state": states[run["id"]], "failure": store.failure(run["id"])} for run in runs]
        print_json(found)
        if any(one["state"] != "stored" for one in found):
            raise click.exceptions.Exit(1)
        return
    table = _table("run", *STATES)
    for label in dict.fromkeys(run["label"] for run in runs):
        own = [states[run["id"]] for run in runs if run["label"] == label]
        table.add_row(label, *(str(own.count(state)) for state in STATES))
    console().print(table)
    done = list(states.values()).count("stored")
    writer = store.writer()
    now = "no process is writing" if writer is None else f"process {writer} is writing"
    click.echo(f"{name}: {done} of {len(states)} runs stored; {now}")
    reasons: dict[str, list[str]] = {}
    for run in runs:
        if states[run["id"]] == "failed":
            reasons.setdefault(store.failure(run["id"]) or "", []).append(f"{run['label']}, seed {run['seed']}")
    for reason, alike in reasons.items():
        more = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
        click.echo(f"failed: {alike[0]}{more}: {reason}")
    if done < len(states):
        if writer is None:
            click.echo("run the same command again to finish it")
        raise click.exceptions.Exit(1)


@results.command(epilog=example("ssim results ls", "ssim results ls --out /data/results"))
@json_option
@results_option
def ls(out: Path, *, as_json: bool) -> None:
    """List the jobs that have results, with their runs, size and time of the last change."""
    from datetime import UTC, datetime

    from sim.base.errors import StoreError
    from ssim.results.store import INDEX, Store
    from ssim.results.stored import listed, stored_names

    jobs: list[dict[str, Any]] = []
    for name in stored_names(out):
        folder = out / name
        try:
            states = list(_states(Store(folder)).values())
        except StoreError:
            jobs.append({"job": name, "runs": None})
            continue
        size_bytes = sum(_size(file) for file in [*folder.glob("*"), *folder.glob("*/*")])
        changed = datetime.fromtimestamp((folder / INDEX).stat().st_mtime, UTC)
        counts = {"runs": len(states), "stored": states.count("stored"), "failed": states.count("failed")}
        jobs.append({"job": name, **counts, "bytes": size_bytes, "changed": f"{changed:%Y-%m-%dT%H:%M:%SZ}"})
    if as_json:
        print_json(jobs)
        return
    if not jobs:
        click.echo(listed(out))
        return
    table = _table("job", "runs", "stored", "failed", "MB", "changed")
    for one in jobs:
        if one["runs"] is None:
            table.add_row(one["job"], "damaged")
            continue
        size, changed_at = f"{one['bytes'] / 1e6:.1f}", f"{one['changed'][:16].replace('T', ' ')} UTC"
        table.add_row(*(str(one[key]) for key in ("job", "runs", "stored", "failed")), size, changed_at)
    console().print(table)


@results.command(epilog=example("ssim results trace azure/slackfit -o run.json"))
@click.argument("run", shell_complete=completed(stored_jobs))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The JSON file to write."
)
@results_option
def trace(run: str, output: Path, out: Path) -> None:
    """Write the time line of RUN for Perfetto (ui.perfetto.dev) or chrome://tracing.

    RUN is JOB/ID, JOB/POLICY or JOB/POLICY@SEED where one run has it, or JOB alone if it has one run; the beginning of
    an ID is enough.
    The time line has a track for each worker, the queue length and the slack of the head of the queue, and drops. Of a
    federated training it has the steps, waits and messages of each worker, by role.
    """
    from ssim.results.stored import stored_run
    from ssim.results.timeline import write_timeline

    lacks = write_timeline(*stored_run(out, run), output)
    if lacks:
        click.echo(f"ssim: {lacks}", err=True)
    click.echo(output)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # who writes here may just have moved it
        return 0


def _states(store: Store) -> dict[str, str]:
    """Return the state of each run of a job by its id."""
    from sim.base.errors import StoreError

    states = {}
    for run_id in (run["id"] for run in store.index()["runs"]):
        try:
            stored = store.manifest(run_id) is not None
            states[run_id] = "stored" if stored else "failed" if store.failure(run_id) is not None else "to do"
        except StoreError:
            states[run_id] = "damaged"
    return states


def _table(first: str, *others: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
