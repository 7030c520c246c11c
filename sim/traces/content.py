"""The form of a file: its packing, format, columns and separator, found by content and not by its name."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import DataError, one_line

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path
    from typing import IO

SEPARATORS = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma", " ": "blank"}
"""What may stand between two cells, in the order in which it is looked for."""

_PACKINGS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_NOT_READ = {
    b"PK\x03\x04": ("is a zip archive", "unpack it first"),
    b"\xfd7zXZ\x00": ("is packed with xz", "pack it with gzip, zstd or bz2"),
    b"\xff\xfe": ("is UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("is UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    b"FEA1": ("is a feather file of version 1", "write it again with pandas or pyarrow"),
}
_READ = "CSV, JSON lines, parquet and feather files are read, also packed with gzip, zstd or bz2"

_HEAD = 1 << 16  # bytes
_SAMPLE = 50  # rows

csv.field_size_limit(2**31 - 1)  # a cell may be a long text


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds.

    Attributes:
        path: The file.
        form: The format.
        packing: The compression, None without one.
        names: Names of the columns: the cells of the first row of a CSV file, whether it is a header or not.
        sample: The first rows of a text file, each with a value for each name; of a CSV file those after the first.
        separator: What separates the cells of a CSV file.
        lines: Number of lines that the first row of a CSV file takes, blank ones before it included.
        types: The types of the columns of a parquet or feather file.
    """

    path: Path
    form: Literal["csv", "json", "parquet", "feather"]
    packing: str | None
    names: tuple[str, ...]
    sample: tuple[tuple[Any, ...], ...] = ()
    separator: str = ","
    lines: int = 1
    types: tuple[pa.DataType, ...] = ()

    @contextmanager
    def opened(self) -> Generator[IO[bytes]]:
        """Open the file, decompressed, and translate errors while reading to `DataError`.

        Runs of blanks become one, where blanks separate.
        """
        with opened(self.path, self.packing) as stream:
            yield _single_blanks(stream) if self.form == "csv" and self.separator == " " else stream

    def rows(self) -> Iterator[list[str]]:
        """Yield the cells of each row of a CSV file, the first included; blank lines are left out.

        Raises:
            DataError: The file can't be read.
        """
        with self.opened() as stream:
            yield from filter(None, _reader(stream, self.separator))


def content_of(path: Path, separator: str | None = None) -> Content:
    """Return what a file holds.

    Args:
        path: The file.
        separator: What separates the cells of a CSV file; None to find it.

    Raises:
        DataError: The file can't be read, is empty, or has a form that is not read; says what it is instead.
    """
    head, packing = _head(path)
    for magic, (problem, hint) in _NOT_READ.items():
        if head.startswith(magic):
            raise DataError(str(path), problem, "", hint)
    form = {b"PAR1": "parquet", b"ARRO": "feather"}.get(head[:4])
    if form:
        if packing:
            raise DataError(str(path), f"is a {form} file packed with {packing}", "", "unpack it first")
        with _arrow(path):
            schema = pq.read_schema(path) if form == "parquet" else pa.ipc.open_file(path).schema
        return Content(path, cast("Any", form), None, tuple(schema.names), types=tuple(schema.types))
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise DataError(str(path), "is empty", "", "needs a header with column names")
    if b"\0" in text:
        raise DataError(str(path), "is neither text nor a known binary format", repr(head[:8]), _READ)
    if text.startswith(b"[") and text[1:].lstrip()[:1] in {b"{", b"]"}:
        raise DataError(str(path), "is one JSON array", "", "write one object per line: jq -c '.[]'")
    whole = len(head) < _HEAD
    if text.startswith(b"{"):
        return _json_content(path, packing, text, whole=whole)
    return _csv_content(path, packing, head, separator, whole=whole)


