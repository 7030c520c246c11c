"""The progress of a federated training: all that resuming needs, and the records of its rounds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import DataError
from sim.base.whole_file import whole_file
from supernet import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from topology.report import LogEntry, RunReport, Traffic

    Row = dict[str, Any]

SCHEMA = "federated-progress/2"
_QUIET = {"round", "buffered", "paired"}
"""Log entries that are too frequent to be stored as events."""


@dataclass(slots=True)
class FederatedProgress:
    """The progress of a training at a checkpoint boundary.

    Attributes:
        done: Number of completed rounds.
        boundaries: Number of checkpoint boundaries so far.
        clock_ns: Time of the end of the last round.
        memory: Memory of each worker, by id.
        rounds: A row for each round and each worker that reports rounds.
        traffic: A row for each of these and each channel.
        events: A row for each other event.
        sent: Messages, bytes and lost messages of each channel.
    """

    done: int = 0
    boundaries: int = 0
    clock_ns: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    rounds: list[Row] = field(default_factory=list)
    traffic: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    sent: dict[str, list[int]] = field(default_factory=dict)

    def write(self, path: Path, identity: str) -> None:
        """Write it to a file, which is replaced as a whole.

        Raises:
            StoreError: The file cannot be written.
        """
        content = {name: getattr(self, name) for name in self.__slots__}
        checkpoint.write(path, {"schema": SCHEMA, "identity": identity, **content})

    @classmethod
    def read(cls, path: Path, identity: str) -> FederatedProgress:
        """Read it from a file.

        Raises:
            DataError: The file is damaged, of another version, or of another training.
        """
        content, anew = checkpoint.read(path), "delete it, or train with --force: training begins anew"
        schema = content.get("schema")
        if schema != SCHEMA:
            raise DataError(str(path), "unsupported schema", repr(schema), f"expected {SCHEMA!r}; {anew}")
        if content.get("identity") != identity:
            hint = f"expected {identity}; {anew}"
            raise DataError(str(path), "belongs to another training", str(content.get("identity")), hint)
        return cls(**{name: content[name] for name in cls.__slots__})

    def add_round(self, at_ns: int, worker: str, fields: Mapping[str, Any], traffic: Mapping[str, Traffic]) -> Row:
        """Record a round that a worker completed, with the traffic until then, and return its row."""
        time_s, total = (self.clock_ns + at_ns) / 1e9, sum(size for _, size, _ in self.sent.values())
        for name, now in traffic.items():
            messages, size, lost = self.sent.get(name, (0, 0, 0))
            self.traffic.append(
                {"round": fields["round"], "worker": worker, "time_s": time_s, "channel": name}
                | {"messages": messages + now.messages, "bytes": size + now.bytes, "lost": lost + now.lost}
            )
            total += now.bytes
        self.rounds.append({"worker": worker, "time_s": time_s, "bytes": total, **fields})
        return self.rounds[-1]

    def pass_boundary(self, report: RunReport, rounds: Iterable[LogEntry]) -> None:
        """Take over the memories of the workers at a checkpoint boundary, and the events up to it."""
        self.events += [
            {"time_s": (self.clock_ns + entry.at_ns) / 1e9, "worker": entry.worker, "kind": entry.kind}
            | {"fields": json.dumps(entry.fields, default=str)}
            for entry in report.log
            if entry.kind not in _QUIET
        ]
        for name, now in report.traffic.items():
            messages, size, lost = self.sent.get(name, (0, 0, 0))
            self.sent[name] = [messages + now.messages, size + now.bytes, lost + now.lost]
        self.memory |= report.results
        self.done = max(entry.fields["round"] for entry in rounds)
        self.clock_ns += max(entry.at_ns for entry in rounds)
        self.boundaries += 1

    def summary(self) -> Row:
        """Return what happened in all: time, rounds, shares of all weight, bytes and messages by channel, events."""
        kinds = sorted({row["kind"] for row in self.events})
        ends = [row for row in self.rounds if "smallest" in row]
        weight = {end: sum(row[end] for row in ends) / len(ends) for end in ("smallest", "largest") if ends}
        return {
            "time_s": self.clock_ns / 1e9,
            "weight": weight,
            "rounds": self.done,
            "bytes": {name: counts[1] for name, counts in self.sent.items()},
            "messages": {name: counts[0] for name, counts in self.sent.items()},
            "events": {kind: sum(row["kind"] == kind for row in self.events) for kind in kinds},
        }

    def store(self, folder: Path) -> None:
        """Write the tables of a training that is done.

        Raises:
            StoreError: A file can't be written.
        """
        accuracies = [
            {key: row[key] for key in ("round", "worker", "time_s")} | {"subnet": name, "accuracy": value}
            for row in self.rounds
            for name, value in row["accuracy"].items()
        ]
        keys = [key for key in dict.fromkeys(key for row in self.rounds for key in row) if key != "accuracy"]
        tables = {
            "rounds": [{key: row.get(key) for key in keys} for row in self.rounds],
            "progress": accuracies,
            "traffic": self.traffic,
            "events": self.events,
        }
        for name, table in tables.items():
            write_rows(folder / f"{name}.parquet", table)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows to a Parquet file; whoever looks sees the old file or this one.

    Raises:
        StoreError: It can't be written.
    """
    with whole_file(path) as unfinished:
        pq.write_table(pa.Table.from_pylist(rows), unfinished)
