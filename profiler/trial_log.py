"""The trials of a profile on disk: a JSON line each as soon as it is made, and parquet in the end.

The first line identifies the profile. An incomplete last line, from a full disk or a killed process, is dropped when
the log is read.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from profiler.grid import Cell, CellStatus, DeviceState, DeviceUse, Grid, TrialRecord
from profiler.trial import Trial
from sim.base.errors import SpecError
from sim.base.whole_file import translate_os_errors, whole_file

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from profiler.schedule import CellError

_SCHEMA = "visits/1"  # the format has kept its first name


class TrialLog:
    """Appends trials to a file, each as soon as it is made."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Open the log of a profile, or create it.

        Args:
            path: The file.
            identity: All that determines the measurements; the log of another identity is refused.

        Raises:
            SpecError: The file is the log of another profile.
            StoreError: The file can't be read or written.
        """
        self._path = path
        self.grid = Grid()
        with translate_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lines, length = _complete_lines(path)
            if lines and (lines[0].get("schema") != _SCHEMA or lines[0].get("identity") != identity):
                hint = "another --out, or --force to start again"
                raise SpecError(str(path), "contains another profile", _differences(lines[0], identity), hint)
            for line in lines[1:]:
                _read(line, self.grid)
            self._file = path.open("ab", buffering=0)  # so that closing can't fail on unwritten bytes
            self._file.truncate(length)
            if not lines:
                self._write({"schema": _SCHEMA, "identity": identity})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: TrialRecord) -> None:
        """Append a trial.

        Raises:
            StoreError: The disk is full.
        """
        device = record.trial.device_ns
        with translate_os_errors(self._path):
            self._write(
                {
                    "subnet": record.cell.subnet,
                    "batch_size": record.cell.batch_size,
                    "round": record.round,
                    "warmups": record.trial.warmups,
                    "settled": record.trial.settled,
                    "wall_ns": record.trial.wall_ns.tolist(),
                    "device_ns": None if device is None else device.tolist(),
                    "condition": dataclasses.asdict(record.state),
                }
            )

    def fail(self, cell: Cell, error: CellError) -> None:
        """Append the failure of a cell.

        Raises:
            StoreError: The disk is full.
        """
        with translate_os_errors(self._path):
            self._write(
                {"subnet": cell.subnet, "batch_size": cell.batch_size, "failed": error.status, "why": str(error)}
            )

    def use(self, cell: Cell, use: DeviceUse) -> None:
        """Append how a cell uses the device, if anything is known of it.

        Raises:
            StoreError: The disk is full.
        """
        if use != DeviceUse():
            with translate_os_errors(self._path):
                self._write({"subnet": cell.subnet, "batch_size": cell.batch_size, "use": use._asdict()})

    def _write(self, line: dict[str, Any]) -> None:
        unwritten = memoryview((json.dumps(line) + "\n").encode())
        while unwritten:
            unwritten = unwritten[self._file.write(unwritten) :]


def _complete_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a log before the first incomplete one, and their bytes."""
    lines: list[dict[str, Any]] = []
    length = 0
    for text in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        try:
            line = json.loads(text) if text.endswith(b"\n") else None
        except ValueError:
            line = None
        if not isinstance(line, dict):
            break
        lines.append(line)
        length += len(text)
    return lines, length


def _differences(first: dict[str, Any], identity: dict[str, Any]) -> str:
    """Return the names of the differences, with both values of the first."""
    stored = first.get("identity")
    if not isinstance(stored, dict):
        return "of another version"
    names = [name for name in identity.keys() | stored.keys() if identity.get(name) != stored.get(name)]
    name = min(names, default="")
    return f"{', '.join(sorted(names))}: stored {stored.get(name)!r}, now {identity.get(name)!r}"


def _read(line: dict[str, Any], grid: Grid) -> None:
    cell = Cell(line["subnet"], line["batch_size"])
    if "failed" in line:
        grid.failed[cell] = CellStatus(line["failed"])
        return
    if "use" in line:
        grid.use[cell] = DeviceUse(**line["use"])
        return
    device = None if line["device_ns"] is None else np.array(line["device_ns"], dtype=np.int64)
    trial = Trial(np.array(line["wall_ns"], dtype=np.int64), device, line["warmups"], line["settled"])
    state: dict[str, Any] = line["condition"] | {"throttled_by": tuple(line["condition"]["throttled_by"])}
    grid.records.append(TrialRecord(cell, line["round"], trial, DeviceState(**state)))


def write_samples(grid: Grid, path: Path) -> None:
    """Write every sample as parquet: subnet, batch_size, round, sample, wall_ns, device_ns, settled, clock_mhz, ...

    Raises:
        StoreError: The file can't be written.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for record in grid.records:
        wall, device = record.trial.wall_ns.tolist(), record.trial.device_ns
        device_times = [None] * len(wall) if device is None else device.tolist()
        state = record.state
        for number, (wall_ns, device_ns) in enumerate(zip(wall, device_times, strict=True)):
            times = (record.round, number, wall_ns, device_ns, record.trial.settled)
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