def _head(path: Path) -> tuple[bytes, str | None]:
    """Return the beginning of a file, decompressed, with one line at least, and its compression."""
    with opened(path, None) as stream:
        magic = stream.read(4)
    packing = next((name for start, name in _PACKINGS.items() if magic.startswith(start)), None)
    with opened(path, packing) as stream:
        head = more = stream.read(_HEAD)
        while more and not re.search(rb"[\r\n]", head.strip()) and b"\0" not in more:
            more = stream.read(len(head))
            head += more
    return head, packing


@contextmanager
def opened(path: Path, packing: str | None) -> Generator[IO[bytes]]:
    """Open a file, decompressed, and translate errors while reading to `DataError`."""
    try:
        with pa.OSFile(str(path)) as packed:
            yield cast("IO[bytes]", pa.CompressedInputStream(packed, packing) if packing else packed)
    except FileNotFoundError as error:
        raise DataError(str(path), "file not found", "", "the path of a trace file") from error
    except OSError as error:
        if error.errno is None and packing:  # the decompressor's own
            raise DataError(str(path), "is damaged or incomplete", str(error), "copy it again") from error
        raise DataError(str(path), "can't be read", error.strerror or str(error)) from error


@contextmanager
def _arrow(path: Path) -> Generator[None]:
    """Translate errors of reading a parquet or feather file."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        problem = "is not a readable parquet or feather file"
        raise DataError(str(path), problem, str(error).partition("\n")[0], "copy it again") from error


def _json_content(path: Path, packing: str | None, text: bytes, *, whole: bool) -> Content:
    lines = text.splitlines()
    if not whole and len(lines) > 1:
        lines.pop()  # cut off
    rows = []
    for line in lines[:_SAMPLE]:
        try:
            row = json.loads(line)
        except ValueError:
            break  # reading it reports the fault
        if isinstance(row, dict):
            rows.append(row)
    if not rows:
        shown = one_line(lines[0][:60].decode("utf-8", "replace"))
        raise DataError(f"{path}, row 1", "is not a JSON object on one line", shown, "JSON lines: one object per line")
    names = tuple(dict.fromkeys(key for row in rows for key in row))
    return Content(path, "json", packing, names, tuple(tuple(row.get(name) for name in names) for row in rows))


def _csv_content(path: Path, packing: str | None, head: bytes, separator: str | None, *, whole: bool) -> Content:
    if separator is None:
        parsed = {candidate: _sampled(head, candidate, whole=whole)[0] for candidate in SEPARATORS}
        split = {candidate: rows for candidate, rows in parsed.items() if len(rows[0]) > 1}
        alike = (candidate for candidate, rows in split.items() if len({len(row) for row in rows}) == 1)
        separator = next(alike, next(iter(split), ","))
    (first, *others), lines = _sampled(head, separator, whole=whole)
    names = tuple(name.strip() for name in first)
    return Content(path, "csv", packing, names, tuple(map(tuple, others)), separator, lines)


def _sampled(head: bytes, separator: str, *, whole: bool) -> tuple[list[list[str]], int]:
    """Return the first rows of a file, and the lines that the first takes."""
    stream: IO[bytes] = io.BytesIO(head)
    reader = _reader(_single_blanks(stream) if separator == " " else stream, separator)
    first = next(row for row in reader if row)
    lines, rows = reader.line_num, [first]
    rows += [row for row, _ in zip(filter(None, reader), range(_SAMPLE), strict=False)]
    return (rows if whole or len(rows) in {1, _SAMPLE + 1} else rows[:-1]), lines  # the last may be cut off


def _reader(stream: IO[bytes], separator: str) -> Any:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
    return csv.reader(text, delimiter=separator)


def _single_blanks(stream: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(_SingleBlanks(stream), 1 << 20))


class _SingleBlanks(io.RawIOBase):
    """A stream of lines with one blank for each run of them, none at the ends."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._rest = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = self._stream.read(1 << 20)
            lines, newline, self._rest = (self._rest + block).rpartition(b"\n")
            if not block:
                lines, self._rest = self._rest, b""
                if not lines:
                    return 0
            self._ready = re.sub(rb"(?m)^ +| +$| +(?=\r$)", b"", re.sub(rb" +", b" ", lines)) + newline
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size
