"""`ssim profile`: measure the subnets of a supernet on a device, for the table that the simulator replays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from profiler.grid import Cell, Grid, TrialRecord
    from profiler.profile import ProfilePlan
    from profiler.schedule import CellError, Schedule
    from profiler.trial_log import TrialLog
    from sim.tables.latency import LatencyTable

_S_PER_MINUTE = 60
_LEAST_NS = 60 * NS_PER_S
"""What disturbs a machine lasts longer than a calm half minute in which all cells seem to be known."""


@click.command()
@click.argument("supernet", metavar="SUPERNET")
@click.option("--gpu", type=click.IntRange(min=0), metavar="N", help="Measure on this GPU.")
@click.option("--cpu", is_flag=True, help="Measure on the CPU.")
@click.option("--subnets", metavar="FILE|TABLE", help="Which subnets, and how accurate they are.")
@click.option("--max-batch", type=click.IntRange(min=1), default=16, show_default=True, help="Largest batch size.")
@click.option("--batch", "asked", type=click.IntRange(min=1), multiple=True, help="A batch size beside the doublings.")
@click.option("--size", type=click.IntRange(min=1), help="Side of images, or tokens of texts; else as trained.")
@click.option("--stages", is_flag=True, help="Measure copies, pre- and post-processing, too.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, help="At most.")
@click.option(
    "--precision",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.02,
    show_default=True,
    help="Relative half-width of a median's 95 % interval at which a cell is known.",
)
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True)
@click.option("--channels-last", is_flag=True, help="Lay out images with channels last.")
@click.option("--compile", "compiled", is_flag=True, help="Run subnets through torch.compile.")
@click.option("--cuda-graph", is_flag=True, help="Capture each batch once and replay it: no launch overhead.")
@click.option("--flush-cache", is_flag=True, help="Empty the device's caches before each run.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of trials, and of random weights.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the family.")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the profile.")
@click.option("--force", is_flag=True, help="Forget what was measured before.")
def profile(
    supernet: str,
    gpu: int | None,
    cpu: bool,
    subnets: str | None,
    max_batch: int,
    asked: tuple[int, ...],
    size: int | None,
    stages: bool,
    minutes: float,
    precision: float,
    dtype: Any,
    channels_last: bool,
    compiled: bool,
    cuda_graph: bool,
    flush_cache: bool,
    seed: int,
    settings: tuple[str, ...],
    out: Path | None,
    force: bool,
) -> None:
    """Measure the subnets of SUPERNET at every batch size on a device.

    SUPERNET is the folder of a training run, a checkpoint, or a family (random weights take as long as trained ones).
    Measurements in the same folder are reused: an interrupted profile continues, and more time narrows the intervals.
    """
    from profiler.devices import device_name, device_state_reader, find_device
    from profiler.model_under_test import SupernetUnderTest
    from profiler.profile import ProfilePlan, profile_result
    from profiler.schedule import Schedule
    from profiler.torch_meter import Options, TorchMeter
    from profiler.trial_log import TrialLog
    from sim.base.errors import SpecError
    from ssim.commands.progress import interruptible
    from ssim.files.yaml_file import parse_settings
    from ssim.jobs.profiling import (
        accuracies_beside,
        find_subnets,
        find_supernet,
        identity_of,
        provenance_of,
        write_profile,
    )
    from ssim.results.environment import Stopwatch

    if (gpu is None) != cpu:
        raise SpecError("ssim profile", "on which device", "", "one of --gpu N and --cpu")
    if max(asked, default=0) > max_batch:
        raise SpecError("--batch", "is above the largest batch size", str(max(asked)), f"--max-batch {max(asked)}")
    device = find_device(gpu)
    if cuda_graph and device.type != "cuda":
        raise SpecError("--cuda-graph", "needs CUDA", device.type, "a GPU of NVIDIA, or without it")
    source = subnets or accuracies_beside(supernet)
    named = find_supernet(supernet, parse_settings(settings), seed)
    rows = find_subnets(source, named.family.space)
    options = Options(dtype, channels_last, compiled, cuda_graph, flush_cache)
    model = SupernetUnderTest(named.supernet(), named.family, device, options, size or named.size)
    asked_for = ProfilePlan(rows, max_batch, asked, model.stages() if stages else (), precision)
    identity = identity_of(named, device, options, model.size)
    folder = out or Path("results") / f"profile-{named.name}-{_slug(device_name(device))}"
    log_path = folder / "visits.jsonl"
    if force:
        log_path.unlink(missing_ok=True)
    watch = Stopwatch()
    budget_ns = round(minutes * _S_PER_MINUTE * NS_PER_S)
    schedule = Schedule(asked_for.cells, seed, precision, _LEAST_NS, budget_ns)
    again = f"what was measured is stored in {log_path}, and the same command goes on from there"
    with interruptible(again), TrialLog(log_path, identity) as log:
        _measure(schedule, TorchMeter(model, device, options, device_state_reader(device)), log)
        _check_measured(schedule, log.grid, again)
        found = profile_result(asked_for, log.grid, device_name(device), provenance_of(identity, f"{source}"))
        manifest = {"identity": identity, "seed": seed, "precision": precision, **watch.circumstances()}
        write_profile(folder, asked_for, found, log.grid, manifest)
    _tell(asked_for, log.grid, found.table, folder)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _measure(schedule: Schedule, meter: Any, log: TrialLog) -> None:
    """Measure, with a bar on a terminal; cells that can't be measured are told."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    screen = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} trials"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(record: TrialRecord | None) -> None:
            if record is not None:
                log.add(record)
            if screen.is_terminal:
                ahead, uncertain = schedule.remaining(log.grid)
                done = len(log.grid.records)
                bar.update(task, completed=done, total=done + ahead, description=f"{uncertain} uncertain cells")

        def failed(cell: Cell, error: CellError) -> None:
            log.fail(cell, error)
            screen.print(str(error), soft_wrap=True, highlight=False, markup=False)

        show(None)
        schedule.run(meter, log.grid, show, failed)


def _check_measured(schedule: Schedule, grid: Grid, again: str) -> None:
    """Check that each cell was measured at least once, or has failed.

    Raises:
        SsimError: Time ran out before.
    """
    from sim.base.errors import SsimError

    left = len(set(schedule.cells) - {record.cell for record in grid.records} - grid.failed.keys())
    if left:
        what = "ran out before every cell was measured once"
        raise SsimError("--minutes", what, f"{left} of {len(schedule.cells)} were not", again)


def _tell(profile: ProfilePlan, grid: Grid, table: LatencyTable, folder: Path) -> None:
    from profiler.grid import count_statuses
    from profiler.report import warnings

    found = profile.estimates(grid)
    counts = ", ".join(f"{count} {status}" for status, count in count_statuses(found).items())
    click.echo(f"{len(found)} cells: {counts}")
    timed = {subnet.id for subnet in table.subnets}
    for subnet in profile.subnets:
        if subnet.id not in timed:
            click.echo(f"not in the table, since it can't be timed: {subnet.id}")
    sizes = [str(size) for size in profile.batch_sizes if size not in table.batch_sizes]
    if sizes:
        click.echo(f"not in the table, since a subnet has no latency there: batch {', '.join(sizes)}")
    for sentence in warnings(grid):
        click.echo(sentence)
    click.echo(f"Table: {folder / 'table.parquet'}")
    click.echo(f"Report: {folder / 'report.md'}")
