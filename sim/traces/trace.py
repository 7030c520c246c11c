"""A trace: the arrivals, latency SLOs and classes of queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sim.base.arrays import frozen
from sim.base.errors import DataError, NoArrivalsError
from sim.base.html import html_table
from sim.base.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt


LATEST_NS = 2**60
"""No instant and no delay of a run is as late or as long: sums of two of them stay far inside int64."""

MAX_CLASSES = 500
"""Classes of queries: each is a row of a table and a line of a figure."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The arrivals of one run, in nanoseconds from its start.

    Lists, pandas Series and arrays of any integer type will do for each array. The trace keeps copies.

    Attributes:
        arrival_ns: Arrival times, int64, shape (queries,), never decreasing, the first not negative.
        slo_ns: Latency SLO, from arrival to answer: one for all, or int64, shape (queries,).
        duration_ns: Length of the observed window, at least to the last arrival.
        name: A short name for tables and figures.
        provenance: Origin of the arrivals: source, parameters, seed.
        class_codes: Class of each query, an index into `class_names`: uint16, shape (queries,); None without classes.
        class_names: Names of the classes, at most `MAX_CLASSES`.

    Raises:
        DataError: Arrivals are empty, unsorted, negative or not whole numbers, an SLO is not positive, or a class has
            no name; names the query.

    Examples:
        >>> trace = Trace(np.array([0, 5, 5]), slo_ns=10, duration_ns=20, name="three")
        >>> trace.deadline_ns.tolist()
        [10, 15, 15]
    """

    arrival_ns: npt.NDArray[np.int64]
    slo_ns: int | npt.NDArray[np.int64]
    duration_ns: int
    name: str = "trace"
    provenance: Mapping[str, object] = field(default_factory=dict[str, object])
    class_codes: npt.NDArray[np.uint16] | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        arrivals = _whole(self.arrival_ns, "arrival_ns", "whole nanoseconds, one per query")
        if arrivals.ndim != 1:
            raise DataError("arrival_ns", "has the wrong shape", str(arrivals.shape), "must be (queries,)")
        check_arrivals(arrivals, location="arrival_ns")
        slo = _whole(self.slo_ns, "slo_ns", "whole nanoseconds, one or one per query")
        if slo.shape not in {(), arrivals.shape}:
            raise DataError("slo_ns", "has the wrong shape", str(slo.shape), f"one number, or {len(arrivals)}")
        if (slo <= 0).any():
            query = int(np.argmax(np.atleast_1d(slo) <= 0))
            raise DataError(f"slo_ns of query {query}", "is not positive", str(np.atleast_1d(slo)[query]), "above 0")
        given: object = self.duration_ns
        duration_ns = int(given) if isinstance(given, np.integer) else self.duration_ns
        check_lengths(duration_ns, int(slo.max()))
        check_end(duration_ns, int(arrivals[-1]))
        names = tuple(self.class_names)
        kept = {
            "arrival_ns": frozen(arrivals),
            "slo_ns": frozen(slo) if slo.shape else int(slo),
            "duration_ns": duration_ns,
            "class_codes": _checked_codes(self.class_codes, names, len(arrivals)),
            "class_names": names,
        }
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.arrival_ns)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self):,} queries over {self.duration_ns / NS_PER_S:g} s)"

    def _repr_html_(self) -> str:
        seconds = self.duration_ns / NS_PER_S
        low_ms, high_ms = np.min(self.slo_ns) / NS_PER_MS, np.max(self.slo_ns) / NS_PER_MS
        facts = {
            "queries": f"{len(self):,}",
            "duration": f"{seconds:g} s",
            "mean rate": f"{len(self) / seconds:,.1f} queries/s",
            "SLO": f"{low_ms:g} ms" if low_ms == high_ms else f"{low_ms:g} to {high_ms:g} ms",
            **({"classes": ", ".join(self.class_names)} if self.class_names else {}),
        }
        return html_table(f"Trace {self.name}", facts.items())

    @property
    def deadline_ns(self) -> npt.NDArray[np.int64]:
        """Deadlines: arrival plus SLO, int64, shape (queries,)."""
        return self.arrival_ns + self.slo_ns

    @property
    def in_order(self) -> bool:
        """Whether deadlines never decrease from query to query, as with one SLO for all."""
        return isinstance(self.slo_ns, int) or bool((np.diff(self.deadline_ns) >= 0).all())


def _whole(values: object, location: str, hint: str) -> npt.NDArray[np.int64]:
    """Return whole numbers as int64.

    Raises:
        DataError: They are anything else.
    """
    try:
        found = np.asarray(values)
    except (ValueError, TypeError) as error:  # ragged lists; integers beyond 64 bits; missing values
        raise DataError(location, "can't be read as an array", str(error), hint) from error
    if found.size == 0:
        return found.astype(np.int64)
    if np.ma.is_masked(values):
        raise DataError(location, "has masked values", "", hint)
    if found.dtype.kind not in "iu":
        if found.dtype.kind in "mM":
            hint += ": convert by `.astype('timedelta64[ns]').astype('int64')`, times from the first"
        raise DataError(location, "is not an array of whole numbers", f"{found.dtype}, shape {found.shape}", hint)
    if found.dtype.kind == "u" and found.max() > np.iinfo(np.int64).max:
        raise DataError(location, "is beyond 64 bits", str(found.max()), hint)
    return found.astype(np.int64, copy=False)


def check_class_names(names: Sequence[object], location: str) -> None:
    """Check the names of classes.

    Raises:
        DataError: A name is empty, not text or not the only one, or there are more than `MAX_CLASSES`.
    """
    if len(names) > MAX_CLASSES:
        hint = f"at most {MAX_CLASSES}: a column with few values, such as a tenant or a model, or groups of them"
        raise DataError(location, "has too many classes", f"{len(names):,}", hint)
    seen = set[object]()
    for name in names:
        if not isinstance(name, str) or not name:
            raise DataError(location, "has a class without a name", repr(name), "each is a text")
        if name in seen:
            raise DataError(location, "has two classes of one name", repr(name), "names are unique")
        seen.add(name)


def _checked_codes(codes: object, names: tuple[str, ...], queries: int) -> npt.NDArray[np.uint16] | None:
    """Return the classes of queries, checked, or None without classes.

    Raises:
        DataError: There are names or codes alone, or a code has no name.
    """
    check_class_names(names, "class_names")
    if codes is None:
        if names:
            raise DataError("class_codes", "is missing", "", "class_names needs one code for each query")
        return None
    found = _whole(codes, "class_codes", "an index into class_names for each query")
    if found.shape != (queries,):
        raise DataError("class_codes", "has the wrong shape", str(found.shape), f"must be ({queries},)")
    wrong = (found < 0) | (found >= len(names))
    if wrong.any():
        query = int(np.argmax(wrong))
        hint = f"class_names has {len(names)}" + (": 0 or more, below this" if names else "")
        raise DataError(f"class_codes of query {query}", "has no name", str(found[query]), hint)
    return frozen(np.asarray(codes).astype(np.uint16, copy=False))


def check_arrivals(arrival_ns: npt.NDArray[np.int64], *, location: str, first_row: int = 0, after_ns: int = 0) -> None:
    """Check a slice of arrival times.

    Args:
        arrival_ns: int64, shape (n,).
        location: Name of the array in messages.
        first_row: Row number of the first element in messages.
        after_ns: No arrival may be earlier than this.

    Raises:
        DataError: The slice is empty or not int64, or an arrival is negative or earlier than the one before it.
    """
    if not are_whole(arrival_ns):
        shape_and_type = f"{arrival_ns.dtype}, shape {arrival_ns.shape}"
        raise DataError(location, "has the wrong type or shape", shape_and_type, "must be int64, shape (n,)")
    if len(arrival_ns) == 0:
        raise NoArrivalsError(location, "has no arrivals", "", "a trace needs at least one query")
    earlier = arrival_ns[1:] < arrival_ns[:-1]
    if arrival_ns[0] < after_ns or earlier.any():
        row = 0 if arrival_ns[0] < after_ns else int(np.argmax(earlier)) + 1
        value = int(arrival_ns[row])
        if value < 0:
            raise DataError(f"{location}, row {first_row + row}", "is negative", f"{value} ns", "time starts at 0")
        before = int(arrival_ns[row - 1]) if row else after_ns
        raise DataError(
            f"{location}, row {first_row + row}",
            "is earlier than the row before",
            f"{value} < {before} ns",
            "sort by arrival",
        )


def are_whole(arrival_ns: npt.NDArray[np.int64]) -> bool:
    """Return whether arrival times are int64 of shape (n,)."""
    return arrival_ns.ndim == 1 and arrival_ns.dtype == np.int64


def check_lengths(duration_ns: int, slo_ns: int) -> None:
    """Check the length of a trace and its longest SLO.

    Raises:
        DataError: One is not positive, or above the maximum length of a run.
    """
    if type(duration_ns) is not int or duration_ns < 1:
        raise DataError("duration_ns", "invalid duration", repr(duration_ns), "integer nanoseconds above 0")
    if max(duration_ns, slo_ns) >= LATEST_NS:
        raise DataError("duration_ns and slo_ns", "exceed the maximum length of a run", "", "below 2**60 ns, 36 years")


def check_end(duration_ns: int, last_ns: int) -> None:
    """Check that a trace does not end before its last arrival.

    Raises:
        DataError: It does.
    """
    if duration_ns < last_ns:
        raise DataError("duration_ns", "ends before the last arrival", str(duration_ns), f"{last_ns} or more")
