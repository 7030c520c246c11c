"""The report of a profile, in Markdown: what was measured, how sure it is, and what may be made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.assemble import STAGE
from profiler.grid import SLOWED, Cell, Verdict, is_throttled, verdicts
from sim.base.units import ms_from_ns
from sim.tables.checks import check_properties

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from profiler.assemble import HeldOut
    from profiler.grid import Grid, Measured
    from profiler.measuring import Outcome, Profile
    from sim.tables.latency import LatencyTable

_MOVED = 0.1
"""Rounds that differ by more than this share are worth a warning."""


def report(profile: Profile, outcome: Outcome, grid: Grid, picture: str) -> str:
    """Return the report.

    Args:
        profile: What was to be measured.
        outcome: What came out.
        grid: The visits.
        picture: The file name of the heat map.
    """
    table = outcome.table
    parts = [
        [f"# {table.device}", "", *(f"- {name}: {text}" for name, text in table.provenance.items())],
        ["## Verdicts", "", *_verdicts(outcome.found, profile.precision), *warnings(grid)],
        ["## Latency in ms", "", *_latencies(table, outcome.found), "", f"![Latency]({picture})"],
        *([["## Stages in ms", "", *_stages(profile, table.batch_sizes, outcome.found)]] if profile.stages else []),
        ["## Batch sizes between", "", *_between(table, outcome.held_out)],
        ["## Properties that policies rely on", "", *_properties(table)],
        ["## Drift", "", *_drift(grid)],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def warnings(grid: Grid) -> list[str]:
    """Return what makes the whole profile doubtful, a sentence each."""
    found: list[str] = []
    clocks = [r.condition.clock_mhz for r in grid.records if r.condition.clock_mhz is not None]
    if clocks and min(clocks) < (1 - _MOVED) * max(clocks):
        found.append(f"Clocks moved between {min(clocks):.0f} and {max(clocks):.0f} MHz.")
    slow = sum(is_throttled(record.condition, grid.fastest_mhz) for record in grid.records)
    if slow:
        reasons = sorted({why for record in grid.records for why in record.condition.throttled_by})
        why = ", ".join(reasons) or f"clock below {SLOWED:.0%} of the fastest"
        found.append(f"The device was throttled in {slow} of {len(grid.records)} visits ({why}).")
    rounds = grid.drift()
    if rounds and max(rounds.values()) - min(rounds.values()) > _MOVED:
        found.append(
            f"Rounds differ by {max(rounds.values()) - min(rounds.values()):.0%}: the machine was not at rest."
        )
    return found


def _verdicts(found: Mapping[Cell, Measured], precision: float) -> Iterator[str]:
    meaning = {
        Verdict.OK: f"the interval of the median is within {precision:.1%} of it",
        Verdict.NOISY: "it is wider",
        Verdict.THROTTLED: "too few visits found the device at its own speed",
        Verdict.OUT_OF_MEMORY: "the batch does not fit",
        Verdict.NOT_A_NUMBER: "the result has NaN or infinity",
    }
    for verdict, count in verdicts(found).items():
        yield f"- {count} of {len(found)} cells {verdict}: {meaning[verdict]}"


def _latencies(table: LatencyTable, found: Mapping[Cell, Measured]) -> Iterator[str]:
    yield f"| subnet | accuracy % | {' | '.join(f'batch {size}' for size in table.batch_sizes)} |"
    yield "|---|---|" + "---|" * len(table.batch_sizes)
    for row, subnet in enumerate(table.subnets):
        cells = (_cell(found[Cell(subnet.id, size)]) for size in table.batch_sizes)
        star = " *" if row in table.pareto else ""
        yield f"| {subnet.id}{star} | {subnet.accuracy:.2f} | {' | '.join(cells)} |"
    yield ""
    yield "The forward pass: median ± half of its 95 % interval. `*`: no other is as accurate and as fast."


def _stages(profile: Profile, sizes: Sequence[int], found: Mapping[Cell, Measured]) -> Iterator[str]:
    yield f"| stage | {' | '.join(f'batch {size}' for size in sizes)} |"
    yield "|---|" + "---|" * len(sizes)
    for name in profile.stages:
        yield f"| {name} | {' | '.join(_cell(found[Cell(STAGE + name, size)]) for size in sizes)} |"


def _cell(one: Measured) -> str:
    """Return median and doubt in milliseconds, and the verdict where it is not ok."""
    if one.wall is None:
        return one.verdict.value
    doubt = f" ± {one.wall.doubt:.1%}" if np.isfinite(one.wall.doubt) else ""
    verdict = "" if one.verdict is Verdict.OK else f" ({one.verdict.value})"
    return f"{ms_from_ns(round(one.wall.median)):.3f}{doubt}{verdict}"


def _between(table: LatencyTable, held: Sequence[HeldOut]) -> Iterator[str]:
    if not held:
        yield "No cell was held out."
        return
    yield "| subnet | batch | measured | padded up | on a straight line |"
    yield "|---|---|---|---|---|"
    for one in held:
        errors = (one.padded_ns / one.measured_ns - 1, one.interpolated_ns / one.measured_ns - 1)
        ms = ms_from_ns(round(one.measured_ns))
        yield f"| {one.cell.subnet} | {one.cell.batch_size} | {ms:.3f} ms | {errors[0]:+.1%} | {errors[1]:+.1%} |"
    yield ""
    chosen = {"pad": "padded up", "interpolate": "on a straight line"}[table.between]
    yield f"These cells are not in the table; what it says of such batch sizes: *{chosen}*, the nearer of the two."


def _properties(table: LatencyTable) -> Iterator[str]:
    for found in check_properties(table):
        verdict = "holds in all" if found.holds else f"breaks in {len(found.violations)} of"
        yield f"- {found.name} {verdict} {found.cells} cells: {found.rule}"


def _drift(grid: Grid) -> Iterator[str]:
    yield "How much slower each round of visits was than the first:"
    yield ""
    yield ", ".join(f"{number}: {slower:+.1%}" for number, slower in grid.drift().items())
