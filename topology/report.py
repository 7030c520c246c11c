"""The records of a run: results, traffic, log, and time spans."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple


@dataclass(slots=True)
class Traffic:
    """The traffic of a channel.

    Attributes:
        messages: Messages sent.
        bytes: Bytes sent, as `topology.message.size_of` counts them.
        lost: Messages that never arrived: the channel lost them, or the receiver was not running.
        pickled: Bytes of those between processes, as they were pickled, if they are counted.
    """

    messages: int = 0
    bytes: int = 0
    lost: int = 0
    pickled: int = field(default=0, repr=False)

    def add(self, other: Traffic) -> None:
        """Add the traffic of other messages."""
        for counted in fields(self):
            setattr(self, counted.name, getattr(self, counted.name) + getattr(other, counted.name))

    def since(self, before: Traffic) -> Traffic:
        """Return the traffic since it was as given."""
        return Traffic(*(getattr(self, counted.name) - getattr(before, counted.name) for counted in fields(self)))


class LogEntry(NamedTuple):
    """An event of a run.

    Attributes:
        at_ns: The time, in nanoseconds since the run began.
        worker: The id of the worker.
        kind: `joined`, `left`, `died`, `closed`, or a kind that a program logs.
        fields: What the program adds.
    """

    at_ns: int
    worker: str
    kind: str
    fields: dict[str, Any]


class Span(NamedTuple):
    """An interval in which a worker computed or waited, or a message was under way.

    Attributes:
        kind: `compute`, `wait` or `message`.
        worker: The id of the worker; of a message, the sender's.
        start_ns: The start, in nanoseconds since the run began.
        end_ns: The end.
        what: The step, or the channel.
        peer: The receiver of a message, or "".
        size_bytes: The size of a message, or 0.
    """

    kind: str
    worker: str
    start_ns: int
    end_ns: int
    what: str
    peer: str = ""
    size_bytes: int = 0


@dataclass(slots=True)
class RunReport:
    """The outcome of a run.

    Attributes:
        results: The result of each worker's program, by id, in the order of the plan; only of workers that completed
            their last step.
        ended: How the other workers ended, by id: `left`, `died`, or `closed` if all peers had ended.
        end_ns: When the last worker ended, in nanoseconds since the run began.
        traffic: The traffic of each channel, by name.
        by_round: The same of the messages of each round, in real time.
        log: Events, in order.
        spans: Intervals of workers and messages, if the engine records them.
        recording: Whether more of them are recorded.
    """

    results: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    end_ns: int = 0
    traffic: dict[str, Traffic] = field(default_factory=dict)
    by_round: dict[int, dict[str, Traffic]] = field(default_factory=dict, repr=False)
    log: list[LogEntry] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    recording: bool = False

    def in_round(self, number: int | None, channel: str) -> Traffic:
        """Return the traffic of a channel in a round, to be added to; that of messages of no round is not kept."""
        return Traffic() if number is None else self.by_round.setdefault(number, {}).setdefault(channel, Traffic())

    @property
    def end_s(self) -> float:
        """When the last worker ended, in seconds since the run began."""
        return self.end_ns / 1e9

    def fingerprint(self) -> str:
        """Return a hash of all events, spans and traffic: equal for two runs that went the same way."""
        trace = (self.spans, self.log, self.end_ns, self.traffic, self.ended)
        return hashlib.sha256(repr(trace).encode()).hexdigest()
