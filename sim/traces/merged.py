"""Several traces side by side, each of which is a class of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sim.base.errors import TooLongError
from sim.base.streams import stream
from sim.traces.source import MAX_ARRIVALS, TraceSource, rechunked
from sim.traces.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged(TraceSource):
    """The arrivals of several sources, all of which begin at 0.

    The random numbers of each part follow from its name, so that no two parts have the same arrivals, and a part keeps
    its arrivals when another one changes.

    Attributes:
        slo_ms: None: each part has its own.
        parts: The sources by name: the class of their queries.
    """

    slo_ms: None = None  # type: ignore[assignment]  # of a part
    parts: tuple[tuple[str, TraceSource], ...]

    kind: ClassVar[str] = "merged"

    def __post_init__(self) -> None:
        """Each part has checked its parameters."""

    @property
    def has_one_slo(self) -> bool:
        """False: each part has its own."""
        return False

    @property
    def has_classes(self) -> bool:
        """True: the parts."""
        return True

    @property
    def is_random(self) -> bool:
        """Whether some part depends on the seed."""
        return any(part.is_random for _, part in self.parts)

    @property
    def duration_ns(self) -> int:
        """That of the longest part."""
        return max(part.duration_ns for _, part in self.parts)

    def inputs(self) -> tuple[Path, ...]:
        """Return the input files of all parts."""
        return tuple(path for _, part in self.parts for path in part.inputs())

    def notes(self) -> tuple[str, ...]:
        """Return the notes of all parts."""
        return tuple(f"{name}: {note}" for name, part in self.parts for note in part.notes())

    def chunks(self, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the arrivals of all parts in order; all of them are held."""
        yield from rechunked([self.trace(seed).arrival_ns])

    def arrivals(self, seed: int, limit: int | None = None) -> npt.NDArray[np.int64]:
        """Return all arrival times in nanoseconds, int64, shape (queries,)."""
        return self.trace(seed).arrival_ns

    def trace(self, seed: int) -> Trace:
        """Return the trace of all parts; of equal arrivals, those of earlier parts come first.

        Raises:
            TooLongError: They have more than `MAX_ARRIVALS` together.
        """
        traces: list[Trace] = []
        for name, part in self.parts:
            left, own = MAX_ARRIVALS - sum(map(len, traces)), seed_of(seed, name)
            try:
                traces.append(part.trace_of(part.arrivals(own, left), own))
            except TooLongError as error:
                hint = "shorter traces, or lower rates: runs with queues hold all queries"
                raise TooLongError(f"trace of queue {name}", error.problem, f"over {left}", hint) from error
        arrivals = np.concatenate([trace.arrival_ns for trace in traces])
        order = np.argsort(arrivals, kind="stable")
        codes = np.repeat(np.arange(len(traces), dtype=np.uint16), [len(trace) for trace in traces])
        slos = np.concatenate([np.broadcast_to(trace.slo_ns, (len(trace),)) for trace in traces])
        return Trace(
            arrivals[order],
            slos[order],
            max(trace.duration_ns for trace in traces),
            self.name,
            {name: trace.provenance for (name, _), trace in zip(self.parts, traces, strict=True)},
            codes[order],
            tuple(name for name, _ in self.parts),
        )

    def trace_of(self, arrival_ns: npt.NDArray[np.int64], seed: int) -> Trace:
        """Return the trace of a seed."""
        return self.trace(seed)


def seed_of(seed: int, part: str) -> int:
    """Return the seed of a part."""
    return int(stream(seed, f"trace {part}").integers(2**63))
