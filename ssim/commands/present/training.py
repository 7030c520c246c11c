"""Trainings of a supernet: a bar of steps, and the accuracies of subnets over seeds."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.printing import print_accuracies

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console

    from ssim.jobs.job import Job, Watch
    from ssim.results.store import Store

_LINES = 10
"""Lines of progress where there is no terminal."""


@contextmanager
def watching(screen: Console) -> Generator[Watch]:
    """Give what is called with each step: a bar on a terminal, ten lines elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    begin = time.perf_counter()
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None, loss=float("nan"))

        def watch(run: Any, step: Any) -> None:
            if step is None:
                bar.update(task, description=f"{run}: calibrating", completed=None)
                return
            where = f"{run}, phase {step.phase + 1} of {step.phases}"
            bar.update(task, total=step.total, completed=step.done, loss=step.loss, description=where)
            if not screen.is_terminal and _LINES * step.done // step.total > _LINES * (step.done - 1) // step.total:
                passed = f"{time.perf_counter() - begin:.0f} s"
                click.echo(f"{where}: {step.done} of {step.total} steps, loss {step.loss:.3f}, {passed}", err=True)

        yield watch


@contextmanager
def counting(words: str) -> Generator[Callable[[], None]]:
    """Give what counts subnets, as a spinner on a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn(words + ": {task.completed} subnets"), TimeElapsedColumn()
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda: bar.advance(task)


def report(job: Job, store: Store, *, figures: bool) -> None:
    """Print how accurate the subnets are, over seeds, for each point of the sweep."""
    del figures  # there are none
    from ssim.jobs.job import DEFAULT_OPTIONS

    for title, runs in by_point(job, store):
        found = [run.calibrate(store, DEFAULT_OPTIONS) for run in runs]
        print_accuracies(title, found, runs[0].is_subnet_trained)


def by_point(job: Job, store: Store) -> list[tuple[str, list[Any]]]:
    """Return the stored runs of each point of the sweep, with the name of the point."""
    points: dict[str, list[Any]] = {}
    for run in job.runs:
        if run.is_stored(store):
            values = ", ".join(f"{key} = {value}" for key, value in run.swept.items())
            points.setdefault(f"{job.name}: {values}" if values else job.name, []).append(run)
    return list(points.items())
