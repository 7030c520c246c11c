"""`ssim profile`: measure the subnets of a supernet on a device, for the table that the simulator replays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from ssim.commands.group import example


@click.command(epilog=example("ssim profile ofa_resnet50 --gpu 0 --subnets ofa-resnet50-a40 --minutes 10"))
@click.argument("supernet", metavar="SUPERNET")
@click.option("--gpu", type=click.IntRange(min=0), metavar="N", help="Number of the GPU to measure on.")
@click.option("--cpu", is_flag=True, help="Measure on the CPU.")
@click.option(
    "--subnets",
    metavar="FILE|TABLE",
    help="Subnets to measure, with their accuracies: a latency table, or accuracies of a training.",
)
@click.option("--max-batch", type=click.IntRange(min=1), default=16, show_default=True, help="Largest batch size.")
@click.option(
    "--batch",
    "asked",
    type=click.IntRange(min=1),
    multiple=True,
    help="A batch size to measure besides 1, 2, 4, ... Repeatable.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Input size: side of an image in pixels, or length of a text in tokens.  [default: as trained]",
)
@click.option(
    "--stages", is_flag=True, help="Also measure the other stages of a batch: copies, pre- and post-processing."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Time limit of the measurement, in minutes.",
)
@click.option(
    "--precision",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.02,
    show_default=True,
    help="Target of each cell: relative half-width of the 95 % confidence interval of its median.",
)
@click.option(
    "--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True, help="Number format."
)
@click.option("--channels-last", is_flag=True, help="Channels-last memory layout of images.")
@click.option("--compile", "compiled", is_flag=True, help="Compile subnets with torch.compile.")
@click.option(
    "--cuda-graph", is_flag=True, help="Capture each batch as a CUDA graph and replay it, without launch overhead."
)
@click.option("--flush-cache", is_flag=True, help="Flush the caches of the device before each run.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the order of measurements and of random weights."
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the family. Repeatable.")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the profile.  [default: results/profile-SUPERNET-DEVICE]",
)
@click.option("--force", is_flag=True, help="Discard earlier measurements in this folder.")
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
    Earlier measurements in the same folder are used: an interrupted profile goes on, and measuring longer narrows the
    intervals.
    """
    from profiler.devices import device_name, find_device
    from sim.base.errors import SpecError
    from ssim.commands.present.conduct import conduct
    from ssim.files.yaml_file import parse_settings
    from ssim.jobs.job import MEANS
    from ssim.jobs.reading import job_of

    if (gpu is None) != cpu:
        raise SpecError("ssim profile", "no device was chosen", "", "give either --gpu N or --cpu")
    if Path(supernet).suffix in {".yaml", ".yml"}:
        raise SpecError(supernet, "is a YAML file, not a supernet", "", f"use `ssim run {supernet}`")
    device = device_name(find_device(gpu))
    folder = out or Path("results") / f"profile-{_stem(supernet)}-{_slug(device)}"
    content = {
        "schema": "profile/1",
        "name": folder.name,
        "seed": seed,
        "supernet": supernet,
        "options": parse_settings(settings),
        "device": "cpu" if gpu is None else gpu,
        "subnets": subnets,
        "max_batch": max_batch,
        "batches": list(asked),
        "size": size,
        "stages": stages,
        "minutes": minutes,
        "precision": precision,
        "dtype": dtype,
        "channels_last": channels_last,
        "compile": compiled,
        "cuda_graph": cuda_graph,
        "flush_cache": flush_cache,
    }
    job = job_of("profile/1", content, Path.cwd())
    conduct(job, folder.parent, means=MEANS, force=force)


def _stem(supernet: str) -> str:
    """Return what a profile is called after: the family, or the training that a supernet comes from."""
    path = Path(supernet)
    if path.is_dir() and path.resolve().name.startswith("seed"):
        return path.resolve().parent.name
    return path.stem


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
