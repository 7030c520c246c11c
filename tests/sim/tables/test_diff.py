"""Two latency tables, cell by cell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from sim import LatencyTable, ProfiledSubnet
from sim.base.errors import DataError
from sim.tables.diff import LatencyChange, diff_tables
from sim.tables.files import read_table, write_table
from ssim.commands.table import table as table_command

if TYPE_CHECKING:
    from pathlib import Path


def table(latency: list[list[int]], half: int | None = None, sizes: tuple[int, ...] = (1, 4)) -> LatencyTable:
    grid = np.array(latency, dtype=np.int64)
    subnets = tuple(ProfiledSubnet(name, 60.0 + n) for n, name in enumerate("ab"[: len(grid)]))
    ends = {} if half is None else {"low_ns": grid - half, "high_ns": grid + half}
    return LatencyTable("gpu", subnets, sizes, grid, **ends)


def test_faster_slower_and_no_telling() -> None:
    one, other = table([[100, 200], [300, 400]], 10), table([[79, 221], [310, 400]], 10)
    said = [cell.difference for cell in diff_tables(one, other)]
    assert said == [LatencyChange.FASTER, LatencyChange.SLOWER, LatencyChange.INCONCLUSIVE, LatencyChange.SAME]
    back = [cell.difference for cell in diff_tables(other, one)]
    assert back == [LatencyChange.SLOWER, LatencyChange.FASTER, LatencyChange.INCONCLUSIVE, LatencyChange.SAME]
    assert diff_tables(one, other)[1].ratio == pytest.approx(1.105)


def test_intervals_that_touch_tell_nothing() -> None:
    assert diff_tables(table([[100, 200]], 10), table([[120, 221]], 10))[0].difference == LatencyChange.INCONCLUSIVE
    assert diff_tables(table([[100, 200]], 10), table([[120, 221]], 10))[1].difference == LatencyChange.SLOWER


def test_without_intervals_only_what_is_equal_is_told() -> None:
    said = [cell.difference for cell in diff_tables(table([[100, 200]]), table([[100, 900]], 10))]
    assert said == [LatencyChange.SAME, LatencyChange.INCONCLUSIVE]


def test_only_common_cells_are_compared_and_none_is_an_error() -> None:
    (cell,) = diff_tables(table([[1, 2], [3, 4]]), table([[5]], sizes=(4,)))
    assert (cell.subnet, cell.batch_size, cell.first_ns, cell.second_ns) == ("a", 4, 2, 5)
    with pytest.raises(DataError, match="have no cells in common"):
        diff_tables(table([[1, 2]]), table([[5]], sizes=(3,)))


@pytest.mark.parametrize("suffix", ["parquet", "json"])
def test_intervals_survive_in_files(tmp_path: Path, suffix: str) -> None:
    one = table([[100, 200], [300, 400]], 10)
    write_table(one, tmp_path / f"t.{suffix}")
    found = read_table(tmp_path / f"t.{suffix}")
    assert found.low_ns is not None
    assert found.high_ns is not None
    assert found.low_ns.tolist() == [[90, 190], [290, 390]]
    assert found.high_ns.tolist() == [[110, 210], [310, 410]]
    assert found.up_to(1).low_ns.tolist() == [[90], [290]]  # type: ignore[union-attr]


def test_an_interval_holds_its_latency() -> None:
    one = table([[100, 200]], 10)
    with pytest.raises(DataError, match=r"latency outside its confidence interval \(subnet a, batch 4\)"):
        replace(one, low_ns=np.array([[90, 201]]))
    with pytest.raises(DataError, match="interval of the latency is incomplete"):
        replace(one, high_ns=None)


def test_the_command_lists_what_differs_and_ends_with_1_if_anything_does(tmp_path: Path) -> None:
    write_table(table([[100, 200], [300, 400]], 10), tmp_path / "a.parquet")
    write_table(table([[79, 200], [310, 400]], 10), tmp_path / "b.parquet")
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    ended = CliRunner().invoke(table_command, ["diff", *files])
    assert ended.exit_code == 1
    assert "4 cells: 1 faster, 2 same, 1 inconclusive" in ended.output
    assert ended.output.count("faster") == 2
    assert CliRunner().invoke(table_command, ["diff", files[0], files[0]]).exit_code == 0
    assert CliRunner().invoke(table_command, ["diff", *files, "--all"]).output.count("\n") >= 5
