"""`ssim trace`: make, describe, draw and fetch traces of arrivals."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.group import CommandGroup, example
from ssim.commands.printing import console

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from sim.traces.source import TraceSource

_PATH_SUFFIXES = (".csv", ".csv.gz", ".parquet")


@click.group(cls=CommandGroup)
def trace() -> None:
    """Traces of arrivals: when queries arrive, generated or recorded.

    KIND is a generator or a recorded trace (see `ssim trace list`) or module:Class for a source of your own; FILE is a
    .csv, .csv.gz or .parquet file of arrivals.
    """


def _source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a trace source: its kind or file, its parameters and the seed."""
    for option in (
        click.option(
            "--seed",
            default=0,
            show_default=True,
            type=click.IntRange(0),
            help="Seed of the random numbers of a generated trace.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A parameter of the source, such as mean_qps=500 (queries per second). Repeatable.",
        ),
        click.argument("kind_or_file", metavar="KIND|FILE"),
    ):
        command = option(command)
    return command


def _output_option(what: str) -> Callable[..., Any]:
    return click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help=what)


@trace.command("list", epilog=example("ssim trace list"))
def list_kinds() -> None:
    """List the kinds of trace sources, with their parameters and defaults."""
    from sim.traces import SHORT_NAMES
    from ssim.files.plugins import find_class

    for kind in SHORT_NAMES:
        found = find_class(kind, SHORT_NAMES, "trace source")
        click.echo(f"{kind}: {(found.__doc__ or '').partition(chr(10))[0]}")
        click.echo(f"    {', '.join(_parameter(field) for field in dataclasses.fields(found))}")


@trace.command(
    epilog=example("ssim trace make gamma --set mean_qps=1000 --set cv2=4 --set duration_s=60 -o bursty.parquet")
)
@_source_options
@_output_option("The trace to write: a .parquet, .csv or .csv.gz file.")
def make(kind_or_file: str, settings: tuple[str, ...], seed: int, output: Path) -> None:
    """Write the arrivals of a source to a file, with deadlines if `slo_ms` is set."""
    from sim.base.units import ns_from_ms
    from sim.traces.files import File
    from sim.traces.writing import write_trace

    source, has_slo = _source(kind_or_file, settings)
    slo_ns: int | npt.NDArray[np.int64] | None = ns_from_ms(source.slo_ms) if has_slo else None
    if not has_slo and isinstance(source, File) and source.has_slos:
        slo_ns = source.trace(seed).slo_ns
    queries = write_trace(output, source.chunks(seed), slo_ns)
    click.echo(f"{queries} arrivals of {source.name}, seed {seed}: {output}")


@trace.command(epilog=example("ssim trace describe azure", "ssim trace describe bursty.parquet --json"))
@_source_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def describe(kind_or_file: str, settings: tuple[str, ...], seed: int, *, as_json: bool) -> None:
    """Print mean rate, peaks, index of dispersion, and CV² of the times between arrivals."""
    from sim.traces import statistics

    source, _ = _source(kind_or_file, settings)
    found = statistics.describe(source.chunks(seed), source.duration_ns)
    if as_json:
        click.echo(json.dumps(_without_nan(dataclasses.asdict(found)), indent=2, allow_nan=False))
        return
    from rich.table import Table

    table = Table("quantity", "value", title=f"{source.name}, seed {seed}")
    table.add_row("queries", f"{found.queries:,}")
    table.add_row("duration (s)", f"{found.duration_s:,.3f}")
    table.add_row("mean rate (queries/s)", f"{found.mean_qps:,.2f}")
    if not math.isnan(found.gap_cv2):
        table.add_row("CV² of the times between arrivals", f"{found.gap_cv2:.3f}")
    for window in found.windows:
        if not window.windows:
            continue
        label = f"in {window.windows:,} window{'s' if window.windows > 1 else ''} of {window.window_s:.3g} s"
        table.add_row(f"peak / mean {label}", f"{window.peak_to_mean:.3f}")
        table.add_row(f"variance / mean {label}", f"{window.dispersion:.3f}")
    console().print(table)


@trace.command(epilog=example("ssim trace plot azure -o azure.pdf"))
@_source_options
@_output_option("The picture: a .pdf, .svg or .png file.")
def plot(kind_or_file: str, settings: tuple[str, ...], seed: int, output: Path) -> None:
    """Draw the arrival rate over time, in windows of 1 s and 1/12 s."""
    from figures.style import save_as
    from figures.trace_rate import draw
    from sim.base.units import NS_PER_S
    from sim.traces.statistics import window_counts

    source, _ = _source(kind_or_file, settings)
    fine, coarse = (window_counts(source.chunks(seed), length) for length in ((1, 12), (1, 1)))
    figure = draw(fine, coarse, duration_s=source.duration_ns / NS_PER_S, title=source.name)
    save_as(figure, output)
    click.echo(f"rate of {source.name}, seed {seed}: {output}")


@trace.command(epilog=example("ssim trace fetch azure2019"))
@click.argument("dataset", type=click.Choice(["azure2019"]))
@click.option("--url", help="URL of the archive.  [default: $SSIM_AZURE2019_URL, else that of the publisher]")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files.  [default: the cache folder of the user]",
)
def fetch(dataset: str, url: str | None, folder: Path | None) -> None:
    """Download a data set that may be used but not redistributed; an interrupted download is resumed."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    from ssim.files.fetch import fetch_azure2019

    with Progress(
        *Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(dataset, total=None)
        files = fetch_azure2019(url, folder, lambda done, total: bar.update(task, completed=done, total=total))
    click.echo(f"{len(files)} files of {dataset}: {files[0].parent}")


def _parameter(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return field.name
    return f"{field.name}={'null' if field.default is None else field.default}"


def _source(kind_or_file: str, settings: tuple[str, ...]) -> tuple[TraceSource, bool]:
    """Return the source that the command line asks for, and whether its SLO was given.

    Raises:
        SpecError: The kind is unknown, or parameters are wrong; names all of them.
    """
    from sim.base.errors import SpecError
    from sim.traces import SHORT_NAMES
    from ssim.files.plugins import build, find_class
    from ssim.files.yaml_file import parse_settings

    params = parse_settings(settings)
    is_path = kind_or_file not in SHORT_NAMES and (Path(kind_or_file).exists() or kind_or_file.endswith(_PATH_SUFFIXES))
    kind = "file" if is_path else kind_or_file
    if is_path:
        params.setdefault("path", kind_or_file)
    has_slo = params.get("slo_ms") is not None
    owner = find_class(kind, SHORT_NAMES, "trace source", Path.cwd())
    required = [field.name for field in dataclasses.fields(owner) if field.default is dataclasses.MISSING]
    if "slo_ms" in required and not has_slo:
        # Only arrivals are written, described and drawn here: the SLO is not needed.
        params["slo_ms"] = 1.0
    source, faults = build(owner, params)
    if faults:
        raise SpecError(f"trace {kind}", "; ".join(str(fault) for fault in faults))
    return source.located(Path.cwd()), has_slo


def _without_nan(value: Any) -> Any:
    """Return the same with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
