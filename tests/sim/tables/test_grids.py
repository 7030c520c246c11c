"""Whatever holds whole nanoseconds makes the same table, which nobody can change; anything else is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from sim import DataError, LatencyTable, ProfiledSubnet
from tests.strategies import assert_same

if TYPE_CHECKING:
    from collections.abc import Callable

SUBNETS = (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0))
SIZES = (1, 2, 4)
NS = np.array([[1000, 2000, 4000], [3000, 5000, 9000]])
TABLE = LatencyTable("gpu", SUBNETS, SIZES, NS)
FRAME = pd.DataFrame(NS, index=["s", "l"], columns=[1, 2, 4])

WAYS: dict[str, Callable[[], Any]] = {
    "nested lists": NS.tolist,
    "tuples of arrays": lambda: tuple(NS),
    "Series": lambda: [pd.Series(row, index=[5, 6, 7]) for row in NS],
    "int16": lambda: NS.astype(np.int16),
    "uint64": lambda: NS.astype(np.uint64),
    "float32": lambda: NS.astype(np.float32),
    "big-endian": lambda: NS.astype(">i8"),
    "column by column": lambda: np.asfortranarray(NS),
    "Python's integers": lambda: NS.astype(object),
    "durations": lambda: NS.astype("timedelta64[ns]"),
    "durations in us": lambda: (NS // 1000).astype("timedelta64[us]"),
    "a DataFrame": lambda: pd.DataFrame(NS),
    "a labelled DataFrame": lambda: FRAME,
    "a shuffled DataFrame": lambda: FRAME.iloc[::-1, [2, 0, 1]],
    "labels of a float index": lambda: FRAME.set_axis([1.0, 2.0, 4.0], axis=1),
    "a nullable DataFrame": lambda: FRAME.astype("Int64"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_type_that_holds_the_numbers_makes_the_same_table(way: str) -> None:
    assert_same(LatencyTable("gpu", list(SUBNETS), pd.Series(SIZES), WAYS[way](), p99_ns=WAYS[way]()), TABLE, "p99_ns")


def test_one_row_or_one_column_may_be_flat() -> None:
    assert LatencyTable("gpu", SUBNETS, [1], pd.Series([5, 9])).latency_ns.tolist() == [[5], [9]]
    assert LatencyTable("gpu", SUBNETS[:1], SIZES, [5, 9, 11]).latency_ns.tolist() == [[5, 9, 11]]


def test_nobody_changes_a_table() -> None:
    given, origin, cell = NS.copy(), {"source": "lab"}, np.array([3, 1, 2])
    grids = {"p99_ns": given, "low_ns": given, "high_ns": given, "stages": {"all": given}}
    table = LatencyTable("gpu", SUBNETS, SIZES, given, **grids, provenance=origin, samples_ns=[[cell] * 3] * 2)
    given[:], cell[:] = 7, 7
    grids["stages"].clear()
    origin.clear()
    for grid in (table.latency_ns, *table.uncertainty.values(), table.stages["all"]):
        assert grid.tolist() == NS.tolist()
        with pytest.raises(ValueError, match="read-only"):
            grid[0, 0] = 1
    assert table.samples_ns is not None
    assert table.samples_ns[1][2].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        table.samples_ns[0][0][0] = 1
    assert table.provenance == {"source": "lab"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (NS / 1e6, r"is not whole nanoseconds \(0.001\); whole nanoseconds \(1 ms is 1,000,000 ns\)"),
        (NS * np.nan, r"is not whole nanoseconds \(nan\)"),
        (NS * np.inf, r"is not whole nanoseconds \(inf\)"),
        (NS * 1e300, r"is not whole nanoseconds \(1e\+303\)"),
        (NS.astype(np.uint64) + 2**63, r"is not whole nanoseconds \(92233"),
        ([[2**70] * 3] * 2, "is beyond 64 bits"),
        (NS > 0, r"is not an array of numbers \(bool, shape \(2, 3\)\)"),
        ([[True, 2, 3], [4, 5, 6]], r"is not an array of numbers \(bool"),
        ([[1, 2, 3], [4, 5, None]], r"is not an array of numbers \(object"),
        (NS.astype(str), r"is not an array of numbers \(<U"),
        (NS * 1j, r"is not an array of numbers \(complex128"),
        ([[1, 2, 3], [4, 5]], r"rows have different lengths"),
        (NS[:, :2], r"has the wrong shape \(\(2, 2\)\); \(2, 3\): a row per subnet, a column per batch size"),
        (7, r"has the wrong shape \(\(\)\)"),
        (np.array([["NaT"] * 3] * 2, "timedelta64[ms]"), r"is not whole nanoseconds \(a missing duration\)"),
        (NS.astype("datetime64[ns]"), r"is not an array of numbers \(datetime64"),
        (FRAME.rename(index={"s": "small"}), r"the labels of its index are not the subnets \(small, l\); s, l"),
        (FRAME.rename(columns={4: 8}), r"the labels of its columns are not the batch sizes \(1, 2, 8\); 1, 2, 4"),
    ],
)
def test_anything_else_is_refused(values: object, says: str) -> None:
    with pytest.raises(DataError, match=rf"table of gpu, latency_ns: {says}"):
        LatencyTable("gpu", SUBNETS, SIZES, values)
