"""The public check of trace sources, including a user's own: `check_trace_source(source)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import DataError, SsimError, raised
from sim.traces.trace import check_arrivals, check_end, check_lengths

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.traces.source import TraceSource


def check_trace_source(source: TraceSource, seed: int = 0) -> None:
    """Check that a trace source obeys its contract.

    Its input files exist. Its chunks are non-empty int64 arrays of arrivals that are not negative, never decrease and
    end within `duration_ns`. They are the same in each pass with one seed, and joined they are `arrivals`. Another seed
    gives other arrivals if and only if the source `is_random`.

    Args:
        source: Any trace source.
        seed: The seed to draw with; the next one is drawn, too.

    Raises:
        DataError: The rule that the source breaks.
    """
    location = f"trace source {source.name}"
    try:
        _check(source, seed, location)
    except SsimError:
        raise
    except Exception as error:
        raise DataError(location, *raised(error)) from error


def _check(source: TraceSource, seed: int, location: str) -> None:
    for path in source.inputs():
        if not path.exists():
            raise DataError(location, "input file not found", str(path))
    arrival_ns = source.arrivals(seed)
    _check_chunks(source, seed, arrival_ns, location)
    trace = source.trace_of(arrival_ns, seed)
    if trace.duration_ns != source.duration_ns:
        value = f"{trace.duration_ns} and {source.duration_ns} ns"
        raise DataError(location, "window_ns differs from duration_ns", value)
    if isinstance(trace.slo_ns, int) != source.has_one_slo:
        raise DataError(location, "has_one_slo does not match its trace", str(source.has_one_slo))
    if np.array_equal(source.arrivals(seed + 1), arrival_ns) == source.is_random:
        problem = "is random, but another seed gives the same arrivals"
        if not source.is_random:
            problem = "is not random, but another seed gives other arrivals"
        raise DataError(location, problem, f"seeds {seed} and {seed + 1}", "is_random must say so")


def _check_chunks(source: TraceSource, seed: int, arrival_ns: npt.NDArray[np.int64], location: str) -> None:
    """Check each chunk, and that this pass gives the arrivals of the one before.

    Raises:
        DataError: The rule that a chunk breaks.
    """
    check_lengths(source.duration_ns, 1)
    begin = last_ns = 0
    for chunk in source.chunks(seed):
        check_arrivals(chunk, location=location, first_row=begin, after_ns=last_ns)
        if not np.array_equal(chunk, arrival_ns[begin : begin + len(chunk)]):
            raise DataError(location, "gives other arrivals for the same seed", f"seed {seed}", "draw from sim.stream")
        begin, last_ns = begin + len(chunk), int(chunk[-1])
    if begin != len(arrival_ns):
        value = f"{begin} and {len(arrival_ns)} arrivals"
        raise DataError(location, "gives other arrivals for the same seed", value, "draw from sim.stream")
    check_end(source.duration_ns, last_ns)
