"""The progress of a federated training: the run in mid-flight, and the records of its rounds."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import DataError, TrainingError
from sim.base.whole_file import translate_os_errors, whole_file
from topology.pending import listed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from topology.report import LogEntry, RunReport, Traffic

    Row = dict[str, Any]

SCHEMA = "federated-progress/5"
_QUIET = {"round", "completed", "buffered", "paired", "selected", "update", "holds", "client"}
"""Log entries that are too frequent to be stored as events."""
_ANSWERS = {"update": "used", "late": "late", "refused": "refused"}
"""What came of the update that a log entry is about."""
_ENDS = ("died", "lost", "left", "no peers")
"""Log entries that say why nobody goes on, the more telling ones first."""


@dataclass(slots=True)
class FederatedProgress:
    """The progress of a training: the records of its rounds, and the run as it is stored.

    Attributes:
        done: Number of completed rounds.
        stored: The number of completed rounds when it was stored last.
        run: The run in mid-flight (`topology.checkpoints`); None before it is stored.
        rounds: A row for each round and each worker that reports rounds.
        traffic: A row for each of these and each channel.
        spare: The rows of each round that some workers have completed and that is not reported yet.
    """

    done: int = 0
    stored: int = 0
    run: bytes | None = None
    rounds: list[Row] = field(default_factory=list)
    traffic: list[Row] = field(default_factory=list)
    spare: dict[int, tuple[Row, list[Row]]] = field(default_factory=dict)

    def write(self, path: Path, identity: str) -> None:
        """Write it to a file, which is replaced as a whole: a line of JSON that says what it is, and a pickle.

        Raises:
            StoreError: The file cannot be written.
        """
        head = json.dumps({"schema": SCHEMA, "identity": identity}).encode()
        content = pickle.dumps({name: getattr(self, name) for name in self.__slots__})
        with whole_file(path) as unfinished:
            unfinished.write_bytes(head + b"\n" + content)

    @classmethod
    def read(cls, path: Path, identity: str) -> FederatedProgress:
        """Read it from a file.

        Raises:
            DataError: The file is damaged, of another version, or of another training.
        """
        anew = "delete it, or train with --force: training begins anew"
        with translate_os_errors(path):
            head, _, content = path.read_bytes().partition(b"\n")
        try:
            said = json.loads(head)
            schema, of = said["schema"], said["identity"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(str(path), "damaged, or of an older version", str(error), anew) from error
        if schema != SCHEMA:
            raise DataError(str(path), "unsupported schema", repr(schema), f"expected {SCHEMA!r}; {anew}")
        if of != identity:
            raise DataError(str(path), "belongs to another training", str(of), f"expected {identity}; {anew}")
        try:
            return cls(**pickle.loads(content))  # noqa: S301 - written by the same user's training
        except Exception as error:  # whatever a damaged pickle raises
            raise DataError(str(path), "damaged", str(error), anew) from error

    def add_round(self, entry: LogEntry, traffic: Mapping[str, Traffic] | None) -> Row:
        """Record a round that a worker reports, with the traffic until then if it is known, and return its row."""
        row, sent = _rows(entry, traffic)
        self.done = max(self.done, row["round"])
        self.spare.pop(row["round"], None)
        self.rounds.append(row)
        self.traffic += sent
        return row

    def add_completed(self, entry: LogEntry, traffic: Mapping[str, Traffic] | None) -> None:
        """Keep a round that a worker completed and another one reports, unless that ends before."""
        number = entry.fields["round"]
        if number > self.done and number not in self.spare:
            row, sent = _rows(entry, traffic)
            self.spare[number] = {"accuracy": {}, **row}, sent

    def put_spare(self) -> None:
        """Put in the rounds that nobody reported, because who was to do it ended before: without accuracies."""
        for row, sent in self.spare.values():
            self.rounds.append(row)
            self.traffic += sent
        if self.spare:
            for table in (self.rounds, self.traffic):
                table.sort(key=lambda row: row["round"])
        self.spare = {}

    def add_total(self, traffic: Mapping[str, Traffic]) -> None:
        """Put the traffic of the whole training into its last round, where that of each round is not known."""
        last = max(row["round"] for row in self.rounds)
        for row in self.rounds:
            if row["round"] == last:
                row["bytes"], sent = _sent(row, traffic)
                self.traffic += sent

    def summary(self, report: RunReport) -> Row:
        """Return what happened in all: time, rounds, shares of all weight, bytes and messages by channel, events."""
        events = [entry.kind for entry in report.log if entry.kind not in _QUIET]
        refused = first_refused(report)
        ends = [row for row in self.rounds if "smallest" in row]
        weight = {end: sum(row[end] for row in ends) / len(ends) for end in ("smallest", "largest") if ends}
        return {
            "time_s": max(row["time_s"] for row in self.rounds),
            "weight": weight,
            "rounds": self.done,
            "bytes": {name: traffic.bytes for name, traffic in report.traffic.items()},
            "messages": {name: traffic.messages for name, traffic in report.traffic.items()},
            "events": {kind: events.count(kind) for kind in sorted(set(events))},
            **({} if refused is None else {"first_refused": refused}),
        }

    def store(self, folder: Path, report: RunReport) -> None:
        """Write the tables of a training that is done.

        Raises:
            StoreError: A file can't be written.
        """
        accuracies = [
            {key: row[key] for key in ("round", "worker", "time_s")} | {"subnet": name, "accuracy": value}
            for row in self.rounds
            for name, value in row["accuracy"].items()
        ]
        events = [
            {"time_s": entry.at_ns / 1e9, "worker": entry.worker, "kind": entry.kind}
            | {"fields": json.dumps(entry.fields, default=str)}
            for entry in report.log
            if entry.kind not in _QUIET
        ]
        keys = [key for key in dict.fromkeys(key for row in self.rounds for key in row) if key != "accuracy"]
        tables = {
            "rounds": [{key: row.get(key) for key in keys} for row in self.rounds],
            "progress": accuracies,
            "traffic": self.traffic,
            "events": events,
        }
        parties = party_rows(report)
        if parties:
            tables["parties"] = parties
        clients = [{"worker": e.worker, "time_s": e.at_ns / 1e9, **e.fields} for e in report.log if e.kind == "client"]
        if clients:
            tables["clients"] = clients
        for name, table in tables.items():
            write_rows(folder / f"{name}.parquet", table)


def _rows(entry: LogEntry, traffic: Mapping[str, Traffic] | None) -> tuple[Row, list[Row]]:
    """Return the row of a round, and that of each channel."""
    row: Row = {"worker": entry.worker, "time_s": entry.at_ns / 1e9, "bytes": None, **entry.fields}
    if traffic is None:
        return row, []
    row["bytes"], sent = _sent(row, traffic)
    return row, sent


def _sent(row: Row, traffic: Mapping[str, Traffic]) -> tuple[int, list[Row]]:
    """Return the bytes that were sent until the end of a round, and a row for each channel."""
    round_ = {key: row[key] for key in ("round", "worker", "time_s")}
    sent = [
        {**round_, "channel": name, "messages": now.messages, "bytes": now.bytes, "lost": now.lost}
        for name, now in traffic.items()
    ]
    return sum(now.bytes for now in traffic.values()), sent


def holding_rows(held: Mapping[str, list[int]]) -> list[Row]:
    """Return a row for each class of each client; if there is one, as for numbers and texts, it has no label.

    Args:
        held: The number of examples of each class, from 0, by client.
    """
    classes = max(map(len, held.values()), default=0)
    return [
        {"party": party, "label": label if classes > 1 else None, "examples": count}
        for party, counts in held.items()
        for label, count in enumerate([*counts, *[0] * (classes - len(counts))])
    ]


def party_rows(report: RunReport) -> list[Row]:
    """Return a row for each client, or further aggregator, that was selected in a round of an aggregator.

    `answer` says what came of it: an update that was `used`, `refused` or `late`, or `none`. Updates that were used
    have a loss and a weight; these and late ones have seconds (from sending the model to its arrival) and bytes.
    """
    none = {**dict.fromkeys(("loss", "weight", "seconds", "bytes")), "answer": "none"}
    rows: dict[tuple[str, int, str], Row] = {}
    for entry in report.log:
        worker, fields = entry.worker, entry.fields
        for peer in fields["peers"] if entry.kind == "selected" else ():
            key = worker, fields["round"], peer
            rows[key] = {"round": fields["round"], "worker": worker, "party": peer, **none}
        if entry.kind in _ANSWERS:
            number = fields["base"] + 1 if entry.kind == "late" else fields["round"]
            new = {"round": number, "worker": worker, "party": fields["sender"], **none}
            row = rows.setdefault((worker, number, fields["sender"]), new)
            row |= {name: fields[name] for name in none if name in fields} | {"answer": _ANSWERS[entry.kind]}
    return list(rows.values())


def first_refused(report: RunReport) -> str | None:
    """Return which update was refused first, and why; None if none was."""
    fields = next((entry.fields for entry in report.log if entry.kind == "refused"), None)
    return None if fields is None else f"round {fields['round']}, {fields['sender']}: {fields['why']}"


def diverged_workers(report: RunReport, initial: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the workers whose model is not finite.

    Raises:
        TrainingError: All models are not finite, or are the initial one since all updates were refused.
    """
    first = first_refused(report)
    states = {id_: memory["state"] for id_, memory in report.results.items() if "state" in memory}
    diverged = [id_ for id_, state in states.items() if not all(part.isfinite().all() for part in state.values())]
    trained = [state for id_, state in states.items() if id_ not in diverged]
    if states and not trained:
        value, hint = listed(diverged), "a smaller `rate`, or other data"
        raise TrainingError("training", "diverged: no model is finite", value, hint)
    changed = (not part.equal(initial[name]) for state in trained for name, part in state.items())
    if states and first is not None and not any(changed):
        count = sum(entry.kind == "refused" for entry in report.log)
        hint = "if they are not finite: a smaller `rate`, or other data"
        raise TrainingError("training", f"no update was used, {count} were refused; the first", first, hint)
    return diverged


def check_complete(report: RunReport, rounds: int) -> None:
    """Check that all rounds were completed.

    Raises:
        TrainingError: They were not; names who ended, and when.
    """
    done = max((memory.get("round", 0) for memory in report.results.values() if isinstance(memory, dict)), default=0)
    done = max([done, *(entry.fields["round"] for entry in report.log if entry.kind == "round")])
    if done >= rounds:
        return
    ends = sorted((e for e in report.log if e.kind in _ENDS), key=lambda entry: _ENDS.index(entry.kind))
    named = [f"{entry.worker} {_VERBS[entry.kind]} at {entry.at_ns / 1e9:.6g} s" for entry in ends]
    raise TrainingError(f"round {done + 1} of {rounds}", "nobody is left to go on", listed(named))


_VERBS = {"died": "died", "lost": "was lost", "left": "left", "no peers": "had no peers left"}


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows to a Parquet file; whoever looks sees the old file or this one.

    Raises:
        StoreError: It can't be written.
    """
    with whole_file(path) as unfinished:
        pq.write_table(pa.Table.from_pylist(rows), unfinished)
