"""The laws of latency tables."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.base.errors import BatchSizeError, DataError
from sim.tables.cells import table_from_cells
from sim.tables.latency import ControlTuple, LatencyTable, ProfiledSubnet
from tests.strategies import assert_same, latency_tables

SUBNETS = (ProfiledSubnet("s", 70.0), ProfiledSubnet("m", 75.0), ProfiledSubnet("l", 80.0))
TABLE = LatencyTable(
    "gpu",
    SUBNETS,
    (1, 4, 8),
    np.array([[10, 20, 30], [20, 40, 60], [30, 60, 120]]),
    np.array([[11, 21, 31], [21, 41, 61], [31, 61, 121]]),
    {"copy": np.array([[1, 2, 3]] * 3), "forward": np.array([[9, 18, 27], [19, 38, 57], [29, 58, 117]])},
    default_max_batch=4,
)


def slow_latency(table: LatencyTable, subnet: int, batch_size: int) -> float:
    row = {size: int(ns) for size, ns in zip(table.batch_sizes, table.latency_ns[subnet], strict=True)}
    above = min(size for size in row if size >= batch_size)
    below = max((size for size in row if size <= batch_size), default=above)
    if table.between == "pad" or above == below:
        return row[above]
    return row[below] + (row[above] - row[below]) * (batch_size - below) / (above - below)


@given(latency_tables(bare=True, highest=10**9))
def test_every_batch_size_costs_what_the_table_says(table: LatencyTable) -> None:
    assert table.dense_ns.shape == (len(table.subnets), table.max_batch + 1)
    assert (table.dense_ns[:, 0] == 0).all()
    for subnet in range(len(table.subnets)):
        for size in range(1, table.max_batch + 1):
            # Interpolation rounds to whole nanoseconds, in floats.
            assert table.latency(subnet, size) == pytest.approx(slow_latency(table, subnet, size), abs=0.501, rel=0)


@given(latency_tables(bare=True, highest=8))
def test_the_pareto_subset_is_what_nobody_dominates(table: LatencyTable) -> None:
    def dominates(t: int, s: int) -> bool:
        a, b = table.subnets[t].accuracy, table.subnets[s].accuracy
        pairs = list(zip(table.latency_ns[t].tolist(), table.latency_ns[s].tolist(), strict=True))
        return a >= b and all(x <= y for x, y in pairs) and (a > b or any(x < y for x, y in pairs))

    everyone = range(len(table.subnets))
    assert table.pareto == tuple(s for s in everyone if not any(dominates(t, s) for t in everyone))
    assert table.pareto


@given(latency_tables(bare=True, highest=20), st.integers(0, 25))
def test_the_largest_batch_within_a_budget_fits_and_no_larger_one_does(table: LatencyTable, budget_ns: int) -> None:
    for subnet in range(len(table.subnets)):
        fitting = [b for b in table.batch_sizes if table.latency(subnet, b) <= budget_ns]
        assert table.largest_within(subnet, budget_ns) == max(fitting, default=0)


@given(latency_tables(bare=True, highest=1000))
def test_nothing_drains_faster_than_the_drain(table: LatencyTable) -> None:
    subnet, size = table.max_throughput
    best = table.latency(subnet, size) / size
    assert all(best <= ns / b for row in table.latency_ns for ns, b in zip(row, table.batch_sizes, strict=True))
    assert table.smallest_ns == table.latency_ns.min()


@given(latency_tables(), st.integers(0, 45))
def test_a_smaller_table_says_the_same_of_what_it_holds(table: LatencyTable, limit: int) -> None:
    if not table.batch_sizes[0] <= limit <= table.max_batch:
        with pytest.raises(BatchSizeError, match=r"no batch size up to \(\d+\); measured:"):
            table.up_to(limit)
        return
    small = table.up_to(limit)
    assert small.batch_sizes == tuple(b for b in table.batch_sizes if b <= limit)
    assert small.default_max_batch is None
    # Which of two equally accurate subnets is faster, and so comes later, depends on the batch sizes that are left.
    rows = dict(zip(table.subnets, table.dense_ns[:, : small.max_batch + 1].tolist(), strict=True))
    assert dict(zip(small.subnets, small.dense_ns.tolist(), strict=True)) == rows
    assert small.stages.keys() == table.stages.keys()


def test_without_a_limit_the_default_holds() -> None:
    assert TABLE.up_to(None).batch_sizes == (1, 4)
    p99_ns = TABLE.up_to(None).p99_ns
    assert p99_ns is not None
    assert p99_ns.tolist() == [[11, 21], [21, 41], [31, 61]]
    no_default = replace(TABLE, default_max_batch=None)
    assert no_default.up_to(None) is no_default


def test_stages_add_up() -> None:
    copy = TABLE.with_stages(["copy"])
    assert copy.latency_ns.tolist() == [[1, 2, 3]] * 3
    assert list(copy.stages) == ["copy"]
    assert copy.p99_ns is None
    assert TABLE.with_stages(["forward", "copy"]) is TABLE
    three = replace(TABLE, stages={**TABLE.stages, "decode": np.array([[5, 5, 5]] * 3)})
    assert three.with_stages(["decode", "copy"]).latency_ns.tolist() == [[6, 7, 8]] * 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["forwrd"], r"table of gpu: unknown stage \(forwrd\); did you mean 'forward'\?"),
        ([], "table of gpu: no stages given; choose from copy, forward"),
    ],
)
def test_a_stage_that_is_not_there(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TABLE.with_stages(names)


def test_a_table_without_stages_has_none_to_choose() -> None:
    with pytest.raises(DataError, match=r"unknown stage \(forward\); the table has no stages"):
        replace(TABLE, stages={}).with_stages(["forward"])


def test_stages_that_take_no_time_are_no_latency() -> None:
    free = replace(TABLE, stages={**TABLE.stages, "copy": np.zeros((3, 3), np.int64)})
    with pytest.raises(DataError, match=r"latency_ns: is not positive \(subnet s, batch 1: 0 ns\); 1 ns or more"):
        free.with_stages(["copy"])


def test_subnets_are_found_by_their_accuracy() -> None:
    assert [TABLE.subnet_of_accuracy(accuracy) for accuracy in (70, 74.96, 80.04)] == [0, 1, 2]
    with pytest.raises(DataError, match=r"no subnet of this accuracy \(72\); known: 70.00, 75.00, 80.00"):
        TABLE.subnet_of_accuracy(72)


@pytest.mark.parametrize("size", [0, -1, 9])
def test_a_batch_that_was_not_measured(size: int) -> None:
    with pytest.raises(BatchSizeError, match=rf"table of gpu: no latency for .*\({size}\); .*8"):
        TABLE.latency(0, size)


def test_arrays_cannot_be_written_to() -> None:
    for grid in (TABLE.latency_ns, TABLE.p99_ns, TABLE.dense_ns, *TABLE.stages.values()):
        with pytest.raises(ValueError, match="read-only"):
            grid[0, 0] = 1


def test_a_table_survives_pickling() -> None:
    assert_same(pickle.loads(pickle.dumps(TABLE)), TABLE)  # noqa: S301 - our own bytes


BAD = [
    ({"subnets": ()}, r"is empty \(0 subnets, 3 batch sizes\)"),
    ({"batch_sizes": ()}, r"is empty \(3 subnets, 0 batch sizes\)"),
    ({"subnets": (SUBNETS[0], SUBNETS[0], SUBNETS[2])}, r"duplicate subnet \(s\); ids must be unique"),
    ({"subnets": SUBNETS[::-1]}, r"not in ascending order of accuracy \(\[80.0, 75.0, 70.0\]\); the least"),
    ({"batch_sizes": (0, 4, 8)}, r"not positive and increasing \(\(0, 4, 8\)\)"),
    ({"batch_sizes": (1, 4, 4)}, r"not positive and increasing \(\(1, 4, 4\)\)"),
    (
        {"latency_ns": TABLE.latency_ns[:2]},
        r"latency_ns: has the wrong shape \(\(2, 3\)\); \(3, 3\): a row per subnet, a column per batch size",
    ),
    ({"latency_ns": TABLE.latency_ns + 0.5}, r"latency_ns: is not whole nanoseconds \(10.5\); whole nanoseconds"),
    ({"latency_ns": TABLE.latency_ns - 10}, r"latency_ns: is not positive \(subnet s, batch 1: 0 ns\); 1 ns or more"),
    ({"p99_ns": TABLE.latency_ns - 31}, r"p99_ns: is not positive \(subnet s, batch 1: -21 ns\)"),
    (
        {"p99_ns": TABLE.latency_ns - 1},
        r"the 99th percentile is below the latency \(subnet s, batch 1: 0.000009 ms < 0.00001 ms\); is it the 99th",
    ),
    ({"p99_low_ns": TABLE.latency_ns}, r"interval of the 99th percentile is incomplete; give p99_high_ns"),
    (
        {"p99_ns": None, "p99_low_ns": TABLE.latency_ns, "p99_high_ns": TABLE.latency_ns},
        r"interval of the 99th percentile is incomplete; give p99_ns",
    ),
    (
        {"p99_low_ns": TABLE.latency_ns, "p99_high_ns": TABLE.latency_ns},
        r"99th percentile outside its confidence interval \(subnet s, batch 1\); p99_low_ns <= p99_ns <= p99_high_ns",
    ),
    (
        {"subnets": tuple(ProfiledSubnet(s.id, s.accuracy / 100) for s in SUBNETS)},
        r"no accuracy is above 1 \(l: 0.8\); percent, such as 73.82: are these shares of 1\?",
    ),
    ({"subnets": ("s", "m", "l")}, r"is not a subnet \('s'\); ProfiledSubnet\(id, accuracy\)"),
    ({"batch_sizes": (1, 4.5, 8)}, r"batch_sizes: is not a whole number \(4.5\)"),
    ({"batch_sizes": (True, 4, 8)}, r"batch_sizes: is not a whole number \(True\)"),
    ({"batch_sizes": "148"}, r"batch_sizes: is not a whole number \('1'\)"),
    ({"batch_sizes": (1, 4, 10**9)}, r"batch size is too large \(1000000000\); at most 1,000,000 queries"),
    ({"default_max_batch": True}, r"default_max_batch: is not a whole number \(True\)"),
    ({"stages": [TABLE.latency_ns]}, r"stages: is not a mapping \(list\); names with values"),
    ({"provenance": "lab"}, r"provenance: is not a mapping \(str\)"),
    ({"energy_uj": [[5, 6, 7], [5, 0, 7], [5, 6, 7]]}, r"energy_uj.*subnet .*batch 4"),
    ({"samples_ns": [[[1]] * 3] * 2}, r"samples_ns: has the wrong shape"),
    ({"samples_ns": [[[1], [], [1]]] * 3}, r"samples_ns, subnet s, batch 4: no samples, or not positive"),
    ({"stages": {"copy": TABLE.latency_ns - 21}}, r"stage copy: is negative \(subnet s, batch 1: -11 ns\); 0 ns"),
    ({"between": "guess"}, r"unknown value of between \('guess'\); pad or interpolate"),
    ({"default_max_batch": 9}, r"default_max_batch is out of range \(9\); 1 to 8"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_table_that_breaks_the_rules(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"table of gpu.*{message}"):
        replace(TABLE, **change)


def test_a_supernet_may_be_as_inaccurate_as_it_is_untrained() -> None:
    untrained = ProfiledSubnet("s", 0.98, ControlTuple((1,), (1.0,), ()))
    assert LatencyTable("gpu", (untrained,), (1,), [[7]]).subnets[0].accuracy == 0.98


@pytest.mark.parametrize("accuracy", [0, -1, 100.1, float("nan"), float("inf")])
def test_an_accuracy_that_is_no_percentage(accuracy: float) -> None:
    with pytest.raises(DataError, match=r"subnet 's': accuracy is out of range \(.*\); percent: above 0, at most 100"):
        ProfiledSubnet("s", accuracy)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"id": 5}, r"subnet: id is not a text \(5\)"),
        ({"id": ""}, r"subnet: id is not a text \(''\)"),
        ({"accuracy": True}, r"subnet 's': accuracy is not a number \(True\); percent"),
        ({"accuracy": "80"}, r"subnet 's': accuracy is not a number \('80'\)"),
        ({"accuracy": None}, r"subnet 's': accuracy is not a number \(None\)"),
        ({"loading_ns": 1.5}, r"subnet 's', loading_ns: is not a whole number \(1.5\)"),
    ],
)
def test_a_fact_of_another_type(facts: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        ProfiledSubnet(**{"id": "s", "accuracy": 80.0, **facts})


@pytest.mark.parametrize("facts", [{"gmacs": -1.0}, {"gmacs": float("nan")}, {"params": -1}, {"loading_ns": -1}])
def test_a_fact_that_cannot_be(facts: dict[str, float]) -> None:
    with pytest.raises(DataError, match=rf"subnet 's': {next(iter(facts))} is out of range \(.*\); 0 or more"):
        ProfiledSubnet("s", 70, **facts)


def test_cells_come_in_any_order() -> None:
    cells = {(s.id, b): int(TABLE.latency_ns[i, j]) for i, s in enumerate(SUBNETS) for j, b in enumerate((1, 4, 8))}
    shuffled = dict(reversed(cells.items()))
    table = table_from_cells("gpu", SUBNETS[::-1], shuffled, {"p99_ns": shuffled}, {"all": shuffled})
    assert_same(
        table, replace(TABLE, p99_ns=TABLE.latency_ns, stages={"all": TABLE.latency_ns}, default_max_batch=None)
    )


def test_every_cell_must_be_there() -> None:
    with pytest.raises(
        DataError, match=r"t.csv: missing cell of latency \(subnet s, batch 4 and 1 more\); the grid must be full"
    ):
        table_from_cells("gpu", SUBNETS[:2], {("s", 1): 1, ("m", 4): 2}, location="t.csv")
    with pytest.raises(DataError, match=r"table: missing cell of p99 \(subnet s, batch 1\)"):
        table_from_cells("gpu", SUBNETS[:1], {("s", 1): 1}, {"p99_ns": {}})
