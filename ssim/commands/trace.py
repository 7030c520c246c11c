"""`ssim trace`: make, describe, draw and fetch traces of arrivals."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssim.commands.group import CommandGroup, example
from ssim.commands.options import completed, json_option, trace_kinds
from ssim.commands.printing import console, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from sim.traces.source import TraceSource

_UNITS = ("iso", "s", "ms", "us", "ns")


@click.group(cls=CommandGroup)
def trace() -> None:
    """Traces of arrivals: when queries arrive, generated or recorded.

    KIND is a generator or a recorded trace (see `ssim trace list`), module:Class or FILE.py:Class for a source of your
    own. FILE is a file of arrivals: CSV, JSON lines, parquet or feather, also packed; several are one trace.
    """


def _source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a trace source: its kind or files, how these are read, its parameters and the seed.

    The command gets the source, and whether its SLO was given, for `source` and `has_slo`.
    """

    @wraps(command)
    def built(kind_or_files: tuple[str, ...], settings: tuple[str, ...], **given: Any) -> None:
        reading = {name: given.pop(name) for name in _READING}
        source, has_slo = _source(kind_or_files, settings, {k: v for k, v in reading.items() if v not in {None, False}})
        command(source=source, has_slo=has_slo, **given)

    wrapped: Callable[..., None] = built
    for option in reversed(
        (
            click.argument(
                "kind_or_files",
                metavar="KIND|FILE...",
                nargs=-1,
                required=True,
                shell_complete=completed(trace_kinds),
            ),
            click.option("--kind", help="Read FILE as this kind, such as burstgpt.  [default: file]"),
            click.option(
                "--arrival", metavar="COLUMN[:UNIT]", help="The column of arrival times, and iso, s, ms, us or ns."
            ),
            click.option(
                "--origin", type=click.Choice(["first", "zero"]), help="Time 0: the first arrival, or that of the file."
            ),
            click.option("--sort", is_flag=True, help="Sort the rows of a file by arrival."),
            click.option("--spread", is_flag=True, help="Place arrivals at random within a step of the file's clock."),
            click.option("--slo", metavar="COLUMN[:UNIT]", help="The column of latency SLOs, and s, ms, us or ns."),
            click.option("--class", "class", metavar="COLUMN", help="The column with the class of each query."),
            click.option("--separator", help="What separates the cells of a CSV file, such as ';' or tab."),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="NAME=VALUE",
                help="A parameter of the source, such as mean_qps=500 (queries per second). Repeatable.",
            ),
            click.option(
                "--seed",
                default=0,
                show_default=True,
                type=click.IntRange(0),
                help="Seed of the random numbers of a generated trace.",
            ),
        )
    ):
        wrapped = option(wrapped)
    return wrapped


_READING = ("kind", "arrival", "origin", "sort", "spread", "slo", "class", "separator")
"""The options that say how a file is read."""


def _output_option(what: str) -> Callable[..., Any]:
    return click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help=what)


@trace.command("list", epilog=example("ssim trace list"))
@json_option
def list_kinds(*, as_json: bool) -> None:
    """List the kinds of trace sources, with their parameters and defaults."""
    from sim.traces import SHORT_NAMES
    from sim.traces.files import File
    from ssim.files.plugins import find_class

    usual, kinds = {_parameter(field) for field in dataclasses.fields(File)}, []
    for kind in SHORT_NAMES:
        found = find_class(kind, SHORT_NAMES, "trace source")
        about, params = (found.__doc__ or "").partition("\n")[0], [_parameter(one) for one in dataclasses.fields(found)]
        kinds.append({"name": kind, "about": about, "parameters": params})
        if as_json:
            continue
        if found is not File and issubclass(found, File):
            params = ["as file, with " + ", ".join(param for param in params if param not in usual)]
        click.echo(f"{kind}: {about}")
        click.echo(f"    {', '.join(params)}")
    if as_json:
        print_json(kinds)


@trace.command(
    epilog=example("ssim trace make gamma --set mean_qps=1000 --set cv2=4 --set duration_s=60 -o bursty.parquet")
)
@_source_options
@_output_option("The trace to write: a .parquet, .csv or .csv.gz file.")
def make(source: TraceSource, seed: int, output: Path, *, has_slo: bool) -> None:
    """Write the arrivals of a source to a file, with deadlines if `slo_ms` is set."""
    from sim.base.units import ns_from_ms
    from sim.traces.files import File
    from sim.traces.writing import write_trace

    slo_ns: int | npt.NDArray[np.int64] | None = ns_from_ms(source.slo_ms) if has_slo else None
    if not has_slo and isinstance(source, File) and source.has_slos:
        slo_ns = source.trace(seed).slo_ns
    queries = write_trace(output, source.chunks(seed), slo_ns)
    click.echo(f"{queries} arrivals of {source.name}, seed {seed}: {output}")


