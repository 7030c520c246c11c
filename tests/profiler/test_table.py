"""From cells to a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from profiler.confidence import Interval
from profiler.grid import Cell, CellEstimate, CellStatus, DeviceUse
from profiler.table import STAGE, batch_grid, build_table, held_out, midpoints, nearer_rule
from sim import ProfiledSubnet
from sim.base.errors import DataError

SUBNETS = [ProfiledSubnet("a", 60.0), ProfiledSubnet("b", 70.0)]


def ok(median: float, half: float = 1.0) -> CellEstimate:
    p99 = Interval(median + 5, median + 3, median + 9)
    samples = np.array([median - 1, median, median + 1], dtype=np.int64)
    return CellEstimate(CellStatus.OK, Interval(median, median - half, median + half), None, p99, samples, 3)


def test_medians_intervals_and_percentiles_come_into_the_table() -> None:
    found = {Cell(s, b): ok(100 * n + 10 * b) for n, s in enumerate("ab", 1) for b in (1, 2, 4)}
    table = build_table("cpu", SUBNETS, [1, 2, 4], found)
    assert table.latency_ns.tolist() == [[110, 120, 140], [210, 220, 240]]
    assert (table.latency_ns - table.low_ns == 1).all()
    assert (table.high_ns - table.latency_ns == 1).all()
    assert (table.p99_ns - table.latency_ns == 5).all()
    assert (table.p99_ns - table.p99_low_ns == 2).all()
    assert (table.p99_high_ns - table.p99_ns == 4).all()


def test_samples_come_into_the_table_and_their_median_is_the_latency() -> None:
    found = {Cell(s, b): ok(100 * n + 10 * b) for n, s in enumerate("ab", 1) for b in (1, 2)}
    table = build_table("cpu", SUBNETS, [1, 2], found)
    assert np.median(table.samples_ns, axis=2).tolist() == table.latency_ns.tolist()


def test_a_table_has_99th_percentiles_where_every_cell_has_one() -> None:
    found = {Cell(s, b): ok(100 * n + 10 * b) for n, s in enumerate("ab", 1) for b in (1, 2)}
    found[Cell("b", 2)] = replace(found[Cell("b", 2)], p99=None)
    table = build_table("cpu", SUBNETS, [1, 2], found)
    assert table.uncertainty.keys() == {"low_ns", "high_ns"}
    assert table.samples_ns is not None


def test_a_batch_size_that_some_subnet_can_not_run_is_left_out() -> None:
    found = {Cell(s, b): ok(100.0 * b) for s in "ab" for b in (1, 2)}
    found[Cell("b", 2)] = CellEstimate(CellStatus.OUT_OF_MEMORY)
    assert build_table("cpu", SUBNETS, [1, 2], found).batch_sizes == (1,)
    found[Cell("a", 1)] = CellEstimate(CellStatus.NOT_A_NUMBER)
    with pytest.raises(DataError, match="no batch size has a latency for every subnet"):
        build_table("cpu", SUBNETS, [1, 2], found)


def test_stages_add_up() -> None:
    found = {Cell(s, b): ok(100.0 * b) for s in "ab" for b in (1, 2)}
    found |= {Cell(STAGE + "copy", b): ok(10.0 * b) for b in (1, 2)}
    table = build_table("cpu", SUBNETS, [1, 2], found, stages=["copy"])
    assert table.latency_ns.tolist() == [[110, 220], [110, 220]]
    assert {name: grid.tolist() for name, grid in table.stages.items()} == {
        "copy": [[10, 20], [10, 20]],
        "forward": [[100, 200], [100, 200]],
    }
    assert table.low_ns.tolist() == [[108, 218], [108, 218]]
    assert table.p99_ns is None
    assert table.samples_ns is None, "of a sum"


def test_held_out_cells_say_which_rule_is_better() -> None:
    found = {Cell("a", b): ok(100.0 + 10 * b) for b in (1, 2, 3, 4, 6, 8)}
    table = build_table("cpu", SUBNETS[:1], [1, 2, 4, 8], found)
    cells = held_out(table, found)
    assert [(c.cell.batch_size, c.measured_ns, c.padded_ns, c.interpolated_ns) for c in cells] == [
        (3, 130, 140, 130),
        (6, 160, 180, 160),
    ]
    assert nearer_rule(cells) == "interpolate"
    stairs = {Cell("a", b): ok(100.0 * max(1, 2 ** (b - 1).bit_length())) for b in (1, 2, 3, 4, 6, 8)}
    assert nearer_rule(held_out(build_table("cpu", SUBNETS[:1], [1, 2, 4, 8], stairs), stairs)) == "pad"
    assert nearer_rule([]) == "pad"


def test_batch_sizes_double_and_gaps_have_a_middle() -> None:
    assert batch_grid(1) == [1]
    assert batch_grid(16, [5, 16]) == [1, 2, 4, 5, 8, 16]
    assert midpoints([1, 2]) == []
    assert midpoints([1, 4, 5]) == [2]


def test_the_energy_of_all_batches_goes_into_the_table() -> None:
    found = {Cell(subnet.id, size): ok(40) for subnet in SUBNETS for size in (1, 2)}
    use = {cell: DeviceUse(None, 1.5 * cell.batch_size) for cell in found}
    table = build_table("cpu", SUBNETS, [1, 2], found, use=use)
    assert table.energy_uj.tolist() == [[1500, 3000]] * len(SUBNETS)
    use.popitem()
    assert build_table("cpu", SUBNETS, [1, 2], found, use=use).energy_uj is None
