"""What commands print tables on, and the table that several print."""

from __future__ import annotations

import math
import re
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.table import Column, Table

    from sim.tables.accuracies import Accuracies, Accuracy
    from sim.tables.latency import LatencyTable


_PIPE = 80
"""The width of a table where there is no terminal; it is wider only if a word would not fit."""
_WIDEST = 1000
_NAME = 10
"""On a terminal, names are folded to so many characters if that makes room."""


def console() -> Console:
    """Return a console for tables, in plain text, which cuts no cell.

    On a terminal that is too narrow for a table, its rows are printed one by one, with a line for each cell.
    """
    from rich.console import Console
    from rich.table import Table

    class Tables(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            if objects and isinstance(table := objects[0], Table):
                for column in table.columns:
                    if not self.is_terminal or column.overflow != "fold":
                        column.min_width = _longest_word(column)
                if not self.is_terminal:
                    options["width"] = max(_PIPE, _least_width(self, table))
                elif _least_width(self, table) > self.width:
                    super().print("\n".join(_row_by_row(table)), soft_wrap=True)
                    return
            super().print(*objects, **options)

    if sys.stdout.isatty():
        return Tables(highlight=False, markup=False)
    # A pipe has no width, and rich would cut numbers; it pads lines, which other programs then read.
    stream = cast("IO[str]", _Trimmed(sys.stdout))
    return Tables(file=stream, width=_WIDEST, force_terminal=False, highlight=False, markup=False)


def _least_width(screen: Console, table: Table) -> int:
    """Return the width in which no number of a table is cut, and no name folded to less than a column asks for."""
    found = screen.measure(table, options=screen.options.update(width=_WIDEST)).minimum  # by the longest words
    for column in table.columns:
        word = _longest_word(column)
        if column.no_wrap:
            lines = [line for text in (column.header, *column.cells) for line in str(text).splitlines()]
            found += max(0, max(map(len, lines), default=0) - word)
        elif column.overflow == "fold":
            found += min(0, (column.min_width or _NAME) - word)
    return found


def _longest_word(column: Column) -> int:
    words = (word for text in (column.header, *column.cells) for word in str(text).split())
    return min(max(map(len, words), default=0), column.max_width or _WIDEST)


def _row_by_row(table: Table) -> Iterator[str]:
    """Yield the lines of a table row by row: the first cell, and below it the others, each with its heading."""
    if table.title:
        yield str(table.title)
    heads = [" ".join(str(column.header).split()) for column in table.columns]
    for first, *others in zip(*(column.cells for column in table.columns), strict=True):
        yield str(first)
        for head, cell in zip(heads[1:], others, strict=True):
            if cell:
                yield f"  {head}: {cell}" if head else f"  {cell}"


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
    from sim.base.numbers import format_decimals

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
        costs = format_decimals(rows[0].macs / 1e6, 3), format_decimals(rows[0].params / 1e3, 1)
        accurate = [cell([row.accuracy for row in rows]), *[cell([row.perplexity for row in rows])] * texts]
        accurate += [cell([row.without for row in rows])] * norms
        table.add_row(subnet if is_trained(subnet) else f"{subnet} *", *costs, *accurate)
    screen.print(table)
    if not all(map(is_trained, by_subnet)):
        screen.print("*: never trained, only parts of it as parts of other subnets", soft_wrap=True)


def tell(text: str) -> None:
    """Print a sentence about what goes on, on stderr."""
    click.echo(text, err=True)


def headings(keys: Iterable[str]) -> dict[str, str]:
    """Return the headings of swept keys: the last part of each, or all of it where two would be equal."""
    known = list(keys)
    last = [key.rpartition(".")[2] for key in known]
    return {key: short if last.count(short) == 1 else key for key, short in zip(known, last, strict=True)}
