"""The time line of a run as Chrome trace events, which Perfetto (ui.perfetto.dev) and chrome://tracing show.

Of an experiment: a track for each worker with its batches, the queue length and the slack of the head of the queue as
counters, and dropped queries as instants. Of a federated training: a track for each worker, by role, with its steps and
waits, and the messages that it sends. Times are microseconds with three decimals, so nanoseconds are exact. The format:
"Trace Event Format" (Google, 2016).
"""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sim.base.errors import StoreError
from sim.base.units import NS_PER_S
from sim.base.whole_file import whole_file
from ssim.results.record import BATCHES, REQUESTS, read_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ssim.results.store import Store

    Event = dict[str, Any]
    _Times = npt.NDArray[np.int64]

SPANS = "spans.parquet"
_ROWS = 65_536
"""Batches that are converted at once."""

_WORKERS, _QUEUE = 1, 2
"""The processes of an experiment: its tracks are threads of them."""

_FIRST_THREAD = 1000
"""Perfetto takes the thread that has the number of its process for the main thread, so no thread has."""


def write_timeline(store: Store, run_id: str, target: Path) -> str:
    """Write the time line of a stored run to a JSON file, event by event.

    Args:
        store: The results of the job.
        run_id: The run.
        target: The file.

    Returns:
        What the time line lacks, or "".

    Raises:
        StoreError: The run is not stored, or without what a time line needs, or damaged; or the file can't be written.
    """
    manifest = store.manifest(run_id)
    if manifest is None:
        raise StoreError(str(store.folder / run_id), "is not stored", "", "`ssim results status` says what is")
    schema, folder, lacks = manifest["identity"].get("schema"), store.folder / run_id, ""
    if schema == "run/1" and BATCHES in manifest["outputs"]:
        cluster = manifest["identity"]["cluster"]
        is_one = "queues" not in manifest["identity"] and "routing" not in cluster
        requests = read_output(store, run_id, REQUESTS) if is_one and REQUESTS in manifest["outputs"] else None
        events = serving_events(cluster, read_output(store, run_id, BATCHES), requests)
        if not is_one:
            lacks = "queue length, slack and drops are left out where there are several queues"
        elif not requests:
            lacks = "queue length, slack and drops need every query; run the experiment with keep: requests"
    elif schema == "run/1":
        hint = "run the experiment with keep: batches or keep: requests"
        raise StoreError(str(folder), "is stored without its batches, which a time line needs", "", hint)
    elif schema.startswith("federated-run/") and SPANS in manifest["outputs"]:
        spans, *others = (read_output(store, run_id, name) for name in (SPANS, "rounds.parquet", "events.parquet"))
        events = federated_events(spans, *others)
        if (_max(spans["end_ns"]).as_py() or 0) < manifest["summary"]["time_s"] * NS_PER_S - 1:
            lacks = "the time line holds the first ten rounds: a training records no more"
    else:
        hint = "time lines are recorded of experiments, and of federated trainings in virtual time (engine: sim)"
        raise StoreError(str(folder), "is stored without a time line", "", hint)
    with whole_file(target) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        for number, event in enumerate(events):
            file.write((",\n" if number else "") + json.dumps(event))
        file.write("\n]}\n")
    return lacks


def _max(column: pa.ChunkedArray) -> Any:
    """Return the largest value of a column; None without any."""
    return pc.call_function("max", [column])


def _us(nanoseconds: int) -> float:
    """Return microseconds; exact to the nanosecond for runs of a hundred days."""
    return nanoseconds / 1000


def _named(pid: int, process: str, threads: Sequence[str]) -> Iterator[Event]:
    yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": process}}
    for tid, thread in enumerate(threads, _FIRST_THREAD):
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": thread}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}


