"""`ssim table`: look at latency tables, check them, draw them, and change their format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ssim.commands.from_run import from_run
from ssim.commands.group import CommandGroup, example
from ssim.commands.options import (
    completed,
    family_option,
    json_option,
    names_option,
    parse_where,
    table_names,
    where_option,
)
from ssim.commands.printing import console, limit_note, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.tables.checks import Violation
    from sim.tables.latency import LatencyTable


@click.group(cls=CommandGroup)
def table() -> None:
    """Latency tables: how long each subnet takes for a batch of each size.

    NAME is that of a shipped table (see `ssim table list`), FILE a .json, .csv or .parquet file.
    """


@table.command("list", epilog=example("ssim table list"))
@json_option
def list_(*, as_json: bool) -> None:
    """List the shipped tables, with their devices and batch sizes."""
    from rich.table import Table

    from sim.tables.files import find_table, shipped_tables

    rows = Table("name", "device", "subnets", "batch sizes", "stages", box=None, pad_edge=False)
    tables = {name: find_table(name) for name in shipped_tables()}
    if as_json:
        named = (
            (name, one.device, len(one.subnets), one.batch_sizes, list(one.stages)) for name, one in tables.items()
        )
        print_json(
            [dict(zip(("name", "device", "subnets", "batch_sizes", "stages"), one, strict=True)) for one in named]
        )
        return
    for name, found in tables.items():
        sizes = ", ".join(map(str, found.batch_sizes))
        rows.add_row(name, found.device, str(len(found.subnets)), sizes, ", ".join(found.stages) or "-")
    console().print(rows)


_source = click.argument("source", metavar="NAME|FILE", shell_complete=completed(table_names))


def _table_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the argument that names a table, and the options that choose a part of it."""
    for option in (
        where_option,
        click.option("--all", "every", is_flag=True, help="All measured batch sizes, beyond the table's own limit."),
        names_option("--stages", "stages", "STAGE", "Only these stages of a batch: their times are added up."),
        click.option(
            "--max-batch",
            type=click.IntRange(min=1),
            help="Only the measured batch sizes up to this one.  [default: the table's own limit]",
        ),
        _source,
    ):
        command = option(command)
    return command