@trace.command(epilog=example("ssim trace describe azure", "ssim trace describe log.csv --arrival TIMESTAMP:iso"))
@_source_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def describe(source: TraceSource, seed: int, *, has_slo: bool, as_json: bool) -> None:
    """Print mean rate, peaks, index of dispersion, CV² of the times between arrivals, and what is unusual."""
    from sim.traces import statistics

    del has_slo
    notes = source.notes()
    found = statistics.describe(source.chunks(seed), source.window_ns)
    classes = _classes(source, seed) if source.has_classes else {}
    if as_json:
        said = {**dataclasses.asdict(found), **({"classes": classes} if classes else {}), "notes": notes}
        click.echo(json.dumps(_without_nan(said), indent=2, allow_nan=False))
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
    for name, queries in classes.items():
        table.add_row(f"queries of class {name}", f"{queries:,}")
    screen = console()
    screen.print(table)
    for note in notes:
        screen.print(f"{source.name}: {note}.", soft_wrap=True, highlight=False, markup=False)


@trace.command(epilog=example("ssim trace plot azure -o azure.pdf"))
@_source_options
@_output_option("The picture: a .pdf, .svg or .png file.")
def plot(source: TraceSource, seed: int, output: Path, *, has_slo: bool) -> None:
    """Draw the arrival rate over time, in windows of 1 s and 1/12 s."""
    from figures.style import save_as
    from figures.trace_rate import draw
    from sim.base.units import NS_PER_S
    from sim.traces.statistics import window_counts

    del has_slo
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
    from ssim.files.plugins import parameter_of

    default = field.default
    if default is dataclasses.MISSING:
        return parameter_of(field)
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        default = ":".join(str(value) for value in dataclasses.astuple(default))
    return f"{parameter_of(field)}={'null' if default is None else default}"


def _classes(source: TraceSource, seed: int) -> dict[str, int]:
    """Return the number of queries of each class."""
    import numpy as np

    trace = source.trace(seed)
    codes = np.empty(0, np.uint16) if trace.class_codes is None else trace.class_codes
    counts = np.bincount(codes, minlength=len(trace.class_names))
    return dict(zip(trace.class_names, counts.tolist(), strict=True))


def _source(
    kind_or_files: tuple[str, ...], settings: tuple[str, ...], reading: dict[str, Any]
) -> tuple[TraceSource, bool]:
    """Return the source that the command line asks for, and whether its SLO was given.

    Args:
        kind_or_files: A kind of trace, or files.
        settings: Parameters, NAME=VALUE.
        reading: How files are read: the options that were given.

    Raises:
        SpecError: The kind is unknown, or parameters are wrong; names all of them.
    """
    from sim.base.errors import SpecError
    from sim.traces import SHORT_NAMES
    from sim.traces.source import TraceSource
    from ssim.files.plugins import build, find_class
    from ssim.files.yaml_file import parse_settings

    params = parse_settings(settings)
    kind = reading.pop("kind", None)
    first, *more = kind_or_files
    if more or kind is not None or _is_path(first):
        paths = list(kind_or_files)
        params.setdefault("path", paths[0] if len(paths) == 1 else paths)
        kind = kind or "file"
    else:
        kind = first
    for name, value in reading.items():
        params[name] = _column(value, with_unit=name != "class") if name in {"arrival", "slo", "class"} else value
    owner = find_class(kind, SHORT_NAMES, "trace source", Path.cwd(), TraceSource)
    required = [field.name for field in dataclasses.fields(owner) if field.default is dataclasses.MISSING]
    has_slo = params.get("slo_ms") is not None
    if "slo_ms" in required and not has_slo:
        # Only arrivals are written, described and drawn here: the SLO is not needed.
        params["slo_ms"] = 1.0
    elif params.get("class") and not has_slo and "slo" not in params:
        params["slo_ms"] = 1.0
    source, faults = build(owner, params)
    if faults:
        raise SpecError(f"trace {kind}", "; ".join(str(fault) for fault in faults))
    return source.located(Path.cwd()), has_slo


def _is_path(name: str) -> bool:
    """Return whether a name is that of a file: it exists, or has a suffix, a folder or a pattern in it."""
    from sim.traces import SHORT_NAMES

    if name in SHORT_NAMES:
        return False
    return Path(name).expanduser().exists() or (":" not in name and any(mark in name for mark in "./~*?[\\"))


def _column(text: str, *, with_unit: bool) -> dict[str, Any]:
    """Return a column of a file from COLUMN[:UNIT]; a column of digits is a number."""
    name, colon, unit = text.rpartition(":") if with_unit else (text, "", "")
    if not colon or unit not in _UNITS:  # the colon is one of the name
        name, unit = text, ""
    return {"column": int(name) if name.isdecimal() else name, **({"unit": unit} if unit else {})}


def _without_nan(value: Any) -> Any:
    """Return the same with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
