"""The Azure Functions traces of 2019 and 2021 from their files (Azure/AzurePublicDataset, CC-BY 4.0).

2019 (Shahrad et al., "Serverless in the Wild", USENIX ATC 2020) counts the invocations of each function in each minute
of 14 days; 2021 (Zhang et al., SOSP 2021) has one line for each invocation of a smaller sample.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import annotated_types as at
import numpy as np
import pyarrow as pa
from platformdirs import user_cache_path

from sim.base.errors import DataError, SpecError
from sim.base.parameters import Positive, PositiveInt, Share, check_parameters
from sim.base.streams import stream
from sim.base.units import NS_PER_S, ns_from_s
from sim.traces.azure import MINUTES_A_DAY, shrunk, unshrunk
from sim.traces.content import content_of
from sim.traces.reading import batches, numbers_of
from sim.traces.source import CHUNK, Recorded, TraceSource
from sim.traces.times import ns_of_floats

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from sim.traces.content import Content

DAY_FILE = "invocations_per_function_md.anon.d{:02d}.csv"
"""The file of one day."""

NS_PER_MINUTE = 60 * NS_PER_S

_MINUTE = re.compile(r"(\d+)(_minute)?")


def azure2019_folder() -> Path:
    """Return the default folder of the day files, which `ssim trace fetch azure2019` fills.

    It is in the user's cache folder: on Linux ~/.cache, or $XDG_CACHE_HOME.
    """
    return user_cache_path("ssim", appauthor=False) / "azure2019"


@dataclass(frozen=True, slots=True, kw_only=True)
class Azure2019(TraceSource):
    """A day of Azure Functions 2019, summed over all or some functions and compressed to a short run.

    The minutes of the file, 1,440 or fewer, share the run equally: a file of 480 minutes in 40 s has the pace of a day
    in 120 s. A minute then has 1/720 of its length, and one arrival in 720 is kept.

    Attributes:
        path: A file of one day, or the folder of the data set; None for the fetched files.
        day: Day of a folder, 1 (Monday 15 July 2019) to 14.
        functions: Number of functions, or None for all. Whole apps are drawn in random order and the last one is
            cut, as the data set itself was sampled by app. The draw depends on the seed of the run.
        share: Alternatively, the share of the file's functions.
        mean_qps: Mean rate of the run in queries per second, or None for the real rate of the chosen functions.
        duration_s: Length of the compressed run in seconds.

    Raises:
        SpecError: Both functions and share are given, or a parameter is out of range.
    """

    path: str | None = None
    day: Annotated[int, at.Ge(1), at.Le(14)] = 1
    functions: PositiveInt | None = None
    share: Share | None = None
    mean_qps: Positive | None = None
    duration_s: Positive = 120.0

    kind: ClassVar[str] = "azure2019"

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.functions is not None and self.share is not None:
            raise SpecError(
                "Azure2019.share", "cannot be combined with functions", str(self.share), "give one of the two"
            )

    @property
    def duration_ns(self) -> int:
        """The length of the run in nanoseconds."""
        return ns_from_s(self.duration_s)

    def inputs(self) -> tuple[Path, ...]:
        """Return the file of the day.

        Raises:
            DataError: The folder lacks the file of the day.
        """
        folder = azure2019_folder() if self.path is None else Path(self.path)
        if not folder.is_dir() and self.path is not None:
            return (folder,)
        name = DAY_FILE.format(self.day)
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return (path,)
        raise DataError(
            str(folder), "missing file of the data set", f"{name}[.gz]", "`ssim trace fetch azure2019`, or a path"
        )

    def minute_counts(self, seed: int) -> npt.NDArray[np.int64]:
        """Return the invocations of the chosen functions in each minute of the file, int64, shape (minutes,).

        Raises:
            DataError: The file can't be read, has no minutes, or too few functions; names the row.
        """
        (path,) = self.inputs()
        content = content_of(path, ",")
        minutes = _minute_columns(content)
        chosen = None if self.functions is None and self.share is None else self._chosen(content, seed)
        total = np.zeros(len(minutes), np.int64)
        for row, columns in numbers_of(content, dict.fromkeys(minutes, pa.int64())):
            counts = np.column_stack(columns)  # (functions, minutes)
            if (counts < 0).any():
                at_row, at_minute = np.argwhere(counts < 0)[0]
                location = f"{path}, row {row + at_row}"
                raise DataError(location, f"minute {minutes[at_minute]} is negative", str(counts[at_row, at_minute]))
            total += (counts if chosen is None else counts[chosen[row - 1 : row - 1 + len(counts)]]).sum(axis=0)
        return total

    def chunks(self, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the arrivals of the compressed day; at its real length and rate, the exact counts of the file.

        Raises:
            DataError: As `minute_counts`, or there are no invocations.
        """
        counts = self.minute_counts(seed)
        mean = float(counts.mean())
        if mean == 0:
            raise DataError(
                str(self.inputs()[0]), "the chosen functions were never invoked", "", "choose more functions"
            )
        if self.mean_qps is None and self.duration_ns == len(counts) * NS_PER_MINUTE:
            return unshrunk(counts, NS_PER_MINUTE, seed)
        return shrunk(counts / mean * (self.mean_qps or mean / 60), self.duration_ns, seed)

    def _chosen(self, content: Content, seed: int) -> npt.NDArray[np.bool_]:
        """Return a mask of the used rows: whole apps in random order, the last one cut."""
        columns = batches(content, {"HashApp": (pa.string(),)})
        apps = [app for _, (column,) in columns for app in column.to_pylist()]
        number = self.functions or max(1, round((self.share or 1) * len(apps)))
        if number > len(apps):
            raise DataError(
                str(content.path), "has fewer functions than requested", str(number), f"at most {len(apps)}"
            )
        # Ranks of apps in order of appearance, then a random order of apps, then rows in that order of their apps.
        rank = {app: number for number, app in enumerate(dict.fromkeys(apps))}
        place = stream(seed, "azure2019.functions").permutation(len(rank))
        order = np.argsort(place[[rank[app] for app in apps]], kind="stable")
        chosen = np.zeros(len(apps), np.bool_)
        chosen[order[:number]] = True
        return chosen


