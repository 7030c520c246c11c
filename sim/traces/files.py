"""Recorded arrivals: any CSV or parquet file with arrival times, and the traces of Azure's language model services."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import DataError
from sim.base.parameters import Positive  # noqa: TC001 - the bounds are read at run time
from sim.base.units import NS_PER_MS
from sim.traces.reading import csv_batches, header_of, ns_of_seconds, require_columns
from sim.traces.source import CHUNK, Recorded, rechunked
from sim.traces.trace import Trace, check_arrivals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    Times = Iterator[npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class File(Recorded):
    """Arrivals from a CSV (or CSV.gz) or parquet file.

    The file has a column `arrival_ns` (integer nanoseconds) or `arrival_s` (seconds), sorted, from 0, and optionally a
    column `slo_ms` with the latency SLO of each query.

    Attributes:
        slo_ms: Latency SLO in milliseconds, or None to read it from the file's column.
    """

    slo_ms: Positive | None = None  # type: ignore[assignment]  # the only source that may find it elsewhere

    kind: ClassVar[str] = "file"

    def chunks(self, seed: int) -> Times:
        """Yield the arrivals of the file.

        Raises:
            DataError: The file can't be read or breaks the rules above; names the row.
        """
        _, time = self._columns()
        return rechunked(self._played(_ordered(self.path, self._times(time))))

    def trace_of(self, arrival_ns: npt.NDArray[np.int64], seed: int) -> Trace:
        """Return the trace of all arrivals, each with its own SLO if `slo_ms` is None.

        Raises:
            DataError: The file can't be read or breaks the rules above; names the row.
        """
        if self.slo_ms is not None:
            return Recorded.trace_of(self, arrival_ns, seed)
        require_columns(Path(self.path), self._columns()[0], ["slo_ms"])
        slo_ns = np.concatenate(list(self._slos(len(arrival_ns))))
        window_ns = self.window_ns(int(arrival_ns[-1]))
        return Trace(arrival_ns, slo_ns, window_ns, self.name, self._provenance(seed))

    @property
    def has_one_slo(self) -> bool:
        """Whether `slo_ms` is given."""
        return self.slo_ms is not None

    @property
    def has_slos(self) -> bool:
        """Whether the file has a column of SLOs.

        Raises:
            DataError: The file can't be read.
        """
        return "slo_ms" in self._columns()[0]

    def _columns(self) -> tuple[list[str], str]:
        """Return the names of the columns, and that of the arrival times."""
        path = Path(self.path)
        names = _parquet(path).schema_arrow.names if path.suffix == ".parquet" else header_of(path)
        time = "arrival_ns" if "arrival_ns" in names else "arrival_s"
        require_columns(path, names, [time])
        return names, time

    def _times(self, column: str) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Yield the first row and the times of each batch."""
        whole = column == "arrival_ns"
        for row, values in self._batches(column, pa.int64() if whole else pa.float64()):
            yield row, values if whole else ns_of_seconds(values, location=self.path, first_row=row)

    def _slos(self, queries: int) -> Times:
        for row, values in self._batches("slo_ms", pa.float64()):
            wrong = ~((values > 0) & (values < np.inf))
            if wrong.any():
                at = int(np.argmax(wrong))
                raise DataError(f"{self.path}, row {row + at}", "invalid slo_ms", str(values[at]), "must be above 0")
            # Rounded as `ns_from_ms` does.
            yield np.rint(values * NS_PER_MS).astype(np.int64)[: max(queries - row + 1, 0)]

    def _batches(self, column: str, kind: pa.DataType) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        path = Path(self.path)
        if path.suffix != ".parquet":
            for row, batch in csv_batches(path, {column: kind}):
                yield row, batch.column(0).to_numpy(zero_copy_only=False)
            return
        row = 1
        try:
            for batch in _parquet(path).iter_batches(batch_size=CHUNK, columns=[column]):
                values = batch.column(0)
                if values.null_count:
                    at = values.is_null().to_pylist().index(True)
                    raise DataError(f"{path}, row {row + at}", f"{column} is empty", "", "must be a number")
                yield row, values.cast(kind).to_numpy(zero_copy_only=False)
                row += len(values)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise DataError(f"{path}, row {row} or after", f"{column} can't be read as {kind}", str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Llm(Recorded):
    """Arrivals of a language model service as Azure publishes them (AzureLLMInferenceTrace, Patel et al., ISCA 2024).

    The column TIMESTAMP has seven decimals, all of which are kept; the first arrival is at 0. Token counts are not
    used.
    """

    kind: ClassVar[str] = "llm"

    def chunks(self, seed: int) -> Times:
        """Yield the arrivals of the file.

        Raises:
            DataError: The file can't be read, lacks TIMESTAMP, or has an invalid time or one earlier than the one
                before it.
        """
        return rechunked(self._played(_ordered(self.path, self._times())))

    def _times(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        first_ns = None
        for row, batch in csv_batches(Path(self.path), {"TIMESTAMP": pa.timestamp("ns")}):
            times = batch.column(0).cast(pa.int64()).to_numpy()
            if len(times):
                first_ns = int(times[0]) if first_ns is None else first_ns
                yield row, times - first_ns


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise DataError(str(path), "file not found", "", "the path of a trace file") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(str(path), "is not a readable parquet file", str(error).partition("\n")[0]) from error


def _ordered(location: str, pieces: Iterable[tuple[int, npt.NDArray[np.int64]]]) -> Times:
    """Yield the pieces of a file, after a check that no time is negative or earlier than the one before it."""
    after_ns = 0
    for row, times in pieces:
        if len(times):
            check_arrivals(times, location=location, first_row=row, after_ns=after_ns)
            after_ns = int(times[-1])
            yield times
