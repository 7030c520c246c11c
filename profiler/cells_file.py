"""The estimates of all cells as CSV, for other tools."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from profiler.grid import DeviceUse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.confidence import Interval
    from profiler.grid import Cell, CellEstimate

COLUMNS = (
    "subnet",
    "batch_size",
    "status",
    "trials",
    "discarded",
    "samples",
    *(f"{name}{end}_ns" for name in ("median", "p99", "device") for end in ("", "_low", "_high")),
    "device_busy_ns",
    "energy_mj",
)
"""`device_*`: the time between two events; `device_busy_ns`: without gaps between launches; empty if unknown."""


def cells_text(estimates: Mapping[Cell, CellEstimate], uses: Mapping[Cell, DeviceUse]) -> str:
    """Return a row for each cell, held-out cells and stages included."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell, found in estimates.items():
        use = uses.get(cell, DeviceUse())
        counts = (found.trials, found.discarded, 0 if found.samples_ns is None else len(found.samples_ns))
        times = [text for interval in (found.wall, found.p99, found.device) for text in _times(interval)]
        busy = "" if use.busy_ns is None else str(round(use.busy_ns))
        energy = "" if use.energy_mj is None else f"{use.energy_mj:.6g}"
        writer.writerow([*cell, found.status.value, *counts, *times, busy, energy])
    return out.getvalue()


def _times(interval: Interval | None) -> list[str]:
    """Return median, low and high in whole nanoseconds; unknown ends are empty."""
    ends = (None,) * 3 if interval is None else interval
    return ["" if ns is None or abs(ns) == float("inf") else str(round(ns)) for ns in ends]
