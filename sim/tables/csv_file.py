"""Latency tables as CSV, one row per cell: `subnet,accuracy,batch_size,latency_ms` and optionally `p99_ms`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from sim.base.errors import DataError, did_you_mean
from sim.base.units import NS_PER_MS, ns_from_ms
from sim.tables.latency import LatencyTable, ProfiledSubnet, table_from_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = ("subnet", "accuracy", "batch_size", "latency_ms", "p99_ms")


def parse_csv(text: str, location: str) -> LatencyTable:
    """Return the table in the text of a CSV; device and provenance are the name of the file.

    Args:
        text: The whole file.
        location: Its path, for messages.

    Raises:
        DataError: The text has another layout, with the line.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    subnets: dict[str, ProfiledSubnet] = {}
    cells: dict[tuple[str, int], int] = {}
    p99: dict[tuple[str, int], int] = {}
    try:
        columns = rows.fieldnames or ()
        _check_header(columns, location)
        for row in rows:
            line = f"{location}, line {rows.line_num}"
            if None in row or None in row.values():
                raise DataError(line, "wrong number of values", "", f"{len(columns)} columns")
            subnet = _subnet(row, line)
            if subnets.setdefault(subnet.id, subnet) != subnet:
                both = f"{subnets[subnet.id].accuracy:g} and {subnet.accuracy:g}"
                raise DataError(line, f"subnet {subnet.id} has two accuracies", both, "one per subnet")
            key = subnet.id, _batch(row["batch_size"], line)
            if key in cells:
                raise DataError(line, "duplicate cell", f"subnet {key[0]}, batch {key[1]}", "one row per cell")
            cells[key] = _ns(row, "latency_ms", line)
            if "p99_ms" in row:
                p99[key] = _ns(row, "p99_ms", line)
    except csv.Error as error:
        raise DataError(
            f"{location}, line {rows.reader.line_num}", "is not valid CSV", str(error), "quotes must be closed"
        ) from error
    if not cells:
        raise DataError(location, "has no rows", "", f"one per cell below {','.join(_COLUMNS[:4])}")
    name = Path(location)
    return table_from_cells(
        name.stem,
        subnets.values(),
        cells,
        {"p99_ns": p99} if p99 else None,
        location=location,
        provenance={"source": name.name},
    )


def _check_header(columns: Sequence[str], location: str) -> None:
    if len(set(columns)) < len(columns):
        raise DataError(f"{location}, line 1", "duplicate column", ", ".join(columns), "column names must be unique")
    for column in _COLUMNS[:4]:
        if column not in columns:
            header = ", ".join(columns) or "the file is empty"
            raise DataError(f"{location}, line 1", f"column {column} is missing", header, f"needs {column}")
    for column in columns:
        if column not in _COLUMNS:  # an ignored `p99` would look like a table without percentiles
            raise DataError(f"{location}, line 1", "unknown column", column, did_you_mean(column, _COLUMNS))


def _subnet(row: dict[str, str], line: str) -> ProfiledSubnet:
    try:
        return ProfiledSubnet(row["subnet"], float(row["accuracy"]))
    except DataError as error:
        raise DataError(line, error.problem, error.value, error.hint) from error
    except ValueError as error:
        raise DataError(
            line, "accuracy is not a number", row["accuracy"] or "nothing", "percent, such as 73.82"
        ) from error


def _batch(text: str, line: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise DataError(line, "batch_size is not a positive integer", text or "nothing", "such as 16")
    return int(text)


def _ns(row: dict[str, str], column: str, line: str) -> int:
    try:
        value = ns_from_ms(float(row[column]))
    except (ValueError, OverflowError):  # text and NaN; infinity
        value = 0
    if not 0 < value < 2**63:
        hint = "milliseconds above 0, such as 4.4"
        raise DataError(line, f"{column} is not a positive number", row[column] or "nothing", hint)
    return value


def csv_text(table: LatencyTable) -> str:
    """Return the latencies of a table as the text of a CSV, without stages, device and provenance."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS if table.p99_ns is not None else _COLUMNS[:4])
    for row, subnet in enumerate(table.subnets):
        for column, size in enumerate(table.batch_sizes):
            grids = (table.latency_ns, *(() if table.p99_ns is None else (table.p99_ns,)))
            writer.writerow([subnet.id, repr(subnet.accuracy), size, *(_ms_text(int(g[row, column])) for g in grids)])
    return out.getvalue()


def _ms_text(ns: int) -> str:
    return f"{ns // NS_PER_MS}.{ns % NS_PER_MS:06d}".rstrip("0").rstrip(".")
