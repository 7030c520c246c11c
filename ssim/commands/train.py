"""`ssim train`: a model, or a supernet, over the clients of a topology."""

from __future__ import annotations

from pathlib import Path

import click

from ssim.commands.group import example
from ssim.commands.options import ShippedFile, device_options, jobs_option, out_option, set_option


@click.command(epilog=example("ssim train federated/digits --set rounds=5"))
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=ShippedFile("experiments"))
@out_option
@set_option
@jobs_option(1, "Number of runs at once; of a single run in virtual time, of clients that train at once.")
@device_options
@click.option("--engine", type=click.Choice(["sim", "local", "ray"]), help="The engine, as `--set engine=...`.")
@click.option(
    "--address",
    help="Address of the Ray cluster of a file with `engine: ray`, if it is not in RAY_ADDRESS; without either, a "
    "cluster is started here.",
)
@click.option(
    "--deployment",
    type=click.Path(path_type=Path),
    help="A file that maps roles, groups and datasets to sites of that cluster (`ssim topology deploy`).",
)
@click.option("--force", is_flag=True, help="Train again what is trained already.")
@click.option("--compare", type=click.Path(path_type=Path), help="Draw all FILEs in one picture, to this file.")
def train(
    files: tuple[Path, ...],
    out: Path,
    overrides: tuple[str, ...],
    jobs: int,
    threads: int,
    device: str,
    engine: str | None,
    address: str | None,
    deployment: Path | None,
    compare: Path | None,
    *,
    force: bool,
) -> None:
    """Train over the clients of a topology what each FILE asks for, and say how accurate the subnets are.

    FILE is a path, or the short name of a shipped file (`ssim examples`). Completed trainings are not repeated;
    interrupted ones resume from their last checkpoint.
    """
    from sim.base.errors import SpecError
    from ssim.commands.present.job import run_and_report
    from ssim.files.deployment_file import read_deployment
    from ssim.jobs.job import ExecutionOptions
    from ssim.jobs.reading import read_job
    from ssim.results.store import Store

    settings = overrides if engine is None else (*overrides, f"engine={engine}")
    found = [read_job(file, settings, "federated/1") for file in files]
    for job in found:
        for option, value in (("--address", address), ("--deployment", deployment)):
            if value is not None and job.spec.engine != "ray":
                problem = f"not used by {job.name}, whose engine is {job.spec.engine}"
                raise SpecError(option, problem, str(value), "add --engine ray, or remove it")
        if deployment is not None:
            for run in job.runs:
                read_deployment(deployment, run.parts.topology.plan)
    for job in found:
        processes = max(1, jobs // len(job.runs))  # of clients in each run
        options = ExecutionOptions(device, threads, address=address, deployment=deployment, processes=processes)
        run_and_report(job, out, options=options, jobs=jobs, force=force)
    if compare is not None:
        from figures.style import save_as
        from ssim.jobs.federated.drawing import compared

        runs = [(run, Store(out / job.name).folder / run.id) for job in found for run in job.runs]
        click.echo(f"drawn: {save_as(compared(runs), compare)}")