@table.command(
    epilog=example(
        "ssim table show ofa-resnet50-a40 --stages forward",
        "ssim table show profile.csv --where device=pascal --csv > pascal.csv",
    )
)
@_table_options
@click.option("--json", "as_json", is_flag=True, help="Print SuperServe's profile JSON, which is read as a table.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, which is read as a table.")
def show(
    source: str,
    max_batch: int | None,
    stages: tuple[str, ...],
    choices: tuple[str, ...],
    *,
    every: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Print latencies in milliseconds, accuracies, costs, and the source of the table."""
    from sim.base.errors import SpecError
    from sim.tables.csv_file import csv_text
    from sim.tables.json_file import profile_text

    if as_json and as_csv:
        raise SpecError("--json", "cannot be combined with --csv", "", "give one of the two")
    found = _load(source, max_batch, stages, choices, every=every)
    if as_json or as_csv:
        _tell_limit(found, max_batch)
        click.echo(profile_text(found) if as_json else csv_text(found), nl=False)
        return
    _print(found, _shown_sizes(source, found, max_batch, choices, every=every))


def _print(found: LatencyTable, sizes: str) -> None:
    from rich.table import Table

    from sim.base.numbers import format_decimals
    from sim.base.units import ms_from_ns

    out = console()
    batches = [f"batch {found.batch_sizes[0]}", *map(str, found.batch_sizes[1:])]
    loads = any(subnet.loading_ns is not None for subnet in found.subnets)
    costs = ["GMACs", "params M", *["loading ms"] * loads]
    grid = Table("", "subnet", "accuracy %", *costs, box=None, pad_edge=False)
    for column in batches:
        grid.add_column(column, justify="right", no_wrap=True)
    for index, subnet in enumerate(found.subnets):
        grid.add_row(
            "*" if index in found.pareto else "",
            subnet.id,
            f"{subnet.accuracy:.3f}",
            "-" if subnet.gmacs is None else format_decimals(subnet.gmacs, 3),
            "-" if subnet.params is None else format_decimals(subnet.params / 1e6, 2),
            *["-" if subnet.loading_ns is None else f"{ms_from_ns(subnet.loading_ns):.3f}"] * loads,
            *(f"{ms_from_ns(int(ns)):.3f}" for ns in found.latency_ns[index]),
        )
    of_stages = f", stages {' + '.join(found.stages)}" if found.stages else ""
    out.print(f"{found.device}: latency in ms{of_stages}, {sizes}; * Pareto-optimal", soft_wrap=True)
    out.print(grid)
    facts = Table(box=None, show_header=False, pad_edge=False)
    for key, text in {**_uncertainty(found), **found.provenance}.items():
        facts.add_row(f"{key}:", text)
    out.print()
    out.print(facts)


def _uncertainty(found: LatencyTable) -> dict[str, str]:
    """Return what a table knows of the distribution of its latencies."""
    facts: dict[str, str] = {}
    if found.p99_ns is not None:
        ratios = sorted((found.p99_ns / found.latency_ns).ravel().tolist())
        known = ", with intervals" if found.p99_low_ns is not None else ""
        facts["99th percentile"] = f"{_range([f'{ratio:.3f}' for ratio in ratios])} times the latency{known}"
    if found.samples_ns is not None:
        counts = sorted(len(cell) for row in found.samples_ns for cell in row)
        facts["samples"] = f"{_range([str(count) for count in counts])} per cell"
    return facts


def _range(values: Sequence[str]) -> str:
    """Return the first and the last of sorted values, or the one that all are."""
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def _shown_sizes(
    source: str, shown: LatencyTable, max_batch: int | None, choices: Sequence[str], *, every: bool
) -> str:
    """Return which of a table's batch sizes are shown."""
    from sim.tables.files import find_table

    if max_batch is not None:
        return f"measured batch sizes up to {max_batch}"
    measured = find_table(source, parse_where(choices)).batch_sizes
    if every or len(shown.batch_sizes) == len(measured):
        return "all measured batch sizes"
    limit = f"{shown.batch_sizes[-1]}, the table's own limit"
    return f"measured batch sizes up to {limit} (measured: {', '.join(map(str, measured))})"


@table.command(epilog=example("ssim table plot ofa-resnet50-rtx2080ti -o latency.pdf"))
@_table_options
@click.option("-o", "--output", required=True, metavar="FILE", help="The picture: a .pdf, .svg or .png file.")
def plot(
    source: str, output: str, max_batch: int | None, stages: tuple[str, ...], choices: tuple[str, ...], *, every: bool
) -> None:
    """Draw a table as a heat map, as wide as one column of a paper."""
    from pathlib import Path

    from figures.latency import draw_latency
    from figures.style import save_as

    found = _load(source, max_batch, stages, choices, every=every)
    _tell_limit(found, max_batch)
    title = f"{found.device}, {' + '.join(found.stages)}" if stages else None
    figure = draw_latency(found, title)
    save_as(figure, Path(output))
    click.echo(f"latencies of {source}: {output}")


@table.command(epilog=example("ssim table check ofa-resnet50-a40 --all"))
@_table_options
def check(
    source: str, max_batch: int | None, stages: tuple[str, ...], choices: tuple[str, ...], *, every: bool
) -> None:
    """Report whether the properties P1, P2 and P3 of the SuperServe paper (section 4) hold, and where they do not.

    P1: latency grows with batch size. P2: latency grows with accuracy. P3: a less accurate subnet serves a larger batch
    in about the time of a more accurate one. A table without them is usable: the exit code is 0. Subnets of equal
    accuracy are listed, too.
    """
    from sim.tables.checks import check_properties, equally_accurate

    found = _load(source, max_batch, stages, choices, every=every)
    _tell_limit(found, max_batch)
    for result in check_properties(found):
        if not result.cells:
            click.echo(f"{result.name} can't be checked: it needs {result.needs}; the table has {_extent(found)}")
            continue
        of_all = f"{result.cells} cells" if result.cells > 1 else "1 cell"
        if result.holds:
            verdict = f"holds in {'all ' * (result.cells > 1)}{of_all}"
        else:
            verdict = f"is violated in {len(result.violations)} of {of_all}"
        click.echo(f"{result.name} {verdict}: {result.rule}")
        for broken in result.violations:
            click.echo(f"  {_sentence(found, broken)}")
    for group in equally_accurate(found):
        names = ", ".join(found.subnets[index].id for index in group)
        fastest = found.subnets[group[-1]]
        click.echo(
            f"equal accuracy ({fastest.accuracy:g} %): {names}; policies prefer {fastest.id}, the fastest in sum"
        )


@table.command(epilog=example("ssim table diff ofa-resnet50-rtx2080ti mine.json"))
@click.argument("first", metavar="A", shell_complete=completed(table_names))
@click.argument("second", metavar="B", shell_complete=completed(table_names))
@click.option("--all", "every", is_flag=True, help="List all cells, not only those that are faster or slower.")
def diff(first: str, second: str, *, every: bool) -> None:
    """Compare table B with table A cell by cell: faster, slower, or inconclusive.

    A cell is faster or slower if the confidence intervals of the two medians do not overlap. The exit code is 1 if any
    cell is faster or slower, else 0.
    """
    from collections import Counter

    from rich.table import Table

    from sim.base.units import ms_from_ns
    from sim.tables.diff import LatencyChange, diff_tables
    from sim.tables.files import find_table

    one, other = find_table(first), find_table(second)
    cells = diff_tables(one, other)
    told = [cell for cell in cells if cell.difference in {LatencyChange.FASTER, LatencyChange.SLOWER}]
    rows = Table("subnet", "batch", "A ms", "B ms", "B / A", "B is", box=None, pad_edge=False)
    for cell in cells if every else told:
        both = (f"{ms_from_ns(ns):.3f}" for ns in (cell.first_ns, cell.second_ns))
        rows.add_row(cell.subnet, str(cell.batch_size), *both, f"{cell.ratio:.3f}", str(cell.difference))
    if rows.row_count:
        console().print(rows)
    counts = Counter(cell.difference for cell in cells)
    click.echo(f"{len(cells)} cells: " + ", ".join(f"{counts[kind]} {kind}" for kind in LatencyChange if counts[kind]))
    unknown = [name for name, found in ((first, one), (second, other)) if found.low_ns is None]
    if unknown:
        click.echo(f"no confidence intervals in {' and '.join(unknown)}: only equal cells can be told")
    if told:
        raise click.exceptions.Exit(1)


@table.command(epilog=example("ssim table predict --from ofa-resnet50-a40 --device h100 -o h100.json"))
@click.option("--from", "source", required=True, metavar="NAME|FILE", help="The measured table to start from.")
@click.option("--device", required=True, metavar="NAME", help="The GPU to predict for, such as h100.")
@click.option("--measured-on", metavar="NAME", help="The GPU of the measured table, where its device does not tell.")
@click.option(
    "--family", default="ofa_resnet50", show_default=True, help="Supernet family of the subnets (`ssim supernet list`)."
)
@click.option(
    "--size", type=click.IntRange(min=1), help="Input size: side of an image in pixels, or length of a text in tokens."
)
@family_option
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="The table to write: a .json, .csv or .parquet file."
)
def predict(
    source: str,
    device: str,
    measured_on: str | None,
    family: str,
    size: int | None,
    settings: tuple[str, ...],
    output: str,
) -> None:
    """Predict the latency table of one GPU from a table measured on another.

    The model is a roofline over the kernels of each subnet; docs/profiler.md reports its errors. Needs the extra
    `torch`.
    """
    from pathlib import Path

    import numpy as np

    from profiler.data_sheets import DATA_SHEETS, find_data_sheet
    from profiler.roofline import predict, works_of
    from sim.base.errors import SpecError, did_you_mean
    from sim.tables.files import find_table, write_table
    from ssim.files.families import find_family
    from ssim.files.yaml_file import parse_settings

    found = find_table(source)
    found = found.with_stages(["forward"]) if "forward" in found.stages else found
    for option, name in (("--device", device), ("--measured-on", measured_on)):
        if name is not None and name not in DATA_SHEETS:
            raise SpecError(option, "no data sheet of this GPU", repr(name), did_you_mean(name, DATA_SHEETS))
    here = DATA_SHEETS[measured_on] if measured_on else find_data_sheet(found.device)
    if here is None:
        raise SpecError(
            "--measured-on",
            "is missing, and no data sheet of the table's device",
            repr(found.device),
            ", ".join(DATA_SHEETS),
        )
    works = works_of(found, find_family(family, parse_settings(settings), Path.cwd()), size)
    predicted, fitted = predict(found, works, here, DATA_SHEETS[device])
    write_table(predicted, output)
    errors = abs(fitted.errors)
    click.echo(
        f"error of the roofline on {found.device}: {np.median(errors):.1%} (median), {errors.max():.1%} (largest)"
    )
    click.echo(f"predicted {DATA_SHEETS[device].name}: {output}")


