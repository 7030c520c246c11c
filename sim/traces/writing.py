"""Writing of arrivals to a file in a stream; the source `file` reads them back exactly."""

from __future__ import annotations

import gzip
from contextlib import nullcontext
from functools import partial
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import DataError, SpecError
from sim.base.units import NS_PER_MS, NS_PER_S
from sim.base.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    Slo = int | npt.NDArray[np.int64] | None

SUFFIXES = (".parquet", ".csv", ".csv.gz")
"""What a trace can be written to."""


def write_trace(path: Path, chunks: Iterable[npt.NDArray[np.int64]], slo_ns: Slo = None) -> int:
    """Write arrivals to a parquet or CSV file and return their number.

    The file appears when it is complete. Its columns are `arrival_ns` (parquet) or `arrival_s` with nine
    decimals (CSV), and `slo_ms` if there is an SLO.

    Args:
        path: Ends in .parquet, .csv or .csv.gz.
        chunks: Arrival times in nanoseconds, int64, never decreasing.
        slo_ns: Latency SLO in nanoseconds: one for all, one for each, or None to omit it.

    Raises:
        SpecError: The path has another suffix.
        DataError: There are no arrivals, or the number of SLOs differs.
        StoreError: The file can't be written.
    """
    if not path.name.endswith(SUFFIXES):
        raise SpecError(str(path), "unknown trace format", path.suffix, f"one of {', '.join(SUFFIXES)}")
    write = _WRITERS[path.suffix]
    with whole_file(path) as unfinished:
        queries = write(unfinished, _rows(chunks, slo_ns), with_slo=slo_ns is not None)
        if queries == 0:
            raise DataError(str(path), "has no arrivals", "", "a trace needs at least one query")
        if isinstance(slo_ns, np.ndarray) and len(slo_ns) != queries:
            raise DataError("slo_ns", "length differs from the trace", str(len(slo_ns)), f"{queries} arrivals")
    return queries


def _rows(
    chunks: Iterable[npt.NDArray[np.int64]], slo_ns: Slo
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Yield each chunk with the SLOs of its queries in milliseconds."""
    row = 0
    for chunk in chunks:
        slos = slo_ns[row : row + len(chunk)] if isinstance(slo_ns, np.ndarray) else np.full(len(chunk), slo_ns or 0)
        if len(slos) < len(chunk):
            raise DataError(
                "slo_ns", "has fewer elements than the trace has arrivals", str(row + len(slos)), "one for each"
            )
        yield chunk, slos / NS_PER_MS
        row += len(chunk)


def _write_parquet(
    path: Path, rows: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]], *, with_slo: bool
) -> int:
    fields = [("arrival_ns", pa.int64()), ("slo_ms", pa.float64())]
    schema = pa.schema(fields if with_slo else fields[:1])
    queries = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for arrivals, slos in rows:
            writer.write_table(pa.table([arrivals, slos][: len(schema)], schema=schema))
            queries += len(arrivals)
    return queries


def _write_csv(
    path: Path,
    rows: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]],
    *,
    with_slo: bool,
    packed: bool = False,
) -> int:
    queries = 0
    with path.open("wb") as file, _packed(file) if packed else nullcontext(file) as stream:
        stream.write(b"arrival_s,slo_ms\n" if with_slo else b"arrival_s\n")
        for arrivals, slos in rows:
            times = (f"{ns // NS_PER_S}.{ns % NS_PER_S:09d}" for ns in arrivals.tolist())
            lines = (f"{time},{slo!r}" for time, slo in zip(times, slos.tolist(), strict=True)) if with_slo else times
            stream.write("".join(f"{line}\n" for line in lines).encode())
            queries += len(arrivals)
    return queries


def _packed(file: IO[bytes]) -> gzip.GzipFile:
    # Without a name and a time, the same trace packs to the same bytes.
    return gzip.GzipFile("", "wb", fileobj=file, mtime=0)


_WRITERS: dict[str, Callable[..., int]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".gz": partial(_write_csv, packed=True),
}
