"""`ssim profile`: measure the subnets of a supernet on a device, for the table that the simulator replays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click

from ssim.commands.group import example
from ssim.commands.options import completed, family_names, family_option
from ssim.jobs.profile.spec import ProfileSpec

if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_OPTIONS = {"schema_", "name", "repeats", "sweep", "supernet", "options", "device"}
"""Keys of a profile's file that have no option of their own."""


def _file_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each key of a profile's file; its model checks the values."""
    for key, field in reversed(ProfileSpec.model_fields.items()):
        if key in _NOT_OPTIONS:
            continue
        shown: dict[str, Any] = {"help": field.description, "default": field.default, "show_default": True}
        if field.annotation is bool:
            shown["is_flag"] = True
        elif get_origin(field.annotation) is Literal:
            shown["type"] = click.Choice(get_args(field.annotation))
        else:
            shown |= {"type": _innermost(field.annotation), "multiple": get_origin(field.annotation) is tuple}
        command = click.option(f"--{_SINGULAR.get(key, key).replace('_', '-')}", key, **shown)(command)
    return command


def _innermost(annotation: Any) -> Any:
    """Return the type of numbers and text in an annotation such as `tuple[PositiveInt, ...]` or `str | None`."""
    parts = get_args(annotation)
    return _innermost(parts[0]) if parts else annotation


_SINGULAR = {"batches": "batch"}  # an option that is repeated


@click.command(epilog=example("ssim profile ofa_resnet50 --gpu 0 --subnets ofa-resnet50-a40 --minutes 10"))
@click.argument("supernet", metavar="SUPERNET", shell_complete=completed(family_names))
@click.option("--gpu", type=click.IntRange(min=0), metavar="N", help="Number of the GPU to measure on.")
@click.option("--cpu", is_flag=True, help="Measure on the CPU.")
@_file_options
@family_option
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
    settings: tuple[str, ...],
    out: Path | None,
    force: bool,
    **asked: Any,
) -> None:
    """Measure the subnets of SUPERNET at every batch size on a device.

    SUPERNET is the folder of a training run, a checkpoint, or a family, shipped or module:name of your own (random
    weights take as long as trained ones).
    Earlier measurements in the same folder are used: an interrupted profile goes on, and measuring longer narrows the
    intervals.
    """
    from profiler.devices import device_name, find_device
    from sim.base.errors import SpecError
    from ssim.commands.present.job import run_and_report
    from ssim.files.yaml_file import parse_settings
    from ssim.jobs.job import DEFAULT_OPTIONS
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
        "supernet": supernet,
        "options": parse_settings(settings),
        "device": "cpu" if gpu is None else gpu,
        **asked,
    }
    job = job_of("profile/1", content, Path.cwd())
    run_and_report(job, folder.parent, options=DEFAULT_OPTIONS, force=force)


def _stem(supernet: str) -> str:
    """Return what a profile is called after: the family, or the training that a supernet comes from."""
    path = Path(supernet)
    if path.is_dir() and path.resolve().name.startswith("seed"):
        return path.resolve().parent.name
    return path.name.replace(":", "-").removesuffix(".pt")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
