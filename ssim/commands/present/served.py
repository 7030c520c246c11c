"""A server: what is told when it begins and when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssim.commands.present.experiment import announce, report
from ssim.commands.present.live import print_live
from ssim.commands.present.progress import interruptible, report_failures
from ssim.commands.printing import tell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from serving.front.listening import Listen
    from ssim.jobs.job import Job


def serve_until_interrupted(job: Job, out: Path, listen: Listen) -> None:
    """Serve requests until Ctrl-C or SIGTERM, store and report what came of it.

    Args:
        job: The experiment.
        out: The folder of all results.
        listen: Where to listen.

    Raises:
        SsimError: It can't listen, or was interrupted a second time.
        click.exceptions.Exit: The run failed; with its exit code.
    """
    from rich.console import Console

    from ssim.execution.runner import run_job
    from ssim.jobs.experiment.served import served_job
    from ssim.results.store import Store

    screen = Console(stderr=True)

    def ready(address: str, grpc_address: str, models: Sequence[str]) -> None:
        pages = [f"gRPC: {grpc_address}", f"metrics: {address}/metrics"]
        pages += [f"live page: {address}/"] if listen.page else []
        names = "" if list(models) == [job.name] else f" as {', '.join(models)}"
        screen.print(f"Serving {job.name}{names} at {address} ({', '.join(pages)}). Ctrl-C ends.", soft_wrap=True)

    listen.tls()
    listen.address()
    served = served_job(job, listen, ready, tell)

    store = Store(out / served.name)
    announce(served, screen)
    with interruptible("nothing of this run is stored"), store.writing():
        failed = run_job(served, store, jobs=1)
        report(served, store, figures=False)
    print_live([(str(run), found) for run in served.runs if (found := store.manifest(run.id))])
    report_failures(failed, len(served.runs))
