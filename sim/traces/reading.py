"""Reading of some columns of a file in batches of bounded memory, with row numbers in messages."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from sim.base.errors import DataError, did_you_mean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from sim.traces.content import Content
    from sim.traces.times import Numbers

    Types = Mapping[str | int, Sequence[pa.DataType]]
    Batches = Iterator[tuple[int, list[pa.Array]]]

BATCH = 65_536
"""Rows of a batch of a binary file."""

_BLOCK_BYTES = 1 << 20
_LARGEST_BLOCK = 1 << 30
"""How much text is parsed at a time, and how long a row may be."""

_FORMS = {
    "decimal128(38, 0)": "a whole number",
    "int64": "a whole number",
    "double": "a number",
    "decimal128": "a number",
    "timestamp": "a time like 2023-11-16 18:17:03.9 or 2024-05-10T00:00:00.5Z, all with a zone or none",
}


def batches(content: Content, columns: Types, *, header: bool = True) -> Batches:
    """Yield some columns of a file batch by batch, each with the number of its first row (from 1).

    Args:
        content: The file.
        columns: The types of each column by its name, or by its number from 1. Of a text file the first type is used
            that all values have. A binary file has types of its own.
        header: Whether the first row of a CSV file holds the names of the columns.

    Raises:
        DataError: The file can't be read, lacks a column, has it twice, or has a value of none of its types; names the
            row.
    """
    places = _places_of(content, columns)
    if content.form == "csv":
        return _csv_batches(content, places, list(columns.values()), header=header)
    names = [content.names[place] for place in places]
    if content.form == "json":
        return _json_batches(content, names, list(columns.values()))
    return _binary_batches(content, places)


def place_of(content: Content, column: str | int) -> int:
    """Return the place of a column, from 0.

    Raises:
        DataError: There is no such column, or there are two.
    """
    return _places_of(content, [column])[0]


def _places_of(content: Content, columns: Iterable[str | int]) -> list[int]:
    names, location = content.names, str(content.path)
    places: dict[str | int, int] = {}
    twice: dict[str, tuple[int, int]] = {}
    for place, name in enumerate(names):
        if places.setdefault(name, place) != place:
            twice.setdefault(name, (places[name] + 1, place + 1))
    found = []
    for column in columns:
        if isinstance(column, int):
            if content.form == "json":
                raise DataError(location, "columns of JSON lines have no numbers", str(column), "give its name")
            if not 1 <= column <= len(names):
                raise DataError(location, "missing column", str(column), f"columns are counted from 1 to {len(names)}")
            found.append(column - 1)
        elif column not in places:
            raise DataError(location, "missing column", repr(column), did_you_mean(column, names[:20]))
        elif column in twice:
            first, second = twice[column]
            raise DataError(location, "has a column twice", repr(column), f"give its number, {first} or {second}")
        else:
            found.append(places[column])
    return found


def numbers_of(content: Content, columns: Mapping[str, pa.DataType]) -> Iterator[tuple[int, list[npt.NDArray[Any]]]]:
    """Yield some columns of numbers of a file as arrays, batch by batch, each with the number of its first row.

    Raises:
        DataError: As `batches`, or a value is missing.
    """
    location, whole = str(content.path), pa.decimal128(38, 0)  # 1.0, as pandas writes a count
    types: Types = {name: (kind, whole) if kind == pa.int64() else (kind,) for name, kind in columns.items()}
    for row, arrays in batches(content, types):
        found = []
        for (name, kind), array in zip(columns.items(), arrays, strict=True):
            if array.null_count:
                check_complete(array, location, range(row, row + len(array)), name)
            if array.type != kind:
                try:
                    array = array.cast(kind)  # noqa: PLW2901 - the same column
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                    problem = f"{name} has the wrong type"
                    raise DataError(location, problem, str(array.type), f"must be {_FORMS[str(kind)]}") from error
            found.append(array.to_numpy())
        yield row, found


def check_complete(array: pa.Array, location: str, numbers: Numbers, name: str | int) -> None:
    """Check that a column has no missing value.

    Raises:
        DataError: It has; names the row.
    """
    if array.null_count:
        at = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"{location}, row {numbers[at]}", f"{name} is empty", "", "each row needs a value")


def _csv_batches(
    content: Content, places: Sequence[int], types: Sequence[Sequence[pa.DataType]], *, header: bool
) -> Batches:
    if header and not content.sample:
        return
    labels = [str(place) for place in range(len(content.names))]  # names may stand twice
    row, block, rung = 1, _BLOCK_BYTES, 0
    while True:
        kinds = {labels[place]: choice[min(rung, len(choice) - 1)] for place, choice in zip(places, types, strict=True)}
        seen = 0
        try:
            with content.opened() as stream:
                reader = pa_csv.open_csv(
                    stream,
                    pa_csv.ReadOptions(block_size=block, column_names=labels, skip_rows=content.lines if header else 0),
                    pa_csv.ParseOptions(delimiter=content.separator, newlines_in_values=True),
                    # An empty cell must fail, not become a null.
                    pa_csv.ConvertOptions(include_columns=list(kinds), column_types=kinds, null_values=[]),
                )
                for batch in reader:
                    seen += len(batch)
                    if seen >= row:
                        fresh = batch.slice(max(0, len(batch) - (seen - row + 1)))
                        yield row, fresh.columns
                        row = seen + 1
                return
        except pa.ArrowInvalid as error:
            if "block" in str(error) and block < _LARGEST_BLOCK:
                block *= 16
            elif rung + 1 < max(map(len, types)):
                rung += 1
            else:
                raise _first_fault(content, places, types, row, str(error), header=header) from error


def _first_fault(
    content: Content,
    places: Sequence[int],
    types: Sequence[Sequence[pa.DataType]],
    row: int,
    otherwise: str,
    *,
    header: bool,
) -> DataError:
    """Return the first error of a CSV file that Arrow refused, at a row or after it."""
    alive = [list(choice) for choice in types]
    for number, cells in enumerate(content.rows(), start=0 if header else 1):
        location = f"{content.path}, row {number}"
        if number == 0:
            continue
        if len(cells) != len(content.names):
            whole = f"the {'header' if header else 'first row'} has {len(content.names)} columns"
            return DataError(location, f"has {len(cells)} cells", "", whole)
        if number > 1 and number < row:
            continue
        for position, place in enumerate(places):
            fitting = [kind for kind in alive[position] if _is(cells[place], kind)]
            if not fitting:
                form = next(
                    (words for kind, words in _FORMS.items() if str(types[position][0]).startswith(kind)), "text"
                )
                name = content.names[place] if header else str(place + 1)
                name = f"column {name}" if name.isdecimal() else name
                return DataError(location, f"invalid {name}", repr(cells[place][:60]), f"must be {form}")
            alive[position] = fitting
    return DataError(str(content.path), "is not a readable CSV file", otherwise)


def _is(text: str, kind: pa.DataType) -> bool:
    try:
        pa.scalar(text if pa.types.is_string(kind) else text.strip()).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _json_batches(content: Content, names: Sequence[str], types: Sequence[Sequence[pa.DataType]]) -> Batches:
    """Yield batches of whole lines."""
    row, rest, rung = 1, b"", 0
    with content.opened() as stream:
        while True:
            block = stream.read(_BLOCK_BYTES)
            lines, _, rest = (rest + block).rpartition(b"\n") if block else (rest, b"", b"")
            if lines.strip():
                table, rung = _parsed(content, names, types, lines, row, rung)
                for batch in table.combine_chunks().to_batches():
                    yield row, batch.columns
                    row += len(batch)
            if not block:
                return


def _parsed(
    content: Content, names: Sequence[str], types: Sequence[Sequence[pa.DataType]], lines: bytes, row: int, rung: int
) -> tuple[pa.Table, int]:
    """Return some lines as a table, and which of the types they have."""
    while True:
        kinds = [choice[min(rung, len(choice) - 1)] for choice in types]
        schema = pa.schema(list(zip(names, kinds, strict=True)))
        try:
            return pa_json.read_json(
                io.BytesIO(lines),
                pa_json.ReadOptions(block_size=len(lines) + 1, use_threads=False),
                pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            ), rung
        except pa.ArrowInvalid as error:
            if rung + 1 >= max(map(len, types)):
                raise _first_json_fault(content, names, types, lines, row, str(error)) from error
            rung += 1


def _first_json_fault(
    content: Content,
    names: Sequence[str],
    types: Sequence[Sequence[pa.DataType]],
    lines: bytes,
    row: int,
    otherwise: str,
) -> DataError:
    for number, line in enumerate(filter(bytes.strip, lines.split(b"\n")), start=row):
        location = f"{content.path}, row {number}"
        shown = one_line(line[:60].decode("utf-8", "replace"))
        try:
            found = json.loads(line)
        except ValueError as error:
            return DataError(location, "is not JSON", shown, str(error))
        if not isinstance(found, dict):
            return DataError(location, "is not a JSON object", shown, "JSON lines: one object per line")
        for name, choice in zip(names, types, strict=True):
            value = found.get(name)
            wanted = str if pa.types.is_timestamp(choice[0]) or pa.types.is_string(choice[0]) else (int, float, str)
            fits = isinstance(value, wanted) and not isinstance(value, bool)
            if not fits or not any(_is(str(value), kind) for kind in choice):
                form = next((words for kind, words in _FORMS.items() if str(choice[0]).startswith(kind)), "text")
                return DataError(location, f"invalid {name}", repr(value)[:60], f"must be {form}")
    return DataError(str(content.path), "is not a readable file of JSON lines", otherwise)


def _binary_batches(content: Content, places: Sequence[int]) -> Batches:
    path, row = content.path, 1
    try:
        if content.form == "parquet":
            file = pq.ParquetFile(path)
            names = [file.schema_arrow.names[place] for place in places]
            for batch in file.iter_batches(BATCH, columns=names):
                yield row, [batch.column(name) for name in names]
                row += len(batch)
            return
        with pa.memory_map(str(path)) as mapped:
            options = pa.ipc.IpcReadOptions(included_fields=sorted(set(places)))
            file = pa.ipc.open_file(mapped, options=options)
            for number in range(file.num_record_batches):
                batch = file.get_batch(number)
                yield row, [batch.column(sorted(set(places)).index(place)) for place in places]
                row += len(batch)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        problem = f"is not a readable {content.form} file"
        raise DataError(f"{path}, row {row} or after", problem, str(error).partition("\n")[0]) from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits.

    Raises:
        DataError: The file can't be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(str(path), "can't be read", error.strerror or str(error)) from error