@table.command(
    epilog=example(
        "ssim table convert ofa-resnet50-a40 a40.csv",
        "ssim table convert profile.csv pascal.json --where device=pascal",
    )
)
@click.argument("source", metavar="SRC", shell_complete=completed(table_names))
@click.argument("target", metavar="DST")
@where_option
def convert(source: str, target: str, choices: tuple[str, ...]) -> None:
    """Write the table SRC (a name or a file) to the file DST in the format of its suffix: .json, .csv or .parquet.

    A .csv file holds neither device, stages, samples, control tuples nor provenance.
    """
    from sim.tables.files import find_table, write_table

    write_table(find_table(source, parse_where(choices)), target)
    click.echo(f"converted {source}: {target}")


table.add_command(from_run)


def _load(
    source: str, max_batch: int | None, stages: tuple[str, ...], choices: Sequence[str], *, every: bool
) -> LatencyTable:
    from sim.base.errors import SpecError
    from sim.tables.files import find_table, load_table

    if every and max_batch is not None:
        raise SpecError("--all", "cannot be combined with --max-batch", str(max_batch), "give one of the two")
    where = parse_where(choices)
    return load_table(source, find_table(source, where).max_batch if every else max_batch, stages or None, where)


def _extent(found: LatencyTable) -> str:
    subnets, sizes = len(found.subnets), len(found.batch_sizes)
    return f"{subnets} subnet{'s' * (subnets > 1)} and {sizes} batch size{'s' * (sizes > 1)}"


def _tell_limit(found: LatencyTable, max_batch: int | None) -> None:
    for line in limit_note("--max-batch", max_batch, found):
        click.echo(line, err=True)


def _sentence(table: LatencyTable, broken: Violation) -> str:
    from sim.base.units import ms_from_ns

    def cell(subnet: int, batch_size: int, ns: int) -> str:
        accuracy = f"{table.subnets[subnet].accuracy:.2f}"
        alone = sum(f"{other.accuracy:.2f}" == accuracy for other in table.subnets) == 1
        name = accuracy if alone else f"{table.subnets[subnet].id} ({accuracy})"
        return f"{name} at batch {batch_size} ({ms_from_ns(ns):.3f} ms)"

    rival = cell(broken.rival_subnet, broken.rival_batch_size, broken.rival_ns)
    own = cell(broken.subnet, broken.batch_size, broken.latency_ns)
    return f"{own}: {rival} is {broken.over_percent:.1f} % over"
