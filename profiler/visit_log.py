"""The visits of a profile on disk: a line each as they are made, so that nothing is lost; as parquet in the end.

The first line says what is measured. A line that was cut off in the middle, by a full disk or the end of the process,
is left out when the log is read again.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from profiler.grid import Cell, Condition, Grid, Record, Verdict
from profiler.visit import Visit
from sim.base.errors import SpecError
from sim.base.whole_file import translate_os_errors, whole_file

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from profiler.campaign import CellError

_SCHEMA = "visits/1"


class VisitLog:
    """Appends visits to a file, each as soon as it is made."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Open the log of a profile, or begin it.

        Args:
            path: The file.
            identity: All that decides what is measured; a log of anything else is refused.

        Raises:
            SpecError: The file is the log of another profile.
            StoreError: It can't be read or written.
        """
        self._path = path
        self.grid = Grid()
        with translate_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lines, length = _whole_lines(path)
            if lines and (lines[0].get("schema") != _SCHEMA or lines[0].get("identity") != identity):
                other, right = _what_differs(lines[0], identity), "another --out, or --force to measure anew"
                raise SpecError(str(path), "has the visits of another profile", other, right)
            for line in lines[1:]:
                _read(line, self.grid)
            self._file = path.open("ab", buffering=0)  # nothing is kept back to fail again when it is closed
            self._file.truncate(length)
            if not lines:
                self._write({"schema": _SCHEMA, "identity": identity})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Append a visit.

        Raises:
            StoreError: The disk is full.
        """
        device = record.visit.device_ns
        with translate_os_errors(self._path):
            self._write(
                {
                    "subnet": record.cell.subnet,
                    "batch_size": record.cell.batch_size,
                    "round": record.round,
                    "warmups": record.visit.warmups,
                    "settled": record.visit.settled,
                    "wall_ns": record.visit.wall_ns.tolist(),
                    "device_ns": None if device is None else device.tolist(),
                    "condition": dataclasses.asdict(record.condition),
                }
            )

    def fail(self, cell: Cell, error: CellError) -> None:
        """Append that a cell can't be measured.

        Raises:
            StoreError: The disk is full.
        """
        with translate_os_errors(self._path):
            self._write(
                {"subnet": cell.subnet, "batch_size": cell.batch_size, "failed": error.verdict, "why": str(error)}
            )

    def _write(self, line: dict[str, Any]) -> None:
        rest = memoryview((json.dumps(line) + "\n").encode())
        while rest:
            rest = rest[self._file.write(rest) :]


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a log up to the first that is not whole, and how many bytes these take."""
    found: list[dict[str, Any]] = []
    length = 0
    for text in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        try:
            line = json.loads(text) if text.endswith(b"\n") else None
        except ValueError:
            line = None
        if not isinstance(line, dict):
            break
        found.append(line)
        length += len(text)
    return found, length


def _what_differs(first: dict[str, Any], identity: dict[str, Any]) -> str:
    """Return which facts differ, with both values of the first."""
    there = first.get("identity")
    if not isinstance(there, dict):
        return "of another version"
    names = [name for name in identity.keys() | there.keys() if identity.get(name) != there.get(name)]
    name = min(names, default="")
    return f"{', '.join(sorted(names))}: {there.get(name)!r} there, {identity.get(name)!r} here"


def _read(line: dict[str, Any], grid: Grid) -> None:
    cell = Cell(line["subnet"], line["batch_size"])
    if "failed" in line:
        grid.failed[cell] = Verdict(line["failed"])
        return
    device = None if line["device_ns"] is None else np.array(line["device_ns"], dtype=np.int64)
    found = Visit(np.array(line["wall_ns"], dtype=np.int64), device, line["warmups"], line["settled"])
    state: dict[str, Any] = line["condition"] | {"throttled_by": tuple(line["condition"]["throttled_by"])}
    condition = Condition(**state)
    grid.records.append(Record(cell, line["round"], found, condition))


def write_samples(grid: Grid, path: Path) -> None:
    """Write every sample as parquet: subnet, batch_size, round, sample, wall_ns, device_ns, settled, clock_mhz, ...

    Raises:
        StoreError: It can't be written.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for record in grid.records:
        wall, device = record.visit.wall_ns.tolist(), record.visit.device_ns
        own = [None] * len(wall) if device is None else device.tolist()
        state = record.condition
        for number, (wall_ns, device_ns) in enumerate(zip(wall, own, strict=True)):
            times = (record.round, number, wall_ns, device_ns, record.visit.settled)
            facts = (state.clock_mhz, state.temperature_c, state.power_w, ", ".join(state.throttled_by))
            row: tuple[Any, ...] = (*record.cell, *times, *facts)
            for name, value in zip(_COLUMNS, row, strict=True):
                columns[name].append(value)
    table = pa.table({name: pa.array(columns[name], kind) for name, kind in _COLUMNS.items()})
    with whole_file(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")


_COLUMNS = {
    "subnet": pa.string(),
    "batch_size": pa.int32(),
    "round": pa.int32(),
    "sample": pa.int32(),
    "wall_ns": pa.int64(),
    "device_ns": pa.int64(),
    "settled": pa.bool_(),
    "clock_mhz": pa.float64(),
    "temperature_c": pa.float64(),
    "power_w": pa.float64(),
    "throttled_by": pa.string(),
}
