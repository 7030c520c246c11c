"""`ssim trace`: make, describe, draw and fetch traces of arrivals."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.printing import console

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from sim.traces.source import TraceSource

_PATH_SUFFIXES = (".csv", ".csv.gz", ".parquet")


@click.group()
def trace() -> None:
    """Make, describe, draw and fetch traces of arrivals."""


def _source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what names a source: its kind or file, its parameters and the seed."""
    command = click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="What is drawn by.")(
        command
    )
    command = click.option(
        "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter, as in YAML. Repeatable."
    )(command)
    return click.argument("kind_or_file")(command)


_output_option = click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write."
)


@trace.command()
@_source_options
@_output_option
def make(kind_or_file: str, settings: tuple[str, ...], seed: int, output: Path) -> None:
    """Write the arrivals of a source to OUTPUT: .parquet, .csv or .csv.gz."""
    from sim.base.units import ns_from_ms
    from sim.traces.files import File
    from sim.traces.writing import write_trace

    source, has_slo = _source(kind_or_file, settings)
    slo_ns: int | npt.NDArray[np.int64] | None = ns_from_ms(source.slo_ms) if has_slo else None
    if not has_slo and isinstance(source, File) and source.has_slos:
        slo_ns = source.trace(seed).slo_ns
    queries = write_trace(output, source.chunks(seed), slo_ns)
    click.echo(f"{queries} arrivals of {source.name}, seed {seed}: {output}")


@trace.command()
@_source_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def describe(kind_or_file: str, settings: tuple[str, ...], seed: int, *, as_json: bool) -> None:
    """Print rate, peaks, dispersion and variation of gaps."""
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
    table.add_row("CV² of gaps", f"{found.gap_cv2:.3f}")
    for window in found.windows:
        label = f"in {window.windows:,} windows of {window.window_s:.3g} s"
        table.add_row(f"peak / mean {label}", f"{window.peak_to_mean:.3f}")
        table.add_row(f"variance / mean {label}", f"{window.dispersion:.3f}")
    console().print(table)


@trace.command()
@_source_options
@_output_option
def plot(kind_or_file: str, settings: tuple[str, ...], seed: int, output: Path) -> None:
    """Draw the rate over time to OUTPUT: .pdf, .svg or .png."""
    from figures.style import save_as
    from figures.trace_rate import draw
    from sim.base.units import NS_PER_S
    from sim.traces.statistics import window_counts

    source, _ = _source(kind_or_file, settings)
    fine, coarse = (window_counts(source.chunks(seed), length) for length in ((1, 12), (1, 1)))
    figure = draw(fine, coarse, duration_s=source.duration_ns / NS_PER_S, title=source.name)
    save_as(figure, output)
    click.echo(f"rate of {source.name}, seed {seed}: {output}")


@trace.command()
@click.argument("dataset", type=click.Choice(["azure2019"]))
@click.option("--url", help="Where the archive is, instead of $SSIM_AZURE2019_URL or its publisher.")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Where the files go.")
def fetch(dataset: str, url: str | None, folder: Path | None) -> None:
    """Fetch the files of a data set that may be used but not shipped."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    from ssim.files.fetch import fetch_azure2019

    with Progress(
        *Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(dataset, total=None)
        files = fetch_azure2019(url, folder, lambda done, total: bar.update(task, completed=done, total=total))
    click.echo(f"{len(files)} files of {dataset}: {files[0].parent}")


@trace.command("list")
def list_kinds() -> None:
    """List the kinds of sources, each with its parameters."""
    from sim.traces import SHORT_NAMES
    from ssim.files.plugins import find_class

    for kind in SHORT_NAMES:
        found = find_class(kind, SHORT_NAMES, "trace source")
        click.echo(f"{kind}: {(found.__doc__ or '').partition(chr(10))[0]}")
        click.echo(f"    {', '.join(_parameter(field) for field in dataclasses.fields(found))}")


def _parameter(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return field.name
    return f"{field.name}={'null' if field.default is None else field.default}"


def _source(kind_or_file: str, settings: tuple[str, ...]) -> tuple[TraceSource, bool]:
    """Return the source that the command line asks for, and whether it says how long a query may take.

    Raises:
        SpecError: There is no such kind, or its parameters are wrong; names all that is wrong with them.
    """
    from sim.base.errors import SpecError
    from sim.traces import SHORT_NAMES
    from ssim.files.plugins import build, find_class

    params = dict(_setting(text) for text in settings)
    is_path = kind_or_file not in SHORT_NAMES and (Path(kind_or_file).exists() or kind_or_file.endswith(_PATH_SUFFIXES))
    kind = "file" if is_path else kind_or_file
    if is_path:
        params.setdefault("path", kind_or_file)
    has_slo = params.get("slo_ms") is not None
    owner = find_class(kind, SHORT_NAMES, "trace source", Path.cwd())
    required = [field.name for field in dataclasses.fields(owner) if field.default is dataclasses.MISSING]
    if "slo_ms" in required and not has_slo:
        # Arrivals alone are written, described and drawn here: no command needs to be told the SLO.
        params["slo_ms"] = 1.0
    source, faults = build(owner, params)
    if faults:
        raise SpecError(f"trace {kind}", "; ".join(str(fault) for fault in faults))
    return source.located(Path.cwd()), has_slo


def _setting(text: str) -> tuple[str, object]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from sim.base.errors import SpecError

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SpecError("--set", "is no setting", repr(text), "NAME=VALUE")
    try:
        return name, YAML(typ="safe", pure=True).load(value)
    except YAMLError as error:
        raise SpecError("--set", f"{name} is no YAML", repr(value), "NAME=VALUE, quoted as in YAML") from error


def _without_nan(value: Any) -> Any:
    """Return the same with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
