"""`ssim table from-run`: the latencies of a live run as a table."""

from __future__ import annotations

from pathlib import Path

import click

from ssim.commands.group import example


@click.command("from-run", epilog=example("ssim table from-run rehearsal-live/slackfit -o measured.parquet"))
@click.argument("run", metavar="RUN")
@click.option("-o", "--output", required=True, metavar="FILE", help="The table: a .parquet, .json or .csv file.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder of results."
)
def from_run(run: str, output: str, out: Path) -> None:
    """Write the latencies of the live run RUN (JOB, or JOB/RUN) as a table, with the samples of each cell.

    Prints the overhead of its batches, too, as keys of an experiment's cluster.
    """
    import numpy as np

    from serving.measured_table import measured_table
    from sim.base.errors import DataError
    from sim.base.units import ms_from_ns
    from sim.tables.files import write_table
    from ssim.execution.agreement import StoredLiveRun
    from ssim.results.stored import stored_run

    store, run_id = stored_run(out, run)
    stored = StoredLiveRun.read(store, run_id)
    if stored.run.parts.cluster.actuation_ns:
        hint = "serve the file with actuation_ms: 0"
        raise DataError(run, "its forward passes include actuation delays", "", hint)
    batches, served = stored.measured, stored.run.parts.table
    found, met = measured_table(batches, served, f"{store.folder.name}/{run_id}")
    write_table(found, output)
    middle, high = np.quantile(batches.overhead_ns, (0.5, 0.99)).tolist()
    click.echo(
        f"{len(batches.size)} batches; {met} of {found.latency_ns.size} cells have batches of their own: {output}"
    )
    click.echo(f"overhead: dispatch_ms: {ms_from_ns(middle):.3f}, dispatch_p99_over_median: {high / middle:.2f}")
