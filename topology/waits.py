"""Who waits for whom: of each wait of a run, whose message ended it."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from topology.report import Span

NOBODY = "nobody"
"""Stands for who ended a wait that no message ended: its timeout, or a peer that left."""


class EndedWait(NamedTuple):
    """A wait of a worker.

    Attributes:
        round: The round in which it ended, from 1.
        worker: The worker that waited.
        awaited: The worker whose message ended it, or `NOBODY`.
        seconds: How long it took.
    """

    round: int
    worker: str
    awaited: str
    seconds: float


def ended_waits(spans: Iterable[Span], round_ends_s: Sequence[float]) -> list[EndedWait]:
    """Return the waits among spans; one for several workers ends with the message of the last of them.

    Args:
        spans: The spans of a report.
        round_ends_s: When each round ended, in order; what ends after the last of them is left out.
    """
    spans = list(spans)
    senders: dict[tuple[str, str, int], str] = {}
    for span in spans:
        if span.kind == "message":
            senders[span.peer, span.what, span.end_ns] = span.worker
    found = []
    for span in spans:
        number = bisect_left(round_ends_s, span.end_ns / NS_PER_S) if span.kind == "wait" else len(round_ends_s)
        if number < len(round_ends_s):
            awaited = senders.get((span.worker, span.what, span.end_ns), NOBODY)
            found.append(EndedWait(number + 1, span.worker, awaited, (span.end_ns - span.start_ns) / NS_PER_S))
    return found
