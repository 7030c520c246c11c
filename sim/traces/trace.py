"""A trace: the arrivals and latency SLOs of queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sim.base.arrays import read_only
from sim.base.errors import DataError, NoArrivalsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


LATEST_NS = 2**60
"""No instant and no delay of a run is as late or as long: sums of two of them stay far inside int64."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The arrivals of one run, in nanoseconds from its start.

    Attributes:
        arrival_ns: Arrival times, int64, shape (queries,), never decreasing, the first not negative.
        slo_ns: Latency SLO, from arrival to answer: one for all, or int64, shape (queries,).
        duration_ns: Length of the observed window, at least to the last arrival.
        name: A short name for tables and figures.
        provenance: Origin of the arrivals: source, parameters, seed.

    Raises:
        DataError: Arrivals are empty, unsorted, negative or not int64, or an SLO is not positive; names the query.

    Example:
        >>> trace = Trace(np.array([0, 5, 5]), slo_ns=10, duration_ns=20, name="three")
        >>> trace.deadline_ns.tolist()
        [10, 15, 15]
    """

    arrival_ns: npt.NDArray[np.int64]
    slo_ns: int | npt.NDArray[np.int64]
    duration_ns: int
    name: str = "trace"
    provenance: Mapping[str, object] = field(default_factory=dict[str, object])

    def __post_init__(self) -> None:
        arrivals = self.arrival_ns
        check_arrivals(arrivals, location="arrival_ns")
        check_lengths(self.duration_ns, int(np.max(self.slo_ns)))
        check_end(self.duration_ns, int(arrivals[-1]))
        slo = np.asarray(self.slo_ns)
        if slo.dtype.kind != "i" or slo.shape not in {(), arrivals.shape}:
            raise DataError(
                "slo_ns", "has the wrong form", f"{slo.dtype}, shape {slo.shape}", "one integer, or one per query"
            )
        if (slo <= 0).any():
            query = int(np.argmax(np.atleast_1d(slo) <= 0))
            raise DataError(f"slo_ns of query {query}", "is not positive", str(np.atleast_1d(slo)[query]), "above 0")
        object.__setattr__(self, "arrival_ns", read_only(arrivals))
        if slo.shape:
            object.__setattr__(self, "slo_ns", read_only(slo.astype(np.int64, copy=False)))

    def __len__(self) -> int:
        return len(self.arrival_ns)

    @property
    def deadline_ns(self) -> npt.NDArray[np.int64]:
        """Deadlines: arrival plus SLO, int64, shape (queries,)."""
        return self.arrival_ns + self.slo_ns

    @property
    def in_order(self) -> bool:
        """Whether deadlines never decrease from query to query, as with one SLO for all."""
        return isinstance(self.slo_ns, int) or bool((np.diff(self.deadline_ns) >= 0).all())


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
    steps = np.diff(arrival_ns, prepend=after_ns)
    if (steps < 0).any():
        row = int(np.argmax(steps < 0))
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
