"""Stored results: `<results>/<experiment>/<run id>/` with parquet files and a manifest.

A run is written to a sibling folder and renamed, its manifest last of all: a run with a manifest is complete, one
without does not exist. One process at a time writes to an experiment's folder; the system lifts that lock however the
process ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sim.base.errors import SsimError, StoreError
from sim.base.parquet import read_parquet
from sim.base.whole_file import translate_os_errors, whole_file
from sim.engine import histogram, metrics
from sim.engine.result import NONE, Result
from sim.engine.run_metrics import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from sim.engine.run_metrics import RunMetrics

Keep = Literal["summary", "windows", "batches", "requests"]
"""How much of a run is stored: its figures; and how they go in windows of 1 s; and each batch; and each query."""

WINDOWS, BATCHES, REQUESTS = "windows.parquet", "batches.parquet", "requests.parquet"

KEPT: dict[Keep, tuple[str, ...]] = {
    "summary": (),
    "windows": (WINDOWS,),
    "batches": (WINDOWS, BATCHES),
    "requests": (WINDOWS, BATCHES, REQUESTS),
}
"""The files of a run beside its manifest, by how much of it is stored."""

FAILED = "failed"
"""The folder with a file for each run that failed, and why."""

MANIFEST = "manifest.json"
INDEX = "experiment.json"

_PARTS = {
    "summary": {"queries", "slo_attainment", "mean_serving_accuracy", "unfinished"},
    "outputs": set[str](),
    "circumstances": {"wall_s"},
}
"""What a manifest must say at least, by its parts."""

_MEND = "run the experiment again: what is damaged is computed anew"


@dataclass(frozen=True, slots=True)
class Store:
    """The stored results of one experiment.

    Attributes:
        folder: `<results>/<experiment>`.
    """

    folder: Path

    @contextmanager
    def writing(self) -> Generator[None]:
        """Hold the folder for writing.

        Raises:
            StoreError: Another process holds it, or it can't be made.
        """
        with translate_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("a+")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                holder = f"process {lock.read().strip() or '?'}"
                right = "wait for it to end, or give another folder with --out"
                raise StoreError(str(self.folder), "another run is writing here", holder, right) from error
            with translate_os_errors(self.folder):
                lock.truncate(0)
                os.write(lock.fileno(), str(os.getpid()).encode())  # not kept back to fail again when it is closed
            try:
                self._clear()  # what a killed process left
                yield
            finally:
                self._clear()  # what a process that was ended in mid-air left
                lock.truncate(0)

    def writer(self) -> int | None:
        """Return the process that writes here, or None."""
        process = None
        try:
            with (self.folder / ".lock").open(encoding="ascii") as lock:
                process = int(lock.read())  # where nothing stands, no lock is tried that somebody may be about to take
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return process
        except (OSError, ValueError):
            pass
        return None  # the number is that of a process that was killed

    def _clear(self) -> None:
        for left in self.folder.glob(".*.tmp"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """Return the manifest of a complete run, or None where there is none.

        Raises:
            StoreError: The manifest is damaged, or a file that it names is not there as it was written.
        """
        path = self.folder / run_id / MANIFEST
        if not path.exists():
            return None
        found = _read_json(path, "manifest/1", ("identity", "summary", "outputs", "circumstances"))
        for part, keys in _PARTS.items():
            if not isinstance(found[part], dict) or not found[part].keys() >= keys:
                raise StoreError(str(path), "is damaged", part, _MEND)
        for name, facts in found["outputs"].items():
            file = path.with_name(name)
            if not file.is_file() or file.stat().st_size != facts["bytes"]:
                raise StoreError(str(file), "is damaged or missing", "", _MEND)
        return found

    def has(self, run_id: str, keep: Keep) -> bool:
        """Return whether a run is complete and undamaged, with at least as much of it as is to be kept."""
        try:
            manifest = self.manifest(run_id)
        except StoreError:
            return False  # it is computed again, and replaced
        return manifest is not None and all(name in manifest["outputs"] for name in KEPT[keep])

    def windows(self, run_id: str) -> pa.Table:
        """Return a complete run over time, in windows of 1 s; see `sim.engine.metrics.windows`.

        Raises:
            StoreError: The file is damaged.
        """
        path = self.folder / run_id / WINDOWS
        try:
            return read_parquet(path)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(str(path), "is damaged or missing", str(error), _MEND) from error

    def put(
        self, run_id: str, run: RunMetrics, identity: dict[str, Any], circumstances: dict[str, Any], keep: Keep
    ) -> dict[str, Any]:
        """Store a run and return its manifest. A run that is there already is replaced.

        Args:
            run_id: Its id.
            run: What came out of it; a `Result` where more than windows is kept.
            identity: All that decided it.
            circumstances: What else was there.
            keep: How much of it is stored.

        Raises:
            StoreError: The disk is full, or the folder can't be written; nothing half written stays.
        """
        with self._replacing(run_id) as folder:
            outputs = {name: _write(folder / name, _TABLES[name](run)) for name in KEPT[keep]}
            manifest = {
                "schema": "manifest/1",
                "identity": identity,
                "summary": _summary(run, keep),
                "latency_quantiles": "exact" if _is_exact(keep) else "within 0.2 %",
                "outputs": outputs,
                "circumstances": circumstances,
            }
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        return manifest

    def take(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Store the files of a run as another store, on another machine, has made them.

        Raises:
            StoreError: The disk is full, or the folder can't be written; nothing half written stays.
        """
        with self._replacing(run_id) as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)

    @contextmanager
    def _replacing(self, run_id: str) -> Generator[Path]:
        """Give a folder that becomes that of a run."""
        target = self.folder / run_id
        temporary = self.folder / f".{run_id}.{os.getpid()}.tmp"
        replaced = self.folder / f".{run_id}.{os.getpid()}.replaced.tmp"
        with translate_os_errors(target):
            try:
                temporary.mkdir(parents=True)
                yield temporary
                if target.exists():  # moved away, not emptied: at no time is there half a run under its name
                    target.rename(replaced)
                temporary.rename(target)
                (self.folder / FAILED / f"{run_id}.json").unlink(missing_ok=True)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
                shutil.rmtree(replaced, ignore_errors=True)

    def put_failure(self, run_id: str, error: SsimError) -> None:
        """Note why a run failed, until it succeeds.

        Raises:
            StoreError: The disk is full, or the folder can't be written.
        """
        with whole_file(self.folder / FAILED / f"{run_id}.json") as path:
            path.write_text(json.dumps({"schema": "failure/1", "error": str(error)}) + "\n", encoding="utf-8")

    def failure(self, run_id: str) -> str | None:
        """Return why a run failed when it was last tried, or None.

        Raises:
            StoreError: The note is damaged.
        """
        path = self.folder / FAILED / f"{run_id}.json"
        return str(_read_json(path, "failure/1", ("error",))["error"]) if path.exists() else None

    @contextmanager
    def shared(self) -> Generator[Path]:
        """Give a folder for what runs share while they are under way."""
        path = self.folder / ".shared.tmp"
        with translate_os_errors(path):
            path.mkdir(exist_ok=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def write_index(self, index: dict[str, Any]) -> None:
        """Note which runs make up the experiment now.

        Raises:
            StoreError: The disk is full, or the folder can't be written.
        """
        with whole_file(self.folder / INDEX) as path:
            path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")

    def index(self) -> dict[str, Any]:
        """Return which runs make up the experiment.

        Raises:
            StoreError: Nothing is stored here.
        """
        path = self.folder / INDEX
        if not path.exists():
            inner = [other.parent.name for other in self.folder.glob(f"*/{INDEX}")]
            right = f"run `ssim run` first (looked for {path})"
            if inner:
                right = f"there is {', '.join(f'{self.folder.name}/{name}' for name in inner)}"
            raise StoreError(str(self.folder), "holds no results", "", right)
        return _read_json(path, "index/1", ("name", "swept", "runs"))


def _read_json(path: Path, schema: str, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(str(path), "is damaged", str(error), _MEND) from error
    if not isinstance(found, dict) or found.get("schema") != schema or not all(key in found for key in keys):
        raise StoreError(str(path), "is damaged, or of another version", "", _MEND)
    return found


def _is_exact(keep: Keep) -> bool:
    """Return whether quantiles are those of the latencies themselves: where no query is kept, they are counted ones.

    Also by an engine that has every query at hand, so that the figures of a run do not depend on the engine.
    """
    return BATCHES in KEPT[keep]


def _summary(run: RunMetrics, keep: Keep) -> dict[str, Any]:
    """Return the figures of a run, in the columns of summary.csv."""
    quantile_ns: Callable[[float], float] = run.latency_quantile_ns
    if isinstance(run, Result) and not _is_exact(keep):
        quantile_ns = partial(histogram.quantile_ns, histogram.latency_histogram(run.latency_ns))
    return {
        "queries": run.queries,
        "slo_attainment": metrics.slo_attainment(run),
        "mean_serving_accuracy": _number(metrics.mean_serving_accuracy(run)),
        "dropped": run.count(Outcome.DROPPED),
        "late": run.count(Outcome.LATE),
        "p50_latency_ms": _number(quantile_ns(0.50) / 1e6),
        "p99_latency_ms": _number(quantile_ns(0.99) / 1e6),
        "utilisation": _number(metrics.utilisation(run)),
        "mean_batch_size": _number(metrics.mean_batch_size(run)),
        "unfinished": run.count(Outcome.UNFINISHED),
    }


def _number(value: float) -> float | None:
    """Return a number as JSON knows it: there is no NaN."""
    return None if np.isnan(value) else value


def _batches(result: Result) -> pa.Table:
    batches = result.batches
    return _table(
        "batches/1",
        start_ns=(batches.start_ns, "dispatch, ns from the start of the run"),
        finish_ns=(batches.finish_ns, "answer, or failure of the worker, ns"),
        worker=(batches.worker.astype(np.int32), "number of the worker"),
        subnet=(_named(batches.subnet, _subnets(result)), "id of the subnet"),
        size=(batches.size.astype(np.int32), "queries"),
        lost=(batches.lost, "the worker failed meanwhile"),
    )


def _requests(result: Result) -> pa.Table:
    def per_query(column: Any) -> pa.Array:
        values = result.per_query(column)
        return pa.array(values, mask=values == NONE)

    batches = result.batches
    subnet = result.per_query(batches.subnet)
    finish = result.per_query(batches.finish_ns)
    return _table(
        "requests/1",
        arrival_ns=(result.trace.arrival_ns, "ns from the start of the run"),
        deadline_ns=(result.trace.deadline_ns, "ns"),
        start_ns=(per_query(batches.start_ns), "dispatch of its batch, ns; null: never"),
        finish_ns=(pa.array(finish, mask=~result.answered), "answer, ns; null: never"),
        worker=(per_query(batches.worker).cast(pa.int32()), "number of the worker; null: none"),
        subnet=(_named(subnet, _subnets(result), mask=subnet == NONE), "id of the subnet; null: none"),
        batch_size=(per_query(batches.size).cast(pa.int32()), "queries in its batch; null: none"),
        outcome=(
            _named(result.outcome, [outcome.name.lower() for outcome in Outcome]),
            "met, late, dropped or unfinished",
        ),
    )


def _windows(run: RunMetrics) -> pa.Table:
    meaning = "per window of 1 s; queries by arrival, batches by start"
    return _table("windows/1", **{name: (values, meaning) for name, values in metrics.windows(run).items()})


_TABLES: dict[str, Any] = {
    WINDOWS: _windows,
    BATCHES: _batches,
    REQUESTS: _requests,
}


def _subnets(result: Result) -> list[str]:
    return [subnet.id for subnet in result.table.subnets]


def _named(codes: Any, names: list[str], mask: Any = None) -> pa.Array:
    indices = pa.array(
        np.asarray(codes).astype(np.int8 if len(names) <= np.iinfo(np.int8).max else np.int32), mask=mask
    )
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def _table(schema: str, **columns: tuple[Any, str]) -> pa.Table:
    """Return a table whose columns carry their meaning and which carries its schema."""
    arrays = [pa.array(values) if isinstance(values, np.ndarray) else values for values, _ in columns.values()]
    fields = [
        pa.field(name, array.type, metadata={"meaning": meaning})
        for (name, (_, meaning)), array in zip(columns.items(), arrays, strict=True)
    ]
    return pa.table(arrays, schema=pa.schema(fields, metadata={"schema": schema}))


def _write(path: Path, table: pa.Table) -> dict[str, Any]:
    """Write a parquet file and return what the manifest says of it."""
    times = [name for name in table.column_names if name.endswith("_ns")]
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": [name for name in table.column_names if name not in times],
        "column_encoding": dict.fromkeys(times, "DELTA_BINARY_PACKED"),
    }
    pq.write_table(table, path, **options)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"rows": table.num_rows, "bytes": path.stat().st_size, "sha256": digest}
