"""`ssim supernet train`, `calibrate`, `search` and `fetch`: from data to subnets that are worth serving."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssim.commands.printing import print_accuracies

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from sim.tables.accuracies import Accuracies
    from ssim.jobs.training.run import Tell, TrainingRun
    from supernet.training.loop import Step


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what names the training and says where it is done."""
    for option in (
        click.option("--device", default="cpu", show_default=True, help="Where it is computed: cpu, cuda, cuda:1, ..."),
        click.option("--threads", type=click.IntRange(1), help="Threads of the CPU; torch's choice if not given."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, such as seed=8."),
        click.option(
            "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="For results."
        ),
        click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    ):
        command = option(command)
    return command


@click.command()
@_run_options
@click.option("--every", "every_s", type=click.FloatRange(0), default=30, show_default=True, help="Store progress, s.")
@click.option("--force", is_flag=True, help="Train also what is trained already.")
def train(
    file: Path,
    out: Path,
    overrides: tuple[str, ...],
    threads: int | None,
    device: str,
    every_s: float,
    *,
    force: bool,
) -> None:
    """Train the supernet of FILE, calibrate subnets and say how accurate they are.

    What is trained already is not trained again; what was interrupted goes on where it was.
    """
    from sim.base.errors import SsimError

    found: list[Accuracies] = []
    for run in _runs(file, out, overrides, threads, device):
        try:
            with run.store.writing():
                if force:
                    run.forget()
                if run.is_trained:
                    click.echo(f"seed {run.seed}: trained already ({run.folder})", err=True)
                else:
                    _train(run, every_s)
                with _counting(run) as tell:
                    found.append(run.calibrate(tell=tell))
        except KeyboardInterrupt as error:
            what = "what was stored last is kept, and the same command goes on from there"
            raise SsimError("interrupted", what) from error
    _report(found)


@click.command()
@_run_options
@click.argument("subnets", nargs=-1, metavar="[SUBNET]...")
def calibrate(
    file: Path, out: Path, overrides: tuple[str, ...], threads: int | None, device: str, subnets: tuple[str, ...]
) -> None:
    """Give subnets of the trained supernets of FILE running statistics; say how accurate they are with and without.

    SUBNETs are ids; without any, those that FILE asks for.
    """
    found: list[Accuracies] = []
    for run in _runs(file, out, overrides, threads, device):
        wanted = [run.plan.family.space.find(subnet) for subnet in subnets]
        run.check_trained()
        with run.store.writing(), _counting(run) as tell:
            found.append(run.calibrate(wanted, tell))
    _report(found)


def _runs(file: Path, out: Path, overrides: Sequence[str], threads: int | None, device: str) -> Generator[TrainingRun]:
    """Yield the runs of a training file, by seed."""
    import torch

    from sim.base.errors import SpecError
    from ssim.jobs.training.file import read_training
    from ssim.jobs.training.run import TrainingRun

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SpecError("--device", "can't be used", device, str(error).splitlines()[0]) from error
    plan = read_training(file, overrides)
    for seed in plan.seeds:
        yield TrainingRun(plan, seed, out, device)


def _train(run: TrainingRun, every_s: float) -> None:
    """Train, with a bar of the steps on a terminal and ten lines elsewhere."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    steps = run.plan.recipe.steps(len(run.splits.train))
    before = [sum(steps[:phase]) for phase in range(len(steps))]
    begin = time.perf_counter()
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(f"seed {run.seed}", total=sum(steps), loss=float("nan"))

        def on_step(step: Step) -> None:
            done = before[step.phase] + step.number + 1
            where = f"seed {run.seed}, phase {step.phase + 1} of {len(steps)}"
            bar.update(task, completed=done, loss=step.loss, description=where)
            if not screen.is_terminal and 10 * done // sum(steps) > 10 * (done - 1) // sum(steps):
                passed = f"{time.perf_counter() - begin:.0f} s"
                click.echo(f"{where}: {done} of {sum(steps)} steps, loss {step.loss:.3f}, {passed}", err=True)

        run.train(on_step, every_s)


@contextmanager
def _counting(run: TrainingRun) -> Generator[Tell]:
    """Show how many subnets have been measured, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    words = TextColumn(f"seed {run.seed}: {{task.completed}} subnets measured")
    screen = Console(stderr=True)
    columns = SpinnerColumn(), words, TimeElapsedColumn()
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        yield partial(bar.advance, bar.add_task("", total=None))


def _report(found: Sequence[Accuracies]) -> None:
    print_accuracies(found[0].provenance["supernet"].partition(",")[0], found)


@click.command()
@_run_options
def search(file: Path, out: Path, overrides: tuple[str, ...], threads: int | None, device: str) -> None:
    """Search the trained supernets of FILE for the subnets that are worth serving, and measure these."""
    from ssim.jobs.training.search import search as search_run

    for run in _runs(file, out, overrides, threads, device):
        run.check_trained()
        with run.store.writing(), _counting(run) as tell:
            ended = search_run(run, tell)
        click.echo(f"seed {run.seed}: {ended.measured} subnets measured on validation examples")
        if ended.trust is not None:
            click.echo(
                f"accuracy foreseen of {ended.trust.held_out} measured ones: {ended.trust.rmse:.2f} points off (root "
                f"mean square; they spread by {ended.trust.std:.2f}), Kendall's tau {ended.trust.kendall_tau:.2f}"
            )
        _report([ended.found])
        click.echo(f"stored in {run.folder / 'pareto.parquet'}")


@click.command()
@click.argument("dataset", type=click.Choice(["fashion_mnist"]))
@click.option("--url", help="The folder that the files are in, instead of that of the authors.")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Where the files go.")
def fetch(dataset: str, url: str | None, folder: Path | None) -> None:
    """Fetch the files of a data set that may be used but not shipped."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    from ssim.files.fetch import fetch_fashion_mnist

    with Progress(*Progress.get_default_columns(), DownloadColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(dataset, total=None)
        files = fetch_fashion_mnist(url, folder, lambda done, total: bar.update(task, completed=done, total=total))
    click.echo(f"{len(files)} files of {dataset}: {files[0].parent}")
