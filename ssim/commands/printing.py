"""What commands print tables on, and the table that several print."""

from __future__ import annotations

import math
import re
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rich.console import Console

    from sim.tables.accuracies import Accuracies, Accuracy
    from sim.tables.latency import LatencyTable


def console() -> Console:
    """Return a console for tables: plain text, wide where there is no terminal."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, markup=False)
    # A pipe has no width, and rich would cut numbers to 80 columns; it pads lines, which other programs then read.
    return Console(file=cast("IO[str]", _Trimmed(sys.stdout)), width=160, highlight=False, markup=False)


@contextmanager
def spinning(words: str) -> Generator[None]:
    """Show what is being done, and for how long: on a terminal; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn(words, markup=False), TimeElapsedColumn()
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        bar.add_task("", total=None)
        yield


def print_json(found: object) -> None:
    """Print data for other programs."""
    import json

    import click

    click.echo(json.dumps(found, indent=2))


class _Trimmed:
    """A text stream whose lines lose the blanks at their ends."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(re.sub(r" +(?=\n)", "", text))

    def flush(self) -> None:
        self._stream.flush()


def limit_note(option: str, limit: int | None, table: LatencyTable) -> list[str]:
    """Return a line if the limit on batch sizes was not measured, so that smaller ones are used; else none.

    Args:
        option: What set the limit.
        limit: The limit, if there is one.
        table: The table as it is used.
    """
    if limit in {None, table.max_batch}:
        return []
    return [f"{option} {limit} was not measured, batch sizes up to {table.max_batch} are used"]


def print_accuracies(name: str, found: Sequence[Accuracies], is_trained: Callable[[str], bool]) -> None:
    """Print what subnets cost and how accurate they are: means and intervals over seeds, if there are several.

    Args:
        name: What was trained.
        found: By seed.
        is_trained: Whether steps of the training may have trained the subnet of an id; others are marked.
    """
    from rich.table import Table

    from sim.base.intervals import mean_and_half_width

    by_subnet: dict[str, list[Accuracy]] = {}
    for row in (row for accuracies in found for row in accuracies.rows):
        by_subnet.setdefault(row.subnet, []).append(row)
    norms = any(row.without is not None for rows in by_subnet.values() for row in rows)
    texts = any(row.perplexity is not None for rows in by_subnet.values() for row in rows)

    def cell(values: Sequence[float | None]) -> str:
        mean, half = mean_and_half_width([value for value in values if value is not None] or [math.nan])
        return "-" if math.isnan(mean) else f"{mean:.2f}" + ("" if math.isnan(half) else f" ±{half:.2f}")

    over = f" (mean and 95 % interval over {len(found)} seeds)" if len(found) > 1 else ""
    screen, metric = console(), found[0].provenance.get("metric", "accuracy")
    screen.print(f"{name}: {metric} in %, {found[0].provenance['data']}{over}", soft_wrap=True)
    table = Table("subnet", box=None, pad_edge=False)
    for column in ("MMACs", "params k", metric, *["perplexity"] * texts, *["without SubnetNorm"] * norms):
        table.add_column(column, justify="right", no_wrap=True)
    for subnet, rows in by_subnet.items():
        costs = f"{rows[0].macs / 1e6:.3f}", f"{rows[0].params / 1e3:.1f}"
        accurate = [cell([row.accuracy for row in rows]), *[cell([row.perplexity for row in rows])] * texts]
        accurate += [cell([row.without for row in rows])] * norms
        table.add_row(subnet if is_trained(subnet) else f"{subnet} *", *costs, *accurate)
    screen.print(table)
    if not all(map(is_trained, by_subnet)):
        screen.print("*: never trained, only parts of it as parts of other subnets", soft_wrap=True)


def tell(text: str) -> None:
    """Print a sentence about what goes on, on stderr."""
    click.echo(text, err=True)
