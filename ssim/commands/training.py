"""`ssim supernet train`, `calibrate`, `search` and `fetch`: from data to subnets that are worth serving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.group import example
from ssim.commands.options import device_options, file_options, job_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssim.jobs.job import Job
    from ssim.results.store import Store


@click.command(epilog=example("ssim supernet train supernet_digits --set seed=8"))
@job_options(1)
@device_options
@click.option(
    "--every", "every_s", type=click.FloatRange(0), default=30, show_default=True, help="Seconds between checkpoints."
)
@click.option("--force", is_flag=True, help="Train again what is trained already.")
def train(
    file: Path,
    out: Path,
    overrides: tuple[str, ...],
    jobs: int,
    threads: int,
    device: str,
    every_s: float,
    *,
    force: bool,
) -> None:
    """Train the supernet of FILE, calibrate subnets and print their accuracies.

    Completed trainings are not repeated; interrupted ones resume from their last checkpoint.
    """
    from ssim.commands.present.job import run_and_report
    from ssim.jobs.job import ExecutionOptions
    from ssim.jobs.reading import read_job

    job = read_job(file, overrides, "training/1")
    run_and_report(job, out, options=ExecutionOptions(device, threads, every_s), jobs=jobs, force=force)


def _trained(file: Path, out: Path, overrides: Sequence[str], threads: int) -> tuple[Job, Store, list[Any]]:
    """Return a job of training, its store, and its runs, all of which have been trained."""
    import torch

    from ssim.jobs.reading import read_job
    from ssim.results.store import Store

    torch.set_num_threads(threads)
    job = read_job(file, overrides, "training/1")
    store = Store(out / job.name)
    for run in job.runs:
        run.check_trained(store)
    return job, store, list(job.runs)


@click.command(epilog=example("ssim supernet calibrate supernet_digits cnn_small:w1x3"))
@file_options
@device_options
@click.argument("subnets", nargs=-1, metavar="[SUBNET]...")
def calibrate(
    file: Path, out: Path, overrides: tuple[str, ...], threads: int, device: str, subnets: tuple[str, ...]
) -> None:
    """Calibrate subnets of the trained supernets of FILE (SubnetNorm); print accuracies with and without calibration.

    SUBNETs are ids; without any, those that FILE asks for.
    """
    from ssim.commands.present.training import counting
    from ssim.commands.printing import print_accuracies
    from ssim.jobs.job import ExecutionOptions

    job, store, runs = _trained(file, out, overrides, threads)
    found = []
    with store.writing():
        for run in runs:
            wanted = [run.parts.family.space.find(subnet) for subnet in subnets]
            with counting(str(run)) as on_subnet:
                found.append(run.calibrate(store, ExecutionOptions(device, threads), wanted, on_subnet))
    print_accuracies(job.name, found, runs[0].is_subnet_trained)


@click.command(epilog=example("ssim supernet search supernet_digits"))
@file_options
@device_options
def search(file: Path, out: Path, overrides: tuple[str, ...], threads: int, device: str) -> None:
    """Search the trained supernets of FILE for the subnets that are worth serving, and measure these."""
    from ssim.commands.present.training import counting
    from ssim.commands.printing import print_accuracies
    from ssim.jobs.job import ExecutionOptions
    from ssim.jobs.training.search import search as search_run

    job, store, runs = _trained(file, out, overrides, threads)
    for run in runs:
        with store.writing(), counting(str(run)) as on_subnet:
            ended = search_run(run, store, ExecutionOptions(device, threads), on_subnet)
        click.echo(f"seed {run.seed}: {ended.measured} subnets measured on validation examples")
        if ended.trust is not None:
            score = ended.trust
            click.echo(
                f"predicted accuracy of {score.held_out} held-out subnets: RMSE {score.rmse:.2f} points "
                f"(standard deviation of the accuracies {score.std:.2f}), Kendall's tau {score.kendall_tau:.2f}"
            )
        print_accuracies(job.name, [ended.found], run.is_subnet_trained)
        click.echo(f"stored in {store.folder / run.id / 'pareto.parquet'}")


@click.command(epilog=example("ssim supernet fetch fashion_mnist"))
@click.argument("dataset", type=click.Choice(["fashion_mnist"]))
@click.option("--url", help="URL of the folder of the files.  [default: that of the authors]")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files.  [default: the cache folder of the user]",
)
def fetch(dataset: str, url: str | None, folder: Path | None) -> None:
    """Download a data set that may be used but not redistributed."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    from ssim.files.fetch import fetch_fashion_mnist

    with Progress(*Progress.get_default_columns(), DownloadColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(dataset, total=None)
        files = fetch_fashion_mnist(url, folder, lambda done, total: bar.update(task, completed=done, total=total))
    click.echo(f"{len(files)} files of {dataset}: {files[0].parent}")
