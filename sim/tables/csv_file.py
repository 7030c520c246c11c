"""Latency tables as CSV: a row per cell, or a row per measurement. `sim.tables.columns` says which columns there are.

Where a cell has several rows, each is one measurement: the latency is their median, the 99th percentile is that of the
sample (interpolated linearly), and the table keeps them. A column `repetition` tells them apart; without it, every cell
must have `FEWEST_REPETITIONS` or more, since two rows of one cell are rather a mistake.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from sim.base.errors import DataError
from sim.base.units import NS_PER_MS, NS_PER_S, NS_PER_US
from sim.tables.cells import table_from_cells
from sim.tables.columns import NEEDED, UNITS, columns_of, matches
from sim.tables.latency import LatencyTable, ProfiledSubnet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sim.tables.columns import Columns

FEWEST_REPETITIONS = 3
"""Rows per cell that are taken for repeated measurements without a column that says so."""

SHORTEST_NS = 50_000
"""A table in milliseconds whose smallest latency is below is in seconds: no batch of a network takes less."""

LONGEST_NS = 10 * NS_PER_S
"""A table in milliseconds or microseconds whose smallest latency is not below is in a smaller unit."""

UNLIKELY_RATIO = 100
"""A 99th percentile that is so many times the latency in every cell is in another unit."""

_MOST_MJ = 1e12
"""No batch takes more."""

_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

_Key = tuple[str, int]
_V = TypeVar("_V")
"""Subnet and batch size."""

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


class _Row(NamedTuple):
    line: int
    cells: list[str]


class _Time(NamedTuple):
    """A column of times: its index, its name and its unit."""

    column: int
    name: str
    unit: str


def parse_csv(
    text: str, location: str, where: Mapping[str, str] | None = None, max_batch: int | None = None
) -> LatencyTable:
    """Return the table in the text of a CSV; without a column `device`, that is the name of the file.

    Args:
        text: The whole file. Values are separated by commas, semicolons or tabs.
        location: Its path, for messages.
        where: Rows to choose: a text or a pattern by column, such as `{"device": "pascal", "model": "bert-*"}`.
        max_batch: The largest batch size, or None. Larger ones need not be there for all subnets.

    Raises:
        DataError: The text has another layout, holds several devices, or has numbers in another unit; with the line.
        BatchSizeError: The limit is below the smallest or above the largest batch size.
    """
    columns, rows = _read(text, location, where or {})
    if not rows:
        raise DataError(location, "has no rows", "", f"one per cell below {','.join(NEEDED)}")
    rows = _chosen(columns, rows, location)
    device = _device(columns, rows, location)
    subnets = _subnets(columns, rows, location)
    cells, p99 = _cells(columns, rows, location)
    sizes = {size for _, size in cells}
    is_cut = False
    if max_batch is not None and min(sizes) <= max_batch < max(sizes):
        is_cut = True
        cells, p99 = _up_to(max_batch, cells), _up_to(max_batch, p99)
    samples = _samples(columns, cells, location)
    energy = _energy(columns, rows, location) if "energy" in columns.roles else None
    latencies = {key: round(median(values)) for key, values in cells.items()}
    _check_units(columns, latencies, p99, location)
    if samples is not None:
        p99 = {key: round(float(np.quantile(values, 0.99))) for key, values in samples.items()}
    table = table_from_cells(
        device,
        subnets,
        latencies,
        {"p99_ns": p99} if p99 else None,
        samples=samples,
        energy=energy,
        location=location,
        provenance=_provenance(columns, Path(location).name, samples),
    )
    return table if is_cut else table.up_to(max_batch)


def _up_to(max_batch: int, cells: Mapping[_Key, _V]) -> dict[_Key, _V]:
    return {key: value for key, value in cells.items() if key[1] <= max_batch}


def _read(text: str, location: str, where: Mapping[str, str]) -> tuple[Columns, list[_Row]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = columns_of(next(reader, []), where, f"{location}, line 1")
        rows = [_Row(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        line = f"{location}, line {reader.line_num}"
        raise DataError(line, "is not valid CSV", str(error), "quotes must be closed") from error
    for row in rows:
        if len(row.cells) != len(columns.names):
            hint = f"{len(columns.names)} columns"
            raise DataError(f"{location}, line {row.line}", "wrong number of values", "", hint)
    return columns, rows


def _chosen(columns: Columns, rows: list[_Row], location: str) -> list[_Row]:
    """Return the rows that are asked for.

    Raises:
        DataError: There are none.
    """
    for column, asked in columns.wanted.items():
        values = list(dict.fromkeys(row.cells[column] for row in rows))
        kept = {value for value in values if matches(value, asked, values)}
        if not kept:
            several = [value for value in values if asked.lower() in value.lower()]
            problem = f"{'several values have' if several else 'no row has'} this {columns.names[column]}"
            raise DataError(location, problem, asked, f"choose from {_listed(several or values)}")
        rows = [row for row in rows if row.cells[column] in kept]
    return rows


def _device(columns: Columns, rows: list[_Row], location: str) -> str:
    """Return the device of all rows.

    Raises:
        DataError: There are several.
    """
    if "device" not in columns.roles:
        return Path(location).stem
    devices = list(dict.fromkeys(row.cells[columns.roles["device"]] for row in rows))
    if len(devices) > 1:
        hint = f"choose one: --where device={devices[0]}, in an experiment where: {{device: {devices[0]}}}"
        raise DataError(location, "holds several devices", _listed(devices), hint)
    return devices[0] or Path(location).stem


def _subnets(columns: Columns, rows: list[_Row], location: str) -> list[ProfiledSubnet]:
    """Return the subnets of all rows.

    Raises:
        DataError: Accuracy or loading time are invalid, or differ between rows of one subnet.
    """
    loading = _time(columns, "loading") if "loading" in columns.roles else None
    facts = [columns.roles[role] for role in ("subnet", "accuracy", "loading") if role in columns.roles]
    seen: set[tuple[str, ...]] = set()
    found: dict[str, ProfiledSubnet] = {}
    for row in rows:
        texts = tuple(row.cells[i] for i in facts)
        if texts in seen:
            continue
        seen.add(texts)
        name, accuracy = texts[:2]
        line, percent = f"{location}, line {row.line}", _number(accuracy)
        if percent is None:
            hint = "percent, such as 73.82"
            raise DataError(line, "accuracy is not a number", accuracy or "nothing", hint)
        is_known = loading is not None and row.cells[loading.column].strip()
        try:
            loading_ns = _ns(row, loading, location, lowest=0) if loading and is_known else None
            subnet = ProfiledSubnet(name, percent, loading_ns=loading_ns)
        except DataError as error:
            raise DataError(line, error.problem, error.value, error.hint) from error
        known = found.setdefault(name, subnet)
        if known.accuracy != subnet.accuracy:
            both = f"{known.accuracy:g} and {subnet.accuracy:g}"
            raise DataError(line, f"subnet {name} has two accuracies", both, "one per subnet")
        if known != subnet:
            raise DataError(line, f"subnet {name} has two loading times", "", "one per subnet")
    return list(found.values())


def _cells(columns: Columns, rows: list[_Row], location: str) -> tuple[dict[_Key, list[int]], dict[_Key, int]]:
    """Return the latencies of each cell, in the order of the rows, and its 99th percentile where there is a column.

    Raises:
        DataError: A number is invalid, or a repetition is there twice.
    """
    latency, p99 = _time(columns, "latency"), _time(columns, "p99") if "p99" in columns.roles else None
    subnet, batch, repetition = columns.roles["subnet"], columns.roles["batch_size"], columns.roles.get("repetition")
    cells: dict[_Key, list[int]] = {}
    percentiles: dict[_Key, int] = {}
    seen: set[tuple[str, int, str]] = set()
    sizes: dict[str, int] = {}
    for row in rows:
        text = row.cells[batch]
        size = sizes[text] if text in sizes else sizes.setdefault(text, _batch(text, f"{location}, line {row.line}"))
        key = row.cells[subnet], size
        if repetition is not None:
            one = (*key, row.cells[repetition])
            if one in seen:
                value = f"subnet {key[0]}, batch {size}, {columns.name('repetition')} {one[2]}"
                raise DataError(
                    f"{location}, line {row.line}", "duplicate repetition", value, "one row per measurement"
                )
            seen.add(one)
        cells.setdefault(key, []).append(_ns(row, latency, location))
        if p99 is not None:
            percentiles[key] = _ns(row, p99, location)
    return cells, percentiles


def _energy(columns: Columns, rows: list[_Row], location: str) -> dict[_Key, int]:
    """Return the energy of a batch of each cell in microjoules: the mean of its measurements.

    Raises:
        DataError: A number is invalid.
    """
    column = columns.roles["energy"]
    found: dict[_Key, list[float]] = {}
    for row in rows:
        value = _number(row.cells[column])
        if value is None or not 0 < value < _MOST_MJ:
            hint = "millijoules of a batch, above 0"
            raise DataError(f"{location}, line {row.line}", "energy is not a positive number", row.cells[column], hint)
        key = row.cells[columns.roles["subnet"]], int(float(row.cells[columns.roles["batch_size"]]))
        found.setdefault(key, []).append(value)
    return {key: max(1, round(1000 * fmean(values))) for key, values in found.items()}


def _samples(columns: Columns, cells: Mapping[_Key, list[int]], location: str) -> dict[_Key, list[int]] | None:
    """Return the measurements of each cell, or None where rows are cells.

    Raises:
        DataError: Some cells have several rows, and they can't be measurements.
    """
    fewest = min(map(len, cells.values()))
    if "repetition" not in columns.roles:
        most = max(cells, key=lambda key: len(cells[key]))
        if len(cells[most]) == 1:
            return None
        if fewest < FEWEST_REPETITIONS:
            value = f"subnet {most[0]}, batch {most[1]}: {len(cells[most])} rows"
            hint = f"one row per cell; of repeated measurements {FEWEST_REPETITIONS} or more, or a column 'repetition'"
            raise DataError(location, "duplicate cell", value, hint)
    if "p99" in columns.roles:
        hint = "remove it: the 99th percentile is that of the repetitions"
        raise DataError(location, "repetitions with a percentile of their own", columns.name("p99"), hint)
    return dict(cells)


def _check_units(columns: Columns, cells: Mapping[_Key, int], p99: Mapping[_Key, int], location: str) -> None:
    """Refuse times that can't be in the unit that their column's name says.

    Raises:
        DataError: The smallest latency is too small or too large, or each 99th percentile is a hundred times as long.
    """
    name, unit = columns.name("latency"), columns.unit("latency")
    smallest_ns = min(cells.values())
    meant = ""
    if unit == "ms" and smallest_ns < SHORTEST_NS:  # who names another unit means small numbers
        meant = "s"
    elif unit in {"ms", "us"} and smallest_ns >= LONGEST_NS:
        meant = "us" if unit == "ms" else "ns"
    if meant:
        right = "us" if meant == "s" else "s"
        hint = f"are they in {meant}? Then name the column latency_{meant}; if not, give them as latency_{right}"
        value = f"the smallest is {smallest_ns / UNITS[unit]:g}"
        raise DataError(location, f"{name} can hardly be in {unit}", value, hint)
    if p99 and min(p99[key] / cells[key] for key in cells) >= UNLIKELY_RATIO:
        key = next(iter(cells))
        value = f"subnet {key[0]}, batch {key[1]}: {p99[key] / cells[key]:g} times"
        hint = f"are both in the unit that their names say, {unit} and {columns.unit('p99')}?"
        raise DataError(location, f"every {columns.name('p99')} is far above {name}", value, hint)


def _provenance(columns: Columns, source: str, samples: Mapping[_Key, list[int]] | None) -> dict[str, str]:
    facts = {"source": source}
    if columns.wanted:
        facts["rows"] = ", ".join(f"{columns.names[i]} = {asked}" for i, asked in columns.wanted.items())
    if samples is not None:
        counts = sorted({len(values) for values in samples.values()})
        number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        facts["latency"] = f"median of {number} measurements per cell"
    elif "latency" not in columns.name("latency").lower():
        facts["latency"] = columns.name("latency")
    if columns.unread:
        facts["not read"] = ", ".join(columns.unread)
    return facts


def _number(text: str) -> float | None:
    """Return a number as writers of CSV write it, or None: no `4_0`, `nan` or `inf`, which Python would read."""
    return float(text) if _NUMBER.fullmatch(text) else None


def _batch(text: str, location: str) -> int:
    size = _number(text)
    if size is None or not 0 < size < UNITS["s"] or size != int(size):
        raise DataError(location, "batch_size is not a positive integer", text or "nothing", "such as 16")
    return int(size)


def _time(columns: Columns, role: str) -> _Time:
    return _Time(columns.roles[role], columns.name(role), columns.unit(role))


def _ns(row: _Row, time: _Time, location: str, lowest: int = 1) -> int:
    """Return a time in nanoseconds.

    Raises:
        DataError: It is not a number, below `lowest`, or beyond 64 bits; or a fraction of a few nanoseconds.
    """
    text, unit = row.cells[time.column], UNITS[time.unit]
    found = _number(text)
    value = -1 if found is None or found * unit >= 2**63 else round(found * unit)
    if value >= lowest and not (unit == 1 and value < NS_PER_US and found != value):
        return value
    line = f"{location}, line {row.line}"
    if value >= lowest:
        hint = "is it in milliseconds? Then name the column so"
        raise DataError(line, f"{time.name} can hardly be in nanoseconds", text, hint)
    problem, start = ("is not a positive number", "above 0") if lowest else ("is not a number from 0 on", "or 0")
    hint = f"{_UNIT_NAMES[time.unit]} {start}, such as 4.4"
    raise DataError(line, f"{time.name} {problem}", text or "nothing", hint)


def _listed(values: Iterable[str]) -> str:
    names = list(values)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")  # noqa: PLR2004 - a line


def csv_text(table: LatencyTable) -> str:
    """Return the latencies of a table as the text of a CSV, without stages, samples, device and provenance.

    Times are in milliseconds, or in nanoseconds where milliseconds would be so small or large as to look mistaken.
    """
    unit = "ms" if SHORTEST_NS <= table.smallest_ns < LONGEST_NS else "ns"
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    loading = any(subnet.loading_ns is not None for subnet in table.subnets)
    grids = [table.latency_ns, *([] if table.p99_ns is None else [table.p99_ns])]
    header = [*NEEDED[:3], f"latency_{unit}", *([f"p99_{unit}"] if len(grids) > 1 else [])]
    energy = table.energy_uj
    writer.writerow([*header, *([] if energy is None else ["energy_mj"]), *([f"loading_{unit}"] if loading else [])])
    for row, subnet in enumerate(table.subnets):
        last = [] if not loading else ["" if subnet.loading_ns is None else _text(subnet.loading_ns, unit)]
        for column, size in enumerate(table.batch_sizes):
            times = [_text(int(grid[row, column]), unit) for grid in grids]
            millijoules = [] if energy is None else [repr(int(energy[row, column]) / 1000)]
            writer.writerow([subnet.id, repr(subnet.accuracy), size, *times, *millijoules, *last])
    return out.getvalue()


def _text(ns: int, unit: str) -> str:
    if unit == "ns":
        return str(ns)
    return f"{ns // NS_PER_MS}.{ns % NS_PER_MS:06d}".rstrip("0").rstrip(".")
