"""Reading of CSV files in batches of bounded memory, with row numbers in messages."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from sim.base.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO

    import numpy.typing as npt

BLOCK_BYTES = 1 << 20
"""How much text is parsed at a time."""

_FORMS = {
    pa.int64(): "a whole number",
    pa.float64(): "a number",
    pa.timestamp("ns"): "a time like 2023-11-16 18:17:03.9",
}


@contextmanager
def _readable(path: Path) -> Generator[IO[bytes]]:
    """Open a file, decompressed if its name ends in .gz, and translate errors while reading to `DataError`."""
    try:
        with path.open("rb") as packed:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=packed) as unpacked:
                    yield cast("IO[bytes]", unpacked)
            else:
                yield packed
    except FileNotFoundError as error:
        raise DataError(str(path), "file not found", "", "the path of a trace file") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(str(path), "is damaged or incomplete", str(error), "copy it again") from error
    except OSError as error:
        raise DataError(str(path), "can't be read", error.strerror or str(error)) from error


def header_of(path: Path) -> list[str]:
    """Return the column names of a CSV file.

    Raises:
        DataError: The file can't be read or is empty.
    """
    with _readable(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace") as text:
        names = next(csv.reader(text), [])
    if not names:
        raise DataError(str(path), "is empty", "", "needs a header with column names")
    return names


def require_columns(path: Path, present: Sequence[str], needed: Sequence[str]) -> None:
    """Check that a file has all of some columns.

    Raises:
        DataError: Names the first column that is missing.
    """
    for name in needed:
        if name not in present:
            raise DataError(str(path), "missing column", repr(name), did_you_mean(name, present[:20]))


def csv_batches(path: Path, columns: Mapping[str, pa.DataType]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the named columns of a CSV file batch by batch, each with the number of its first row (from 1).

    Raises:
        DataError: The file can't be read, lacks a column, or has a value of the wrong type, with the row.
    """
    require_columns(path, header_of(path), list(columns))
    row = 1
    try:
        with _readable(path) as stream:
            reader = pa_csv.open_csv(
                stream,
                read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES),
                # An empty cell must fail, not become a null.
                convert_options=pa_csv.ConvertOptions(
                    include_columns=list(columns), column_types=dict(columns), null_values=[]
                ),
            )
            for batch in reader:
                yield row, batch
                row += len(batch)
    except pa.ArrowInvalid as error:
        raise _first_fault(path, columns, str(error)) from error


def _first_fault(path: Path, columns: Mapping[str, pa.DataType], otherwise: str) -> DataError:
    """Return the first error of a file that Arrow refused, found by reading it again row by row."""
    with _readable(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace") as text:
        rows = (row for row in csv.reader(text) if row)
        names = next(rows)
        places = [(names.index(name), name, kind) for name, kind in columns.items()]
        for number, row in enumerate(rows, start=1):
            if len(row) != len(names):
                problem = f"has {len(row)} cells"
                return DataError(f"{path}, row {number}", problem, "", f"the header has {len(names)} columns")
            for place, name, kind in places:
                if kind in _FORMS and not _is(row[place], kind):
                    return DataError(
                        f"{path}, row {number}", f"invalid {name}", repr(row[place]), f"must be {_FORMS[kind]}"
                    )
    return DataError(str(path), "is not a readable CSV file", otherwise)


def _is(text: str, kind: pa.DataType) -> bool:
    try:
        pa.scalar(text).cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def ns_of_seconds(values: npt.NDArray[np.float64], *, location: str, first_row: int) -> npt.NDArray[np.int64]:
    """Return seconds as the nearest nanosecond: exact for decimals of nine digits in the first 26 days.

    (A double holds 2.2e15 ns with an error below half a nanosecond, the multiplication included.)

    Raises:
        DataError: A value is not finite or its nanoseconds leave int64; names the row.
    """
    # 2^63 ns: 292 years.
    wrong = ~(np.abs(values) < 9.2e9)  # noqa: PLR2004 - NaN compares false, too
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{location}, row {first_row + row}", "is not a time", str(values[row]), "seconds, finite")
    return np.rint(values * 1e9).astype(np.int64)


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
