"""`ssim run FILE`: run a job of any kind, and show what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ssim.commands.group import example
from ssim.commands.options import device_options, job_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=example("ssim run azure --set trace.mean_qps=4000 --jobs 2"))
@job_options()
@click.option(
    "--backend",
    type=click.Choice(["local", "ray", "dask"]),
    default="local",
    show_default=True,
    help="Where runs are done: on this machine, or on the machines of a cluster.",
)
@click.option(
    "--address",
    help="Address of the cluster, if it is not in RAY_ADDRESS or DASK_SCHEDULER_ADDRESS; without either, a cluster of "
    "--jobs workers is started here.",
)
@device_options
@click.option("--live", is_flag=True, help="Serve the trace in real time instead of simulating it.")
@click.option("--force", is_flag=True, help="Run again what is stored already.")
@click.option("--no-figures", is_flag=True, help="Draw no figures.")
def run(
    file: Path,
    out: Path,
    overrides: tuple[str, ...],
    jobs: int,
    backend: str,
    address: str | None,
    threads: int,
    device: str,
    *,
    live: bool,
    force: bool,
    no_figures: bool,
) -> None:
    """Run FILE: an experiment, a training, a federated training or a profile; print its table and draw its figures.

    FILE is a path, or the short name of a shipped file (`ssim examples`). What is stored already is not computed again.
    """
    from sim.base.errors import SpecError
    from ssim.commands.present.job import run_and_report
    from ssim.execution.backends.machines import find_backend
    from ssim.jobs.job import ExecutionOptions
    from ssim.jobs.reading import read_job

    if address is not None and backend == "local":
        raise SpecError("--address", "needs a cluster", repr(address), "give --backend ray or --backend dask, too")
    way = None if backend == "local" else find_backend(backend, address)
    job = read_job(file, overrides, "experiment/1" if live else None)
    if live:
        from ssim.commands.present.live import serve_and_report

        if way is not None:
            raise SpecError("--live", "serves on this machine", f"--backend {backend}", "leave one of them out")
        source = click.get_current_context().get_parameter_source
        for name in ("jobs", "threads", "device", "force"):
            if source(name) is ParameterSource.COMMANDLINE:
                raise SpecError(f"--{name}", "has no effect on a live run", "", "leave it out, or leave out --live")
        serve_and_report(job, out, figures=not no_figures)
        return
    run_and_report(
        job, out, jobs=jobs, backend=way, force=force, options=ExecutionOptions(device, threads), figures=not no_figures
    )