def serving_events(cluster: dict[str, Any], batches: pa.Table, requests: pa.Table | None) -> Iterator[Event]:
    """Yield the events of a run of an experiment.

    Args:
        cluster: The cluster, as in the identity of a run.
        batches: Its batches.
        requests: Its queries; None if they are not stored.
    """
    yield from _named(_WORKERS, "workers", [f"worker {number}" for number in range(cluster["workers"])])
    ends = _ends(batches)
    for batch in (row for part in batches.to_batches(_ROWS) for row in part.to_pylist()):
        args, tid = {"size": batch["size"], "subnet": batch["subnet"]}, _FIRST_THREAD + batch["worker"]
        yield _slice(batch["subnet"], "batch", _WORKERS, tid, batch["start_ns"], batch[ends], args)
        if batch["lost"]:
            yield _instant("batch lost", _WORKERS, tid, batch["finish_ns"], args)
    end_ns = max(_max(batches["finish_ns"]).as_py() or 0, _max(requests["arrival_ns"]).as_py() if requests else 0)
    for fault in cluster["faults"]:
        until_ns = end_ns if fault["recover_ns"] is None else min(fault["recover_ns"], end_ns)
        if fault["at_ns"] < until_ns:
            yield _slice("failed", "failure", _WORKERS, _FIRST_THREAD + fault["worker"], fault["at_ns"], until_ns, {})
    if requests is not None:
        yield from _named(_QUEUE, "queue", ["drops"])
        yield from _queue_events(cluster, batches, requests)


