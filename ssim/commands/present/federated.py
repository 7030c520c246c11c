"""Federated trainings: a line for rounds, accuracies over seeds, traffic and events, and pictures of each run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.present.training import by_point
from ssim.commands.printing import print_accuracies
from topology.pending import listed

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

    from ssim.jobs.job import Job, Watch
    from ssim.results.store import Store

_LINES = 20
"""Lines of progress where there is no terminal."""


def announce(job: Job, screen: Console) -> None:
    """Say which keys of the description the engine leaves aside, each once."""
    from ssim.jobs.federated.unused import engine_notes

    notes = dict.fromkeys(line for run in job.runs for line in engine_notes(run.spec, run.parts))
    for line in notes:
        screen.print(f"{job.name}: {line}", soft_wrap=True, highlight=False, markup=False)


@contextmanager
def watching(screen: Console) -> Generator[Watch]:
    """Give what is called with each round: on a terminal one line that changes, elsewhere twenty lines."""
    told: set[str] = set()

    def watch(run: Any, row: Any) -> None:
        if run.spec.engine != "sim" and run.spec.checkpoint is not None and run.id not in told:
            told.add(run.id)
            text = f"{run}: engine {run.spec.engine} can't store checkpoints; if interrupted, the training begins anew"
            click.echo(text, err=True)
        done, worker, rounds = row["round"], row["worker"], run.spec.rounds
        if not row["accuracy"] or (done % max(1, rounds // _LINES) and done != rounds):
            return
        shown = " ".join(f"{accuracy:.1f}" for accuracy in row["accuracy"].values())
        epsilon = f", epsilon {row['epsilon']:.2f}" if "epsilon" in row else ""
        sent = "" if row["bytes"] is None else f", {row['bytes'] / 1e6:.1f} MB"
        text = f"{run}, {worker}: round {done} of {rounds}, {shown} %{epsilon}, {row['time_s']:.2f} s{sent}"
        if screen.is_terminal:
            screen.print(text, end="\r", highlight=False, soft_wrap=True)
            if done == rounds:
                screen.print()
        else:
            click.echo(text, err=True)

    yield watch


def _print_clients(store: Store, runs: list[Any]) -> None:
    """Print how accurate the clients are on their own examples, where it was measured."""
    from federated.fairness import Fairness
    from sim.base.parquet import read_parquet

    for run in runs:
        path = store.folder / run.id / "clients.parquet"
        if not path.exists():
            continue
        rows = read_parquet(path).to_pylist()
        last = {row["party"]: row["accuracy"] for row in rows}  # in the order of time
        fair = Fairness.of(last.values())
        apart = " with parameters of their own" if run.spec.personal else ""
        click.echo(
            f"{run}: {len(last)} clients{apart}, on examples of their own: mean {fair.mean:.1f} %, "
            f"lowest {min(last.values()):.1f} %, highest {max(last.values()):.1f} %; worst tenth {fair.worst:.1f} %, "
            f"standard deviation {fair.std:.1f}, Jain's index {fair.jain:.3f}"
        )
        if run.spec.personal:
            click.echo(
                f"in the table above, {', '.join(run.spec.personal)} are those of the beginning: they are personal"
            )


def report(job: Job, store: Store, *, figures: bool) -> None:
    """Print how accurate the subnets are, over seeds, and what the training took; draw each run."""
    from ssim.jobs.federated.drawing import draw_run
    from ssim.jobs.job import DEFAULT_OPTIONS

    for title, runs in by_point(job, store):
        found = [run.calibrate(store, DEFAULT_OPTIONS) for run in runs]
        print_accuracies(title, found, runs[0].is_subnet_trained)
        manifest = store.manifest(runs[0].id) or {}
        summary, refused = manifest["summary"], manifest["circumstances"].get("no_checkpoints")
        sent = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in summary["bytes"].items())
        time = "virtual s" if runs[0].spec.engine == "sim" else "s"
        click.echo(f"{summary['rounds']} rounds in {summary['time_s']:.2f} {time}; sent over {sent}")
        if summary["weight"].get("largest", 1) < 1:  # not all train the whole network
            shares = ", ".join(f"{end} {100 * share:.1f} %" for end, share in summary["weight"].items())
            click.echo(f"weight in the means, over all rounds: {shares}")
        _print_clients(store, runs)
        if summary["events"]:
            click.echo("events: " + ", ".join(f"{count} {kind}" for kind, count in summary["events"].items()))
        if "diverged" in summary:
            click.echo(f"left out, since not finite: the models of {listed(summary['diverged'])}")
        if "first_refused" in summary:
            lost = summary["events"].get("no updates", 0)
            unchanged = (
                f"; {lost} of {summary['rounds']} rounds had no other and left the model unchanged" if lost else ""
            )
            click.echo(f"updates were refused, the first in {summary['first_refused']}{unchanged}")
        if refused and runs[0].spec.engine == "sim":
            click.echo(f"no checkpoints could be stored: {refused}")
        for run in runs if figures else ():
            folder = store.folder / run.id
            draw_run(run.name, run.seed, folder, run.parts.metric_name)
            click.echo(f"Pictures: {folder / 'figures'}")
