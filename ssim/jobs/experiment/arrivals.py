"""The arrivals of runs: drawn once for all that share them, and given up where they are interrupted."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

from sim.base.errors import SsimError, TooLongError
from sim.engines import WORTH_COMPILING
from sim.traces.source import drawn_ahead
from ssim.jobs.experiment.kept import Kept, mapped
from ssim.jobs.identity import hash_of, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from sim.traces.source import TraceSource
    from sim.traces.trace import Trace
    from ssim.jobs.experiment.run import ExperimentRun
    from ssim.jobs.experiment.spec import ExperimentSpec

INTERRUPTED = Event()
"""Set while threads are to come to an end."""

_SHORT = 4_000_000
"""Arrivals of a trace that is held for the runs that share it, 32 MB."""

_TRACES: Kept[str, Trace] = Kept(1)
_SHORT_TRACES: Kept[str, Trace | None] = Kept(4)


def trace_key_of(spec: ExperimentSpec, source: TraceSource, seed: int, folder: Path) -> str:
    """Return what runs have in common that meet the same arrivals; holds for this machine and until a file changes."""
    stamps = [stamp(path) for path in source.inputs()]
    return hash_of([spec.trace, [(queue.name, queue.trace) for queue in spec.queues], seed, str(folder), stamps])


def trace_of(key: str, source: TraceSource, seed: int, shared: Path | None) -> Trace:
    """Return a trace, in memory.

    Args:
        key: What runs have in common that meet the same arrivals.
        source: Its source.
        seed: Its seed.
        shared: A folder in which processes find it that need it, too, made by the first of them.

    Raises:
        TooLongError: It is too long to be held.
    """

    def arrivals() -> npt.NDArray[np.int64]:
        if shared is None:
            return source.arrivals(seed)
        return mapped(shared / f"{key}.npy", lambda: source.arrivals(seed))

    return _TRACES.get(key, lambda: source.trace_of(arrivals(), seed))


def short_trace_of(key: str, source: TraceSource, seed: int) -> Trace | None:
    """Return a trace, in memory; None if it is so long that it had better be streamed. Arguments as in `trace_of`."""

    def short() -> Trace | None:
        try:
            arrival_ns = source.arrivals(seed, _SHORT)
        except TooLongError:
            return None
        return source.trace_of(arrival_ns, seed)

    return _SHORT_TRACES.get(key, short)


def stream_of(source: TraceSource, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the arrivals of a trace in chunks, drawn ahead."""
    for chunk in drawn_ahead(source.chunks(seed)):
        raise_if_interrupted()
        yield chunk


def raise_if_interrupted() -> None:
    """Pass if nobody waits for this thread to end.

    Raises:
        SsimError: Somebody does.
    """
    if INTERRUPTED.is_set():
        raise SsimError("interrupted", "before the end of a run")


def queries_ahead(runs: Sequence[ExperimentRun]) -> int:
    """Return about how many queries there are to replay, counted no further than the choice of an engine needs."""
    count = 0
    if runs:
        try:
            for chunk in runs[0].parts.source.chunks(runs[0].seed):
                count += len(chunk) * len(runs)
                if count >= WORTH_COMPILING:
                    break
        except (Exception, SystemExit):  # noqa: BLE001 - a trace source of a user may raise anything; the run will tell
            return 0
    return count
