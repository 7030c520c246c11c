"""Accuracies in files, and as a latency table takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim.base.errors import DataError
from sim.base.parquet import read_parquet
from sim.tables.accuracies import Accuracies, Accuracy
from sim.tables.latency import ControlTuple, LatencyTable, ProfiledSubnet

if TYPE_CHECKING:
    from pathlib import Path


def row(depth: int, seed: int, accuracy: float, without: float | None = None) -> Accuracy:
    control = ControlTuple((depth,), (0.5, 1.0), ())
    return Accuracy(f"net:d{depth}:e0.5,1.0", control, seed, accuracy, without, 100, 2_000_000_000 * depth, 7)


ROWS = Accuracies((row(2, 0, 80.0, 12.5), row(1, 0, 70.0), row(2, 1, 82.0), row(1, 1, 69.0)), {"data": "digits"})


def test_a_file_holds_all(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    ROWS.write(path)
    assert Accuracies.read(path) == ROWS
    assert pq.read_schema(path).field("macs").metadata[b"unit"] == b"multiply-accumulate operations of one example"


def test_a_latency_table_takes_them() -> None:
    small, large = ROWS.subnets()
    assert small == ProfiledSubnet("net:d1:e0.5,1.0", 69.5, ControlTuple((1,), (0.5, 1.0), ()), 2.0, 7)
    assert large.accuracy == 81.0
    assert [subnet.accuracy for subnet in ROWS.subnets(seed=1)] == [69.0, 82.0]
    LatencyTable("gpu", ROWS.subnets(), (1,), np.array([[1], [2]]))
    with pytest.raises(DataError, match=r"accuracies: no accuracies of this seed \(3\); 0, 1"):
        ROWS.subnets(seed=3)


def test_new_rows_take_the_place_of_old_ones() -> None:
    merged = ROWS.merged([row(2, 1, 90.0), row(3, 0, 91.0)])
    assert [found.accuracy for found in merged.rows] == [80.0, 70.0, 90.0, 69.0, 91.0]


def test_other_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(DataError, match=r"a\.parquet: can't be read"):
        Accuracies.read(path)
    ROWS.write(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="is not a valid parquet file"):
        Accuracies.read(path)
    pq.write_table(pa.table({"subnet": ["a"]}), path)
    with pytest.raises(DataError, match="holds no accuracies"):
        Accuracies.read(path)
    ROWS.write(path)
    table = read_parquet(path)
    pq.write_table(table.drop_columns(["macs"]), path)
    with pytest.raises(DataError, match=r"column macs: has the wrong type or gaps \(missing\)"):
        Accuracies.read(path)
