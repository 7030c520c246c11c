"""Recorded arrivals: any CSV, JSON lines, parquet or feather file with a column of arrival times."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from sim.base.errors import DataError, SpecError, TooLongError
from sim.base.parameters import Milliseconds, check_parameters
from sim.base.streams import stream
from sim.traces.classes import ClassColumn, Classes
from sim.traces.content import SEPARATORS, content_of
from sim.traces.inspection import Inspection, inspect, length, step_of
from sim.traces.rows import Rows, WantedColumns, Where, check_order, rows_of
from sim.traces.source import CHUNK, MAX_ARRIVALS, Recorded, rechunked
from sim.traces.times import NS_PER, TimeColumn, Unit, shown, unix_unit
from sim.traces.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    Times = npt.NDArray[np.int64]

_SLOS = TimeColumn("slo_ms", "ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class File(Recorded):
    """Arrivals from files: CSV, JSON lines, parquet or feather, also packed with gzip, zstd or bz2.

    Without `arrival`, a column `arrival_s`, `arrival_ms`, `arrival_us` or `arrival_ns` holds the arrival times.

    Attributes:
        slo_ms: Latency SLO of all queries in milliseconds, or None to read it from the column of `slo`.
        arrival: The column of arrival times and its unit, such as {column: TIMESTAMP, unit: iso}.
        origin: Time 0: `first` is the first arrival, `zero` that of the file. None takes times as they stand if the
            first lies nearer to 0 than the recording is long, and else shifts the first to 0, and says so.
        sort: Sort the rows by arrival; without it, a row earlier than the one before it is refused.
        spread: Place arrivals at random within a step of the file's clock, where it is coarser than service times.
        slo: The column of latency SLOs and its unit, in place of `slo_ms`. None for a column `slo_ms`.
        class_: The column that holds the class of each query, such as {column: tenant}.
        where: The rows that count, such as {column: metric_name, value: http_reqs}; None for all.
        separator: What separates the cells of a CSV file: a character, or its name (tab, semicolon, bar, comma,
            blank). None to find it.
    """

    slo_ms: Milliseconds | None = None  # type: ignore[assignment]  # the only source that may find it elsewhere
    arrival: TimeColumn | None = None
    origin: Literal["first", "zero"] | None = None
    sort: bool = False
    spread: bool = False
    slo: TimeColumn | None = None
    class_: ClassColumn | None = None
    where: Where | None = None
    separator: str | None = None

    kind: ClassVar[str] = "file"

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.slo is not None and self.slo_ms is not None:
            raise SpecError("File.slo", "cannot be combined with slo_ms", "", "give one of the two")
        if self.slo is not None and self.slo.unit == "iso":
            raise SpecError("File.slo", "is a length of time", "iso", "unit: s, ms, us or ns")
        if self.separator is not None and self._separator is None:
            hint = f"one character, or one of {', '.join(SEPARATORS.values())}"
            raise SpecError("File.separator", "unknown separator", repr(self.separator), hint)

    @property
    def _separator(self) -> str | None:
        if self.separator is None or len(self.separator) == 1:
            return self.separator
        return next((character for character, name in SEPARATORS.items() if name == self.separator), None)

    @property
    def has_one_slo(self) -> bool:
        """Whether `slo_ms` is given."""
        return self.slo_ms is not None

    @property
    def has_classes(self) -> bool:
        """Whether `class` is given."""
        return self.class_ is not None

    @property
    def has_slos(self) -> bool:
        """Whether the first file has a column of SLOs.

        Raises:
            DataError: The file can't be read.
        """
        return self.slo is not None or _SLOS.column in content_of(self.inputs()[0], self._separator).names

    @property
    def is_random(self) -> bool:
        """Whether arrivals are placed at random."""
        return self.spread

    def chunks(self, seed: int) -> Iterator[Times]:
        """Yield the arrivals of the files.

        Raises:
            DataError: A file can't be read or breaks the rules above; names the row.
        """
        pieces = self._from_origin(rows.times for rows in self._ordered())
        return rechunked(self._played(self._spread(pieces, seed) if self.spread else pieces))

    def trace_of(self, arrival_ns: Times, seed: int) -> Trace:
        """Return the trace of all arrivals, each with its SLO if `slo_ms` is None, and with its class if it has one.

        Raises:
            DataError: A file can't be read or breaks the rules above; names the row.
        """
        if self.has_one_slo and not self.has_classes:
            return Recorded.trace_of(self, arrival_ns, seed)
        classes = Classes()
        found = list(self._rows(None if self.has_one_slo else self.slo or _SLOS, classes))
        slos: npt.NDArray[np.int64] = np.concatenate(
            [rows.slos for rows in found if rows.slos is not None] or [np.empty(0, np.int64)]
        )
        codes = np.concatenate([rows.codes for rows in found if rows.codes is not None] or [np.empty(0, np.uint16)])
        codes, names = classes.in_order(codes, location=str(self.inputs()[0]))
        if self.sort:  # of equal arrivals, the order in the file means nothing
            times = np.concatenate([rows.times for rows in found])
            order = np.lexsort([key for key in (codes, slos, times) if len(key)])
            slos = slos[order] if len(slos) else slos
            codes = codes[order] if len(codes) else codes
        queries = len(arrival_ns)
        return Trace(
            arrival_ns,
            round(self.slo_ms * 1e6) if self.slo_ms is not None else slos[:queries],
            self.window_ns(int(arrival_ns[-1])),
            self.name,
            self._provenance(seed),
            codes[:queries] if self.has_classes else None,
            names,
        )

    def window_ns(self, last_ns: int) -> int:
        """Return the duration, given the last arrival; a spread trace ends with the last step of its clock."""
        if self.spread and self.duration_s is None:
            times = np.concatenate(list(self._from_origin(rows.times for rows in self._ordered())))
            return max(1, round((int(times[-1]) + self._step(times)) / self.speedup))
        return Recorded.window_ns(self, last_ns)

    def notes(self) -> tuple[str, ...]:
        """Return what is unusual in the recording, and what is done about it.

        Raises:
            DataError: A file can't be read or breaks the rules above; names the row.
        """
        found, unit, moved = _inspected(self, tuple(map(_stamp, self.inputs())))
        if found is None:
            return ()
        notes = []
        if moved:
            notes.append(f"{moved:,} of {found.queries:,} rows were earlier than the row before: sorted")
        origin_ns = self._origin_ns(found.first_ns, found.last_ns)
        if self.origin is None and origin_ns:
            date = f", {shown(origin_ns, 'iso')} UTC" if unit not in {None, "iso"} and origin_ns > _RECENT_NS else ""
            likely = None if unit is None or unit == "iso" else unix_unit(origin_ns / NS_PER[unit])
            doubt = "" if likely in {None, unit} else f"; in {likely} it would be a Unix time"
            notes.append(
                f"the first arrival is at {shown(origin_ns, unit)}{date}: shifted to 0 (`origin: zero` leaves times as "
                f"they are){doubt}"
            )
        if found.is_coarse and not self.spread:
            notes.append(
                f"{found.distinct:,} distinct times among {found.queries:,} arrivals, a clock of "
                f"{length(found.clock_ns)}: `spread: true` places them within a step"
            )
        if found.has_gap:
            after = length(max(0, found.gap_after_ns - found.first_ns))
            notes.append(f"no arrivals for {length(found.gap_ns)}, beginning {after} after the first")
        return tuple(notes)

    def inspected(self) -> tuple[Inspection | None, Unit | None, int]:
        """Return what a pass over the files finds, the unit of their times, and how many rows were out of order.

        Raises:
            DataError: A file can't be read or breaks the rules above; names the row.
        """
        unit: Unit | None = None
        moved = 0
        if self.sort:
            last_ns: int | None = None
            for rows in self._rows():
                steps = np.diff(rows.times, prepend=rows.times[0] if last_ns is None else last_ns)
                moved, last_ns = moved + int((steps < 0).sum()), int(rows.times[-1])

        def times() -> Iterator[Times]:
            nonlocal unit
            for rows in self._ordered():
                unit = rows.unit
                yield rows.times

        found = inspect(times())
        return found, unit, moved

    def _origin_ns(self, first_ns: int, last_ns: int) -> int:
        """Return the time of the file that is time 0, given its first and last arrival."""
        if self.origin is not None:
            return first_ns if self.origin == "first" else 0
        return first_ns if first_ns >= last_ns - first_ns else 0

    def _rows(self, slo: TimeColumn | None = None, classes: Classes | None = None) -> Iterator[Rows]:
        """Yield the rows of all files that count."""
        wanted = WantedColumns(self.arrival, slo, None if classes is None else self.class_, self.where)
        for path in self.inputs():
            for rows in rows_of(path, wanted, self._separator, classes):
                if len(rows.times):
                    yield rows

    def _ordered(self) -> Iterator[Rows]:
        """Yield the rows in order of time: sorted, or checked.

        Raises:
            DataError: A time is earlier than the one before it, or negative; names the row.
        """
        before: Rows | None = None
        for rows in _sorted(self._rows()) if self.sort else self._rows():
            check_order(rows, before)
            if before is None and rows.times[0] < 0 and self.origin != "first":
                hint = "time starts at 0: `origin: first` takes the first arrival for it"
                location = f"{rows.path}, row {rows.numbers[0]}"
                raise DataError(location, "is negative", shown(int(rows.times[0]), rows.unit), hint)
            before = rows
            yield rows

    def _from_origin(self, pieces: Iterable[Times]) -> Iterator[Times]:
        """Yield times from the origin; pieces are held until it is known."""
        held: list[Times] = []
        origin_ns: int | None = None
        for piece in pieces:
            if origin_ns is None:
                held.append(piece)
                first_ns, last_ns = int(held[0][0]), int(piece[-1])
                if self.origin is None and self._origin_ns(first_ns, last_ns):
                    if sum(map(len, held)) > MAX_ARRIVALS:
                        location, problem = str(self.inputs()[0]), "has more queries than fit into memory"
                        raise TooLongError(location, problem, "", "with `origin: first` it can be streamed")
                    continue
                origin_ns = self._origin_ns(first_ns, last_ns)
                yield from (times - origin_ns if origin_ns else times for times in held)
                held.clear()
            else:
                yield piece - origin_ns if origin_ns else piece
        yield from (times - held[0][0] for times in held)

    def _spread(self, pieces: Iterable[Times], seed: int) -> Iterator[Times]:
        """Yield the arrivals placed within a step of the clock, uniformly at random."""
        times = np.concatenate([np.empty(0, np.int64), *pieces])
        if not len(times):
            return
        step = self._step(times)
        distinct, place = np.unique(times, return_inverse=True)
        room = np.minimum(np.diff(distinct, append=distinct[-1] + step), step)[place]
        times = np.sort(times + (stream(seed, "spread").random(len(times)) * room).astype(np.int64))
        yield from (times[start : start + CHUNK] for start in range(0, len(times), CHUNK))

    def _step(self, times: Times) -> int:
        gaps = np.diff(times)
        if not gaps.any():
            location = str(self.inputs()[0])
            raise DataError(
                location, "all arrivals have one time", "", "leave out `spread`: no step of a clock is known"
            )
        return step_of(gaps[gaps > 0])


_RECENT_NS = 946_684_800 * 10**9
"""The year 2000: larger numbers are shown as a date, too."""


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file does; None if there is none."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=8)
def _inspected(source: File, _stamps: object) -> tuple[Inspection | None, Unit | None, int]:
    return source.inspected()


def _sorted(pieces: Iterable[Rows]) -> Iterator[Rows]:
    """Yield rows sorted by time, all at once."""
    found = list(pieces)
    if found:
        times = np.sort(np.concatenate([rows.times for rows in found]))
        yield found[0]._replace(times=times, numbers=range(1, len(times) + 1))
