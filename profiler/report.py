"""The report of a profile in Markdown: latencies, their uncertainty, held-out cells, drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.confidence import FEWEST_FOR_P99
from profiler.grid import THROTTLED_BELOW, Cell, CellStatus, count_statuses, is_throttled
from profiler.table import STAGE
from sim.base.units import ms_from_ns
from sim.tables.checks import check_properties
from sim.tables.latency import LatencyTable, ProfiledSubnet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from profiler.confidence import Interval
    from profiler.grid import CellEstimate, Grid
    from profiler.profile import ProfilePlan, ProfileResult
    from profiler.table import HeldOutCell

_MAX_DRIFT = 0.1
"""Rounds or clocks that differ by more than this share cause a warning."""


def report(plan: ProfilePlan, result: ProfileResult, grid: Grid, figure: str | None = None) -> str:
    """Return the report.

    Args:
        plan: The cells and the precision.
        result: Of the profile.
        grid: The trials.
        figure: The file name of the heat map; None if there is none.
    """
    table = result.table
    parts = [
        [f"# {table.device}", "", *(f"- {name}: {text}" for name, text in table.provenance.items())],
        ["## Status of the cells", "", *_statuses(result.estimates, plan.precision), "", *warnings(grid)],
        [
            "## Latency in ms",
            "",
            *_latencies(table, result.estimates),
            *(["", f"![Latency]({figure})"] if figure else []),
        ],
        ["## 99th percentile in ms", "", *_percentiles(table, result.estimates)],
        *([["## Stages in ms", "", *_stages(plan, table.batch_sizes, result.estimates)]] if plan.stages else []),
        *([["## Device time and energy", "", *_device_use(result.estimates, grid)]] if _is_told(grid) else []),
        ["## Held-out batch sizes", "", *_held_out(table, result.held_out)],
        ["## Properties that policies rely on", "", *_properties(table)],
        ["## Drift", "", *_drift(grid)],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def warnings(grid: Grid) -> list[str]:
    """Return the signs of a disturbed or throttled machine, a sentence each."""
    sentences: list[str] = []
    clocks = [r.state.clock_mhz for r in grid.records if r.state.clock_mhz is not None]
    if clocks and min(clocks) < (1 - _MAX_DRIFT) * max(clocks):
        sentences.append(f"Clocks moved between {min(clocks):.0f} and {max(clocks):.0f} MHz.")
    fastest, limit = grid.fastest_mhz, max((r.state.max_mhz or 0 for r in grid.records), default=0)
    if fastest is None:
        sentences.append("Clocks were not read, so throttling would not be seen.")
    elif fastest < THROTTLED_BELOW * limit:
        sentences.append(f"The fastest clock, {fastest:.0f} MHz, is {fastest / limit:.0%} of the device's maximum.")
    capped = sum("power" in record.state.throttled_by for record in grid.records)
    if capped:
        sentences.append(f"The device ran at its power limit in {capped} of {len(grid.records)} trials.")
    shared = sum(bool(record.state.other_processes) for record in grid.records)
    if shared:
        sentences.append(f"Other processes were on the device in {shared} of {len(grid.records)} trials.")
    slow = sum(is_throttled(record.state, grid.fastest_mhz) for record in grid.records)
    if slow:
        reasons = sorted({reason for r in grid.records for reason in r.state.throttled_by if reason != "power"})
        why = ", ".join(reasons) or f"clock below {THROTTLED_BELOW:.0%} of the fastest"
        sentences.append(f"The device was throttled in {slow} of {len(grid.records)} trials ({why}).")
    rounds = grid.drift()
    if rounds and max(rounds.values()) - min(rounds.values()) > _MAX_DRIFT:
        sentences.append(
            f"Rounds differ by {max(rounds.values()) - min(rounds.values()):.0%}: the machine was not idle."
        )
    return sentences


def _statuses(estimates: Mapping[Cell, CellEstimate], precision: float) -> Iterator[str]:
    meaning = {
        CellStatus.OK: f"the interval of the median is within {precision:.1%} of it",
        CellStatus.NOISY: f"the interval of the median is wider than {precision:.1%} of it",
        CellStatus.THROTTLED: "too few trials ran at the device's normal clock",
        CellStatus.OUT_OF_MEMORY: "the batch does not fit",
        CellStatus.NOT_A_NUMBER: "the result contains NaN or infinity",
        CellStatus.NOT_COMPILED: "the subnet does not compile as a whole",
    }
    for status, count in count_statuses(estimates).items():
        yield f"- {count} of {len(estimates)} cells {status}: {meaning[status]}"


def latency_rows(
    table: LatencyTable | ProfilePlan, estimates: Mapping[Cell, CellEstimate]
) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table of latencies, the header first: medians in ms with half-widths of their intervals.

    Args:
        table: The table; the plan where accuracies are unknown.
        estimates: Of each cell.
    """
    yield ("subnet", "accuracy %", *(f"batch {size}" for size in table.batch_sizes))
    for row, subnet in enumerate(table.subnets):
        star = " *" if isinstance(table, LatencyTable) and row in table.pareto else ""
        cells = (_cell(estimates[Cell(subnet.id, size)]) for size in table.batch_sizes)
        accuracy = f"{subnet.accuracy:.2f}" if isinstance(subnet, ProfiledSubnet) else "unknown"
        yield (f"{subnet.id}{star}", accuracy, *cells)