def _slice(name: str, category: str, pid: int, tid: int, start_ns: int, end_ns: int, args: dict[str, Any]) -> Event:
    times = {"ts": _us(start_ns), "dur": _us(end_ns - start_ns)}
    return {"ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid, **times, "args": args}


def _ends(batches: pa.Table) -> str:
    """Return the column that says when a worker could take its next batch: the completion, unless batches overlap."""
    return "free_ns" if "free_ns" in batches.column_names else "finish_ns"


def _instant(name: str, pid: int, tid: int, at_ns: int, args: dict[str, Any], category: str = "drop") -> Event:
    return {"ph": "i", "s": "t", "name": name, "cat": category, "pid": pid, "tid": tid, "ts": _us(at_ns), "args": args}


def _queue_events(cluster: dict[str, Any], batches: pa.Table, requests: pa.Table) -> Iterator[Event]:
    counter = {"ph": "C", "pid": _QUEUE, "tid": 0}
    length = 0
    for moment in moments(cluster, batches, requests):
        ts = _us(moment.at_ns)
        if moment.slack_ns is not None:
            yield {**counter, "name": "slack of the head (ms)", "ts": ts, "args": {"ms": moment.slack_ns / 1e6}}
        if moment.length != length:
            length = moment.length
            yield {**counter, "name": "queue length", "ts": ts, "args": {"queries": length}}
        for query, is_latest in moment.drops:
            args = {"query": query} | ({"latest possible time": True} if is_latest else {})
            yield _instant("drop", _QUEUE, _FIRST_THREAD, moment.at_ns, args)


class Moment(NamedTuple):
    """An instant of a run at which something happened.

    Attributes:
        at_ns: The instant.
        slack_ns: The slack of the head of the queue that the policy sees, before batches start; None if it is empty.
        length: Queries waiting at the end of the instant.
        drops: Queries that were dropped without a batch, and whether the time is no more than the latest possible.
    """

    at_ns: int
    slack_ns: int | None
    length: int
    drops: list[tuple[int, bool]]


def moments(cluster: dict[str, Any], batches: pa.Table, requests: pa.Table) -> Iterator[Moment]:
    """Yield the instants of a run, in order.

    The time of a drop is not stored. It follows from the order of the queue, earliest deadline first: a query has left
    when a batch starts with a later deadline in it. And from policies that do not wait: when a worker is left free, the
    queue is empty. So it is exact for policies that do not wait. If a query was served that had waited beside a free
    worker, the policy waits, and the latest possible times are given. A policy that waits with nothing but queries that
    it drops can't be told from one that does not wait: then the time is the earliest possible.
    """
    arrival, deadline = (requests[name].to_numpy() for name in ("arrival_ns", "deadline_ns"))
    never = np.iinfo(np.int64).max
    overhead_ns = cluster["dispatch_ns"] + cluster.get("network_ns", 0)  # runs of an older version have no network
    start = pc.fill_null(requests["start_ns"], never).to_numpy()
    is_dropped = (requests["outcome"].cast(pa.string()).to_numpy() == "dropped") & (start == never)
    starts, finishes = (np.sort(batches[name].to_numpy()) for name in ("start_ns", _ends(batches)))
    faults = [time for fault in cluster["faults"] for time in (fault["at_ns"], fault["recover_ns"]) if time is not None]
    instants = np.unique(np.concatenate([arrival, starts, finishes, np.array(faults, dtype=np.int64)]))
    free = _free(cluster, instants, starts, finishes)
    idle = instants[free > 0]
    following = np.append(idle, never)[np.searchsorted(idle, arrival)]
    waits = bool((following < start)[~is_dropped & (start != never)].any())
    by_start = np.argsort(start, kind="stable")
    at_start, at_arrival, length = 0, 0, 0
    gone = np.zeros(len(arrival), dtype=bool)
    heap: list[tuple[int, int]] = []

    def leaving(last: tuple[int, int], *, empties: bool) -> list[tuple[int, bool]]:
        """Take from the head of the queue what has left it; return those that were dropped."""
        found = []
        while heap and (gone[heap[0][1]] or (is_dropped[heap[0][1]] and (heap[0] < last or empties))):
            query = heapq.heappop(heap)[1]
            if not gone[query]:
                found.append((query, waits))
        return found

    for now, is_free in zip(instants.tolist(), (free > 0).tolist(), strict=True):
        while at_arrival < len(arrival) and arrival[at_arrival] <= now:
            heapq.heappush(heap, (int(deadline[at_arrival]), at_arrival))
            at_arrival, length = at_arrival + 1, length + 1
        first = at_start
        while at_start < len(start) and start[by_start[at_start]] == now:
            at_start += 1
        started = by_start[first:at_start].tolist()
        last = max(((int(deadline[query]), query) for query in started), default=(-1, -1))
        empties = is_free and not waits
        drops = leaving(last, empties=empties)
        slack = heap[0][0] - now - overhead_ns if heap else None
        gone[started] = True
        drops += leaving(last, empties=empties)
        length -= len(started) + len(drops)
        yield Moment(now, slack, length, drops)


def _free(cluster: dict[str, Any], instants: _Times, starts: _Times, finishes: _Times) -> _Times:
    """Return the number of free workers at the end of each instant."""
    free = (
        cluster["workers"] - np.searchsorted(starts, instants, "right") + np.searchsorted(finishes, instants, "right")
    )
    for fault in cluster["faults"]:
        until = np.inf if fault["recover_ns"] is None else fault["recover_ns"]
        free -= (fault["at_ns"] <= instants) & (instants < until)
    return np.asarray(free, dtype=np.int64)


def federated_events(spans: pa.Table, rounds: pa.Table, log: pa.Table) -> Iterator[Event]:
    """Yield the events of a federated training.

    Args:
        spans: Steps, waits and messages.
        rounds: The rounds of each worker that reports them.
        log: Other events, such as clients that were missing.
    """
    rows = spans.to_pylist()
    ends = [worker for row in rows for worker in (row["worker"], row["peer"]) if worker]
    roles: dict[str, list[str]] = {}
    for worker in dict.fromkeys(ends):
        roles.setdefault(worker.rpartition("/")[0], []).append(worker)
    for members in roles.values():
        members.sort(key=lambda worker: int(worker.rpartition("/")[2]))
    tracks: dict[str, tuple[int, int]] = {}
    for pid, (role, members) in enumerate(roles.items(), 1):
        yield from _named(pid, role, members)
        tracks |= {worker: (pid, tid) for tid, worker in enumerate(members, _FIRST_THREAD)}
    for number, row in enumerate(rows):
        pid, tid = tracks[row["worker"]]
        if row["kind"] == "message":
            # Messages overlap, so they are asynchronous events: each has an id, and lies beside the tracks.
            one = {"name": row["what"], "cat": "message", "id2": {"local": number}, "pid": pid, "tid": tid}
            args = {"from": row["worker"], "to": row["peer"], "bytes": row["size_bytes"]}
            yield {"ph": "b", **one, "ts": _us(row["start_ns"]), "args": args}
            yield {"ph": "e", **one, "ts": _us(row["end_ns"])}
        else:
            name = row["what"] if row["kind"] == "compute" else f"wait: {row['what']}"
            yield _slice(name, row["kind"], pid, tid, row["start_ns"], row["end_ns"], {})
    end_s = max((row["end_ns"] for row in rows), default=0) / NS_PER_S
    marks: list[tuple[Event, str, Event]] = [(row, f"round {row['round']}", {}) for row in rounds.to_pylist()]
    marks += [(row, row["kind"], json.loads(row["fields"])) for row in log.to_pylist()]
    for row, name, fields in marks:
        if row["worker"] in tracks and row["time_s"] <= end_s:
            yield _instant(name, *tracks[row["worker"]], round(row["time_s"] * NS_PER_S), fields, "event")
