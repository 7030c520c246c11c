"""`ssim table from-run`: the latencies of a live run as a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssim.commands.group import example
from ssim.commands.options import results_option

if TYPE_CHECKING:
    from serving.comparison import MeasuredBatches
    from sim.engine.cluster import Cluster


@click.command("from-run", epilog=example("ssim table from-run rehearsal-live/slackfit -o measured.parquet"))
@click.argument("run", metavar="RUN")
@click.option("-o", "--output", required=True, metavar="FILE", help="The table: a .parquet or .json file.")
@results_option
def from_run(run: str, output: str, out: Path) -> None:
    """Write the latencies of the live run RUN (JOB, or JOB/RUN) as a table, with the samples of each cell.

    Kinds of workers, and queues with tables of their own, have a file each, with their names in front of the suffix.
    Prints the overhead of the batches, too, as keys of an experiment's cluster.
    """
    from dataclasses import replace

    from serving.measured_table import measured_tables
    from sim.base.errors import DataError, SpecError
    from sim.tables.files import write_table
    from ssim.commands.present.live import void_sentences
    from ssim.execution.agreement import StoredLiveRun
    from ssim.results.stored import stored_run

    if Path(output).suffix == ".csv":
        raise SpecError(output, "can't hold samples", ".csv", "write a .parquet or .json file")
    store, run_id = stored_run(out, run)
    stored = StoredLiveRun.read(store, run_id)
    if stored.run.parts.cluster.actuation_ns:
        hint = "serve the file with actuation_ms: 0"
        raise DataError(run, "its forward passes include actuation delays", "", hint)
    batches, parts, void = stored.measured, stored.run.parts, void_sentences(stored.manifest)
    written = set[Path]()
    for names, (table, met) in measured_tables(
        batches, parts.cluster, parts.table, f"{store.folder.name}/{run_id}"
    ).items():
        found = replace(table, provenance={**table.provenance, "void": " ".join(void)}) if void else table
        path = _with_names(Path(output), names)
        if path in written:
            raise DataError(run, "two kinds of workers or queues have one file", str(path), "give them other names")
        written.add(path)
        write_table(found, str(path))
        click.echo(f"{path}: {met} of {found.latency_ns.size} cells have batches of their own")
    click.echo(f"{len(batches.size)} batches")
    for line in (*_overhead(batches, stored.run.parts.cluster), *void):
        click.echo(line)


def _with_names(path: Path, names: tuple[str, str]) -> Path:
    """Return a path with the names of a queue and a kind of workers in front of its suffix."""
    parts = (re.sub(r"[^\w.-]+", "_", name) for name in names if name)
    return path.with_name("-".join([path.stem, *parts]) + path.suffix)


def _overhead(batches: MeasuredBatches, cluster: Cluster) -> list[str]:
    """Return the overhead of batches as keys of a cluster, and what can't be a key."""
    import numpy as np

    from sim.base.units import ms_from_ns
    from sim.tables.law import HIGHEST_RATIO

    middle, high = np.quantile(batches.overhead_ns, (0.5, 0.99)).tolist()
    ratio = round(high / middle, 2)
    keys = [f"dispatch_ms: {ms_from_ns(middle):.3f}"]
    if cluster.dispatch_per_query_ns:  # what was measured is the overhead of the whole batch
        keys.append("dispatch_per_query_ms: 0")
    if ratio <= HIGHEST_RATIO:
        return ["overhead: " + ", ".join([*keys, f"dispatch_p99_over_median: {ratio:.2f}"])]
    unusable = f"The p99 of the overhead is {ratio:.2f} times its median: unusable as dispatch_p99_over_median"
    return ["overhead: " + ", ".join(keys), f"{unusable}, which is at most {HIGHEST_RATIO:g}."]
