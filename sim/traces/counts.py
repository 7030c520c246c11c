"""Recorded numbers of arrivals in bins: counts of requests, and the windows of ServeGen's clients."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from sim.base.errors import DataError, SpecError
from sim.base.parameters import Positive, check_parameters
from sim.base.streams import stream
from sim.base.units import ns_from_s
from sim.traces import suggestions
from sim.traces.azure import placed, unshrunk
from sim.traces.content import content_of
from sim.traces.reading import batches, check_complete
from sim.traces.source import Recorded, rechunked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from sim.traces.content import Content

    Times = npt.NDArray[np.int64]
    Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binned(Recorded):
    """A recording of bins, in each of which arrivals are placed at random."""

    @property
    def is_random(self) -> bool:
        """True: arrivals are placed at random in their bins."""
        return True

    @property
    def duration_ns(self) -> int:
        """The time of the cut, or the end of the last bin; reads the files."""
        if self.duration_s is not None:
            return ns_from_s(self.duration_s)
        return max(1, round(self.end_ns() / self.speedup))

    def window_ns(self, last_ns: int) -> int:
        """Return the duration; the last arrival does not tell it."""
        return self.duration_ns

    @abstractmethod
    def end_ns(self) -> int:
        """Return the end of the last bin, before the speed-up; reads the files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts(Binned):
    """Arrivals counted in bins of equal length, a row for each bin: each bin has its count, at random times in it.

    Attributes:
        bin_s: Length of a bin in seconds.
        series: The columns of counts, by name or by number from 1, which are added up. None if there is one column.
    """

    bin_s: Positive
    series: tuple[str | int, ...] | None = None

    kind: ClassVar[str] = "counts"

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.series is not None and len(set(self.series)) < max(1, len(self.series)):
            raise SpecError(
                "Counts.series", "names no column, or one twice", str(list(self.series)), "each column once"
            )

    def counts(self) -> npt.NDArray[np.int64]:
        """Return the arrivals in each bin, int64, shape (bins,): the rows of all files, one after the other.

        Raises:
            DataError: A file can't be read, lacks a column, or a count is not a whole number of 0 or more.
        """
        found = [np.empty(0, np.int64)]
        for path in self.inputs():
            content = content_of(path)
            series, header = self._columns(content)
            for row, columns in batches(content, dict.fromkeys(series, (pa.float64(),)), header=header):
                total = np.zeros(len(columns[0]))
                for name, column in zip(series, columns, strict=True):
                    total += _whole(column, path, row, name)
                found.append(total.astype(np.int64))
        return np.concatenate(found)

    def end_ns(self) -> int:
        """Return the end of the last bin."""
        return len(self.counts()) * ns_from_s(self.bin_s)

    def chunks(self, seed: int) -> Iterator[Times]:
        """Yield the arrivals.

        Raises:
            DataError: As `counts`.
        """
        return rechunked(self._played(unshrunk(self.counts(), ns_from_s(self.bin_s), seed)))

    def _columns(self, content: Content) -> tuple[tuple[str | int, ...], bool]:
        """Return the columns of counts, and whether the file has a header."""
        bare = content.form == "csv" and all(map(suggestions.is_number, content.names))
        if self.series is not None:
            return self.series, not bare
        if len(content.names) > 1:
            names = [str(number) for number in range(1, len(content.names) + 1)] if bare else list(content.names)
            hint = f"columns: {', '.join(names[:12])}; such as series: [{names[-1]}] (`--set series=[{names[-1]}]`)"
            raise DataError(str(content.path), "has several columns, and series is not given", "", hint)
        return (content.names if not bare else (1,)), not bare