def _minute_columns(content: Content) -> list[str]:
    """Return the names of the minute columns: `1`..`1440`, a part of them such as `480`..`959`, or `1_minute`..."""
    names = [name for name in content.names if _MINUTE.fullmatch(name)]
    if not names:
        raise DataError(str(content.path), "has no minute columns", "", "columns named 1 to 1440")
    if len(names) > MINUTES_A_DAY:
        hint = "one file for each day: cut it into days, or sum them and use kind: counts"
        raise DataError(str(content.path), "has more minutes than a day", f"{len(names):,}", hint)
    numbers = [int(name.partition("_")[0]) for name in names]
    for before, number in pairwise(numbers):
        if number != before + 1:
            raise DataError(
                str(content.path),
                "missing minute, or minutes out of order",
                names[numbers.index(before) + 1],
                f"must be {before + 1}",
            )
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Azure2021(Recorded):
    """The invocations of Azure Functions 2021, replayed one by one: app, func, end_timestamp, duration in seconds.

    An invocation arrives at its end minus its duration. The file is not in order of arrival, so all times (16 MB for
    two weeks) are read and sorted first; the first arrival is at 0.
    """

    kind: ClassVar[str] = "azure2021"

    def chunks(self, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the arrivals of the file.

        Raises:
            DataError: The file can't be read, lacks a column, or a value is not a time, with the row.
        """
        pieces = [np.empty(0, np.int64)]
        wanted = {"end_timestamp": pa.float64(), "duration": pa.float64()}
        for path in self.inputs():
            for row, (end_s, duration_s) in numbers_of(content_of(path), wanted):
                if (duration_s < 0).any():
                    at_row = int(np.argmax(duration_s < 0))
                    location = f"{path}, row {row + at_row}"
                    raise DataError(location, "duration is negative", str(duration_s[at_row]), "seconds, 0 or more")
                numbers = range(row, row + len(end_s))
                start_s = end_s - duration_s
                pieces.append(ns_of_floats(start_s, "s", name="end_timestamp", location=str(path), numbers=numbers))
        times = np.sort(np.concatenate(pieces))
        times -= times[:1].sum()
        return self._played(times[start : start + CHUNK] for start in range(0, len(times), CHUNK))
