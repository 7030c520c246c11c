"""The interface of trace sources: arrivals in chunks of bounded memory, or joined into one `Trace`."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

import numpy as np

from sim.base.errors import NoArrivalsError, TooLongError
from sim.base.parameters import Milliseconds, Parameters, Positive
from sim.base.units import ns_from_ms, ns_from_s
from sim.traces.reading import sha256_of
from sim.traces.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

_T = TypeVar("_T")

CHUNK = 65_536
"""Approximate number of arrivals in a chunk: half a megabyte, small beside a run, large beside the cost of a call."""

MAX_ARRIVALS = 100_000_000
"""Maximum number of arrivals in memory: they take one gigabyte, their results several."""

_SUFFIXES = tuple(
    f".{end}"
    for end in ["gz", "zst", "bz2", "csv", "tsv", "txt", "json", "jsonl", "parquet", "parq", "pq", "feather", "arrow"]
)

_AHEAD = 32  # chunks: more than a minute of the largest trace


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource(Parameters, ABC):
    """A source of arrivals; the fields of a subclass are its parameters in an experiment file.

    Attributes:
        slo_ms: Latency SLO of each query in milliseconds, from arrival to answer.

    Raises:
        SpecError: A parameter is not a number or out of range.
    """

    slo_ms: Milliseconds

    kind: ClassVar[str]
    """Name of the source in experiment files."""

    @abstractmethod
    def chunks(self, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the arrival times in nanoseconds, int64, about `CHUNK` at a time, never decreasing from first to last.

        The same seed gives the same arrivals; memory does not grow with their number.
        """

    @property
    @abstractmethod
    def duration_ns(self) -> int:
        """Length of the observed window in nanoseconds; sources that replay a file read it for this."""

    @property
    def has_one_slo(self) -> bool:
        """Whether all queries have the same SLO; only a file may have others."""
        return True

    @property
    def has_classes(self) -> bool:
        """Whether each query has a class; only a file may have them."""
        return False

    @property
    def is_random(self) -> bool:
        """Whether the arrivals depend on the seed."""
        return True

    def inputs(self) -> tuple[Path, ...]:
        """Return the input files: those in a field `path`, none for a generator."""
        return files_of(getattr(self, "path", None) or ())

    def notes(self) -> tuple[str, ...]:
        """Return what is unusual in a recording, and what is done about it, in a sentence each."""
        return ()

    def located(self, folder: Path) -> Self:
        """Return the source with its path, if it has one, taken relative to a folder and made absolute."""
        path = getattr(self, "path", None)
        if path is None:
            return self
        found = [str((folder / Path(each).expanduser()).absolute()) for each in _paths(path)]
        return dataclasses.replace(self, path=found[0] if isinstance(path, str) else tuple(found))  # type: ignore[call-arg]  # the field `path` was just found

    def trace(self, seed: int) -> Trace:
        """Return all arrivals as one trace, with its provenance: kind, parameters, seed, sha256 of its files.

        Raises:
            TooLongError: There are more than `MAX_ARRIVALS`.
            DataError: There are no arrivals, or the file breaks its rules.
        """
        return self.trace_of(self.arrivals(seed), seed)

    def arrivals(self, seed: int, limit: int = MAX_ARRIVALS) -> npt.NDArray[np.int64]:
        """Return all arrival times in nanoseconds, int64, shape (queries,).

        Raises:
            TooLongError: There are more than `limit`.
            DataError: There are no arrivals, or the file breaks its rules.
        """
        chunks: list[npt.NDArray[np.int64]] = []
        count = 0
        for chunk in self.chunks(seed):
            chunks.append(chunk)
            count += len(chunk)
            if count > limit:
                problem = "has more queries than fit into memory"
                hint = "keep: windows streams those with one SLO, one queue and no classes, in the compiled engine"
                raise TooLongError(f"trace {self.name}", problem, f"over {limit}", hint)
        if not count:
            raise self._no_arrivals()
        joined = np.concatenate(chunks)
        joined.flags.writeable = False  # so that a trace keeps it without a copy
        return joined

    def trace_of(self, arrival_ns: npt.NDArray[np.int64], seed: int) -> Trace:
        """Return the trace of all arrivals of a seed."""
        return Trace(
            arrival_ns,
            slo_ns=ns_from_ms(self.slo_ms),
            duration_ns=self.window_ns(int(arrival_ns[-1])),
            name=self.name,
            provenance=self._provenance(seed),
        )

    @property
    def name(self) -> str:
        """Name of the trace in tables and figures: that of its file, or its kind."""
        files = files_of(getattr(self, "path", None) or ())
        if not files or files[0].is_dir():
            return self.kind
        stem = files[0].name
        while stem.endswith(_SUFFIXES):
            stem = stem.rpartition(".")[0]
        return stem if len(files) == 1 else f"{stem}+{len(files) - 1}"

    def window_ns(self, last_ns: int) -> int:
        """Return the duration, given the last arrival, so that no file is read twice."""
        return self.duration_ns

    def _provenance(self, seed: int) -> dict[str, object]:
        parameters = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        found: dict[str, object] = {"kind": self.kind, "parameters": parameters, "seed": seed}
        if files := self.inputs():
            found["sha256"] = {path.name: sha256_of(path) for path in files}
        return found

    def _no_arrivals(self) -> NoArrivalsError:
        location = str(self.inputs()[0]) if self.inputs() else f"trace {self.kind}"
        return NoArrivalsError(
            location, "has no arrivals", "", "a trace needs at least one query: use a longer duration or a higher rate"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(TraceSource):
    """A source that replays arrivals recorded in a file.

    Attributes:
        path: The file, or several that are one trace: a list of paths, or a pattern such as day*.csv. `~` is the
            home folder.
        speedup: Factor by which time is divided: 2 halves the trace and doubles its rate.
        duration_s: Time of the cut in seconds after the speed-up, or None for the whole trace. It is the observed
            window even if the file ends before.
    """

    path: str | tuple[str, ...]
    speedup: Positive = 1.0
    duration_s: Positive | None = None

    @property
    def is_random(self) -> bool:
        """False: a recording is the same for all seeds."""
        return False

    @property
    def duration_ns(self) -> int:
        """The time of the cut, or of the last arrival if there is none; reads the file."""
        last_ns = -1
        for chunk in self.chunks(0):
            last_ns = int(chunk[-1])
        if last_ns < 0:
            raise self._no_arrivals()
        return self.window_ns(last_ns)

    def window_ns(self, last_ns: int) -> int:
        """Return the duration, given the last arrival, so that the file is not read twice."""
        # A window has a length even if its only arrival is at 0.
        return max(last_ns, 1) if self.duration_s is None else ns_from_s(self.duration_s)

    def _played(self, pieces: Iterable[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.int64]]:
        """Yield recorded times sped up and cut; nothing is read after the cut."""
        end_ns = None if self.duration_s is None else ns_from_s(self.duration_s)
        for piece in pieces:
            times = piece if self.speedup == 1 else np.rint(piece / self.speedup).astype(np.int64)
            kept = times if end_ns is None else times[: np.searchsorted(times, end_ns)]
            if len(kept):
                yield kept
            if len(kept) < len(times):
                return


def files_of(path: str | Sequence[str]) -> tuple[Path, ...]:
    """Return the files that paths stand for; those of a pattern in order of their names, day2 before day10."""
    found: list[Path] = []
    for each in _paths(path):
        place = Path(each).expanduser()
        matching: Iterable[Path] = ()
        if any(mark in each for mark in "*?[") and not place.exists():
            matching = Path(place.anchor).glob(str(place.relative_to(place.anchor)))
        found += sorted(matching, key=_natural) or [place]
    return tuple(found)


def _paths(path: str | Sequence[str]) -> Sequence[str]:
    return (path,) if isinstance(path, str) else path


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", str(path))]


def drawn_ahead(chunks: Iterable[_T], ahead: int = _AHEAD) -> Iterator[_T]:
    """Yield the same chunks, so many of them drawn ahead in a second thread; no chunk is None."""
    source = iter(chunks)
    pool = ThreadPoolExecutor(1)
    try:
        drawn = deque(pool.submit(next, source, None) for _ in range(ahead))
        while (chunk := drawn.popleft().result()) is not None:
            drawn.append(pool.submit(next, source, None))
            yield chunk
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # an early stop waits for one chunk, not for all


def rechunked(pieces: Iterable[npt.NDArray[np.int64]], size: int = CHUNK) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the same numbers in arrays of exactly `size`, except the last.

    Examples:
        >>> [chunk.tolist() for chunk in rechunked([np.array([1, 2, 3]), np.array([4]), np.array([5])], size=2)]
        [[1, 2], [3, 4], [5]]
    """
    held: list[npt.NDArray[np.int64]] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= size:
            joined = held[0] if len(held) == 1 else np.concatenate(held)
            whole = count - count % size
            yield from (joined[start : start + size] for start in range(0, whole, size))
            held, count = [joined[whole:].copy()] if whole < count else [], count - whole
    if count:
        yield np.concatenate(held)