def _whole(column: pa.Array, path: Path, row: int, name: str | int) -> Numbers:
    """Return counts, checked."""
    check_complete(column, str(path), range(row, row + len(column)), name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(str(path), f"{name} does not hold counts", str(column.type), "name another column: series")
    counts: Numbers = column.cast(pa.float64()).to_numpy()
    wrong = ~((counts >= 0) & (counts < 2**53) & (counts == np.rint(counts)))
    if wrong.any():
        at = int(np.argmax(wrong))
        hint = "a whole number of 0 or more"
        raise DataError(f"{path}, row {row + at}", f"invalid count in column {name}", f"{counts[at]:g}", hint)
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeGen(Binned):
    """Clients of ServeGen (Xiang et al., NSDI 2026): a file each, a row for each window: its rate and law of gaps.

    A file is a `chunk-*-trace.csv`, without a header: start of the window in seconds, rate in requests per second,
    coefficient of variation, law (Gamma or Weibull), shape, scale. A window has rate times length requests, whose gaps
    follow the law of its shape, scaled to fill the window, as in ServeGen's own generator. All clients arrive together.
    """

    kind: ClassVar[str] = "servegen"

    def end_ns(self) -> int:
        """Return the end of the last window."""
        starts, window_ns, _ = self._windows()
        return int(starts[-1]) + window_ns if len(starts) else 0

    def chunks(self, seed: int) -> Iterator[Times]:
        """Yield the arrivals of all clients.

        Raises:
            DataError: A file can't be read, or a row is not a window.
        """
        starts, window_ns, clients = self._windows()

        def arrivals(number: int) -> Times:
            found = []
            for client, (rates, laws, shapes) in enumerate(clients):
                count = round(rates[number] * window_ns / 1e9)
                if count:
                    rng = stream(seed, f"servegen.{client}", number)
                    draw: Callable[..., Any] = rng.standard_gamma if laws[number] == "Gamma" else rng.weibull
                    found.append(placed(rng, count, window_ns, partial(draw, shapes[number])))
            return np.asarray(starts[number] + np.sort(np.concatenate(found or [np.empty(0, np.int64)])))

        return rechunked(self._played(arrivals(number) for number in range(len(starts))))

    def _windows(self) -> tuple[Times, int, list[tuple[Numbers, list[str], Numbers]]]:
        """Return the starts of windows and their length in nanoseconds, and rates, laws and shapes of each client."""
        clients = []
        starts: Times | None = None
        window_ns = 0
        for path in self.inputs():
            content = content_of(path)
            if len(content.names) != _WIDTH:
                raise DataError(str(path), "is not a client of ServeGen", f"{len(content.names)} columns", "6 columns")
            # Law, shape and scale of a window without requests may be empty.
            types: dict[str | int, Sequence[pa.DataType]] = {
                number: (pa.float64() if number < _LAW else pa.string(),) for number in range(1, _WIDTH + 1)
            }
            found = list(batches(content, types, header=False))
            columns = [pa.concat_arrays([arrays[place] for _, arrays in found]) for place in range(_WIDTH)]
            begins = np.rint(columns[0].to_numpy() * 1e9).astype(np.int64)
            steps = np.unique(np.diff(begins))
            if len(steps) != 1 or steps[0] <= 0 or (starts is not None and not np.array_equal(begins, starts)):
                raise DataError(str(path), "windows are not of one length, or not those of the other clients")
            starts, window_ns = begins, int(steps[0])
            rates, laws = columns[1].to_numpy(), columns[3].to_pylist()
            shapes = np.array(
                [float(text) if law else 1.0 for law, text in zip(laws, columns[4].to_pylist(), strict=True)]
            )
            for row, (rate, law) in enumerate(zip(rates, laws, strict=True), start=1):
                if not 0 <= rate < np.inf or (rate > 0 and law not in {"Gamma", "Weibull"}):
                    raise DataError(f"{path}, row {row}", "is not a window", f"rate {rate:g}, law {law!r}")
            clients.append((rates, laws, shapes))
        return np.empty(0, np.int64) if starts is None else starts, window_ns, clients


_WIDTH = 6
_LAW = 4