LATENCY_NOTE = "The forward pass: median ± relative half-width of its 95 % interval. `*`: on the Pareto front."


def _latencies(table: LatencyTable, estimates: Mapping[Cell, CellEstimate]) -> Iterator[str]:
    for number, row in enumerate(latency_rows(table, estimates)):
        yield f"| {' | '.join(row)} |"
        if number == 0:
            yield "|---" * len(row) + "|"
    yield ""
    yield LATENCY_NOTE


def _percentiles(table: LatencyTable, estimates: Mapping[Cell, CellEstimate]) -> Iterator[str]:
    cells = [Cell(subnet.id, size) for subnet in table.subnets for size in table.batch_sizes]
    known = {cell: p99 for cell in cells if (p99 := estimates[cell].p99)}
    if known:
        yield f"| subnet | {' | '.join(f'batch {size}' for size in table.batch_sizes)} |"
        yield "|---|" + "---|" * len(table.batch_sizes)
        for subnet in table.subnets:
            found = (known.get(Cell(subnet.id, size)) for size in table.batch_sizes)
            yield f"| {subnet.id} | {' | '.join(_percentile(p99) if p99 else '' for p99 in found)} |"
        yield ""
    yield (
        f"{len(known)} of {len(cells)} cells have the samples that a 99th percentile needs for its 95 % interval: "
        f"{FEWEST_FOR_P99} or more. Longer measurements (`--minutes`, a smaller `--precision`) give more samples."
    )


def _percentile(p99: Interval) -> str:
    low, middle, high = (f"{ms_from_ns(round(ns)):.3f}" for ns in (p99.low, p99.median, p99.high))
    return f"{middle} ({low} to {high})"


def _stages(plan: ProfilePlan, sizes: Sequence[int], estimates: Mapping[Cell, CellEstimate]) -> Iterator[str]:
    yield f"| stage | {' | '.join(f'batch {size}' for size in sizes)} |"
    yield "|---|" + "---|" * len(sizes)
    for name in plan.stages:
        yield f"| {name} | {' | '.join(_cell(estimates[Cell(STAGE + name, size)]) for size in sizes)} |"


def _cell(estimate: CellEstimate) -> str:
    """Return median and relative half-width in milliseconds, and the status where it is not ok."""
    if estimate.wall is None:
        return estimate.status.value
    half_width = estimate.wall.relative_half_width
    interval = f" ± {half_width:.1%}" if half_width < 1 else " ± unknown"
    status = "" if estimate.status is CellStatus.OK else f" ({estimate.status.value})"
    return f"{ms_from_ns(round(estimate.wall.median)):.3f}{interval}{status}"


def _is_told(grid: Grid) -> bool:
    """Return whether the device tells anything of its use, as GPUs do and CPUs don't."""
    return any(value is not None for use in grid.use.values() for value in use)


def _device_use(estimates: Mapping[Cell, CellEstimate], grid: Grid) -> Iterator[str]:
    yield "| cell | batch | wall clock ms | device ms | without launch gaps ms | gaps | mJ per batch | mJ per query |"
    yield "|---" * 8 + "|"
    for cell, use in sorted(grid.use.items()):
        estimate = estimates.get(cell)
        if estimate is None or estimate.wall is None:
            continue
        device_ns = None if estimate.device is None else estimate.device.median
        times = (estimate.wall.median, device_ns, use.busy_ns)
        gaps = "" if device_ns is None or use.busy_ns is None else f"{max(0.0, 1 - use.busy_ns / device_ns):.0%}"
        energies = (use.energy_mj, use.energy_mj and use.energy_mj / cell.batch_size)
        shown = (
            *("" if ns is None else f"{ms_from_ns(round(ns)):.3f}" for ns in times),
            gaps,
            *("" if energy is None else f"{energy:.2f}" for energy in energies),
        )
        yield f"| {cell.subnet} | {cell.batch_size} | {' | '.join(shown)} |"
    yield ""
    yield (
        "Device time is that between two events around the forward pass. Without launch gaps, all launches were queued "
        "before the device got to the first. Energy is the device's own count, idle power included."
    )


def _held_out(table: LatencyTable, cells: Sequence[HeldOutCell]) -> Iterator[str]:
    if not cells:
        yield "No cell was held out."
        return
    yield "| subnet | batch | measured | error of padding | error of interpolation |"
    yield "|---|---|---|---|---|"
    for held_out in cells:
        errors = (ns / held_out.measured_ns - 1 for ns in (held_out.padded_ns, held_out.interpolated_ns))
        values = (held_out.cell.subnet, held_out.cell.batch_size, f"{ms_from_ns(round(held_out.measured_ns)):.3f} ms")
        yield f"| {' | '.join(map(str, values))} | {' | '.join(f'{error:+.1%}' for error in errors)} |"
    yield ""
    rule = {"pad": "padding to the next batch size", "interpolate": "linear interpolation"}[table.between]
    yield f"These batch sizes are not in the table. Its rule for them is *{rule}*, which has the smaller error."


def _properties(table: LatencyTable) -> Iterator[str]:
    for check in check_properties(table):
        result = "holds in all" if check.holds else f"breaks in {len(check.violations)} of"
        yield f"- {check.name} {result} {check.cells} cells: {check.rule}"


def _drift(grid: Grid) -> Iterator[str]:
    yield "Slow-down of each round of trials relative to the first:"
    yield ""
    yield ", ".join(f"{number}: {slower:+.1%}" for number, slower in grid.drift().items())
