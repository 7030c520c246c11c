"""A job of any kind is run and reported."""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssim.commands.present.progress import Progress, interruptible, report_failures

if TYPE_CHECKING:
    from pathlib import Path

    from ssim.execution.backends.machines import Backend
    from ssim.jobs.job import ExecutionOptions, Job

PRESENTERS = {
    "experiment/1": "ssim.commands.present.experiment",
    "training/1": "ssim.commands.present.training",
    "federated/1": "ssim.commands.present.federated",
    "profile/1": "ssim.commands.present.profile",
}
"""The module that shows jobs of a schema: `report` shows a job, `watching` the steps of a run, where it has any, and
`announce` says beforehand what is unusual in its inputs, where it looks."""


def run_and_report(
    job: Job,
    out: Path,
    *,
    options: ExecutionOptions,
    jobs: int = 1,
    backend: Backend | None = None,
    force: bool = False,
    figures: bool = True,
    kept: str = "finished runs are stored; the same command resumes from there",
) -> None:
    """Do the runs of a job that are not stored, and report all stored ones.

    Args:
        job: The job.
        out: The folder of all results.
        options: How runs are done.
        jobs: How many at once.
        backend: Where, if not on this machine.
        force: Repeat stored runs.
        figures: Draw figures.
        kept: What is told if the job is interrupted.

    Raises:
        SsimError: The job was interrupted, or can't be stored.
        click.exceptions.Exit: Some run failed; with its exit code.
    """
    from rich.console import Console

    from ssim.execution.runner import run_job
    from ssim.results.store import Store

    if options.device != "cpu":
        _check_device(options.device)
    presenter: Any = import_module(PRESENTERS[job.schema])
    store = Store(out / job.name)
    screen = Console(stderr=True)
    if hasattr(presenter, "announce"):
        presenter.announce(job, screen)
    is_watched = hasattr(presenter, "watching") and backend is None and (jobs == 1 or len(job.runs) == 1)
    progress = Progress(screen, bar=not is_watched)
    with interruptible(kept), store.writing():
        with presenter.watching(screen) if is_watched else nullcontext() as watch, progress:
            failed = run_job(
                job,
                store,
                jobs=jobs,
                backend=backend,
                force=force,
                options=options,
                watch=watch,
                on_start=progress.start,
                on_finished=progress.finished,
            )
        presenter.report(job, store, figures=figures)
    report_failures(failed, len(job.runs))


def _check_device(device: str) -> None:
    import torch

    from sim.base.errors import SpecError

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SpecError("--device", "can't be used", device, str(error).splitlines()[0]) from error
