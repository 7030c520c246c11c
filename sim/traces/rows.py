"""The rows of a file of arrivals: their times as they stand, SLOs and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sim.base.errors import DataError
from sim.traces import suggestions
from sim.traces.content import content_of
from sim.traces.reading import batches, check_complete, place_of
from sim.traces.source import drawn_ahead
from sim.traces.times import TimeColumn, looks_like_iso, ns_of, shown, types_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from sim.traces.classes import ClassColumn, Classes
    from sim.traces.content import Content
    from sim.traces.times import Unit

ARRIVALS = ("arrival_ns", "arrival_us", "arrival_ms", "arrival_s")
"""The columns of arrivals that need not be named."""

_TEXT = (pa.string(),)


@dataclass(frozen=True, slots=True)
class Where:
    """The rows of a file that count.

    Attributes:
        column: The name of a column, or its number from 1 in a file without a header.
        value: What the column holds in these rows.
    """

    column: str | int
    value: str


class Rows(NamedTuple):
    """Some rows of a file.

    Attributes:
        path: The file.
        numbers: Row numbers, from 1, int64, shape (n,), or a range.
        times: Arrival times as they stand, in nanoseconds, int64, shape (n,).
        unit: Their unit in the file; None for a type with a unit of its own.
        slos: Latency SLOs in nanoseconds, int64, shape (n,), or None.
        codes: Classes, uint16, shape (n,), or None.
    """

    path: Path
    numbers: npt.NDArray[np.int64] | range
    times: npt.NDArray[np.int64]
    unit: Unit | None
    slos: npt.NDArray[np.int64] | None = None
    codes: npt.NDArray[np.uint16] | None = None


@dataclass(frozen=True, slots=True)
class WantedColumns:
    """Which columns are read.

    Attributes:
        arrival: The arrival times; None for the usual names.
        slo: The latency SLOs, or None.
        class_: The classes, or None.
        where: Which rows count; None for all.
    """

    arrival: TimeColumn | None
    slo: TimeColumn | None = None
    class_: ClassColumn | None = None
    where: Where | None = None


def rows_of(
    path: Path, wanted: WantedColumns, separator: str | None = None, classes: Classes | None = None
) -> Iterator[Rows]:
    """Yield the rows of a file that count, some at a time.

    Args:
        path: The file.
        wanted: Which columns are read.
        separator: What separates the cells of a CSV file; None to find it.
        classes: Where names of classes are collected, if there is a column of them.

    Raises:
        DataError: The file can't be read, lacks a column, or a value is wrong; names the row and the way out.
    """
    content = content_of(path, separator)
    arrival = wanted.arrival or _usual(content)
    times = [arrival, *([wanted.slo] if wanted.slo else [])]
    texts = [column for column in (wanted.class_, wanted.where) if column]
    for named in (*times, *texts):
        if isinstance(named.column, str) and named.column not in content.names:
            raise suggestions.missing_column(content, named.column)
    header = _has_header(content, arrival)
    units: list[Unit | None] = [_unit(content, column, header=header) for column in times]
    types: dict[str | int, Sequence[pa.DataType]] = {column.column: _TEXT for column in texts}
    types |= {column.column: types_of(unit or "iso") for column, unit in zip(times, units, strict=True)}
    order, location = list(types), str(path)
    for row, arrays in drawn_ahead(batches(content, types, header=header), 2):  # decoded while others are converted
        by_column = dict(zip(order, arrays, strict=True))
        numbers: npt.NDArray[np.int64] | range = range(row, row + len(arrays[0]))
        if wanted.where:
            texts_of_rows = by_column[wanted.where.column].cast(pa.string())
            same = pc.call_function("equal", [texts_of_rows, pa.scalar(wanted.where.value)])
            kept = pc.fill_null(same, pa.scalar(False))  # noqa: FBT003 - a value of Arrow
            by_column = {name: array.filter(kept) for name, array in by_column.items()}
            numbers = row + np.flatnonzero(kept.to_numpy(zero_copy_only=False))
        for name, array in by_column.items():
            check_complete(array, location, numbers, name)
        found = [
            _times(by_column[column.column], column, unit, location, numbers)
            for column, unit in zip(times, units, strict=True)
        ]
        if wanted.slo and (found[1] <= 0).any():
            at = int(np.argmax(found[1] <= 0))
            value = shown(int(found[1][at]), units[1] or "s")
            raise DataError(f"{location}, row {numbers[at]}", f"invalid {wanted.slo}", value, "must be above 0")
        codes = None
        if wanted.class_ and classes is not None:
            named = wanted.class_
            codes = classes.codes_of(
                by_column[named.column], location=location, numbers=numbers, name=str(named.column)
            )
        yield Rows(path, numbers, found[0], units[0], found[1] if wanted.slo else None, codes)


def check_order(rows: Rows, before: Rows | None) -> None:
    """Check that no row is earlier than the one before it.

    Raises:
        DataError: One is; names the row and both times.
    """
    location = f"{rows.path}, row "
    backwards = rows.times[1:] < rows.times[:-1]
    if before is not None and rows.times[0] < before.times[-1]:
        at, earlier = 0, int(before.times[-1])
    elif backwards.any():
        at = int(np.argmax(backwards)) + 1
        earlier = int(rows.times[at - 1])
    else:
        return
    problem, hint = "is earlier than the row before", "sort by arrival, or `sort: true`"
    if at == 0 and before is not None and before.path != rows.path:
        problem = f"is earlier than the end of {before.path}"
        hint = "times of all files count from one origin; `sort: true` replays files that overlap at once"
    value = f"{shown(int(rows.times[at]), rows.unit)} < {shown(earlier, rows.unit)}"
    raise DataError(f"{location}{rows.numbers[at]}", problem, value, hint)


def _usual(content: Content) -> TimeColumn:
    found = [name for name in ARRIVALS if name in content.names]
    if len(found) > 1:
        raise DataError(
            str(content.path),
            "has several columns of arrivals",
            ", ".join(found),
            f"name one: arrival: {{column: {found[0]}}}",
        )
    if not found:
        raise suggestions.unknown_columns(content)
    return TimeColumn(found[0])


def _has_header(content: Content, arrival: TimeColumn) -> bool:
    """Return whether the first row of a CSV file is a header: columns are named, or its arrival is not a time."""
    if isinstance(arrival.column, str) or not 1 <= arrival.column <= len(content.names):
        return True
    cell = content.names[arrival.column - 1]
    return not (looks_like_iso(cell) or suggestions.is_number(cell))


def _unit(content: Content, column: TimeColumn, *, header: bool) -> Unit | None:
    """Return the unit of a column; None if its type says it."""
    if content.form in {"parquet", "feather"}:
        kind = content.types[place_of(content, column.column)]
        if pa.types.is_temporal(kind):
            if column.unit not in {None, "iso"}:
                problem = f"{column} has the type {kind}, which has a unit of its own"
                raise DataError(str(content.path), problem, f"unit: {column.unit}", "leave the unit out")
            return None
        if column.known_unit is None:
            raise suggestions.unknown_unit(content, column.column)
        return column.known_unit
    if column.known_unit is not None:
        return column.known_unit
    values = suggestions.first_values(content, column.column, header=header)
    if values and all(looks_like_iso(value) for value in values):
        return "iso"
    raise suggestions.unknown_unit(content, column.column, header=header)


def _times(
    values: pa.Array,
    column: TimeColumn,
    unit: Unit | None,
    location: str,
    numbers: npt.NDArray[np.int64] | range,
) -> npt.NDArray[np.int64]:
    return ns_of(values, unit, name=str(column), location=location, numbers=numbers)
