"""P1, P2 and P3: against their words, and on the tables that are shipped."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given

from sim.tables.checks import check_properties
from sim.tables.files import load_table
from sim.tables.latency import LatencyTable, ProfiledSubnet
from tests.strategies import latency_tables


@given(latency_tables(bare=True, highest=12))
def test_a_property_holds_where_its_words_are_true(table: LatencyTable) -> None:
    rows, accuracy = table.latency_ns.tolist(), [subnet.accuracy for subnet in table.subnets]
    everyone, columns = range(len(rows)), range(len(table.batch_sizes))
    p1, p2, p3 = check_properties(table)
    assert p1.holds == all(a <= b for row in rows for a, b in pairwise(row))
    less = [(t, s) for t in everyone for s in everyone if accuracy[t] < accuracy[s]]
    assert p2.holds == all(rows[t][c] <= rows[s][c] for t, s in less for c in columns)
    assert p3.holds == all(
        any(rows[t][d] <= rows[s][c] for t in everyone if accuracy[t] < accuracy[s] for d in columns if d > c)
        for s in everyone
        if accuracy[s] > accuracy[0]
        for c in columns[:-1]
    )
    assert p1.cells == len(rows) * (len(columns) - 1)
    for check in (p1, p2, p3):
        assert len(check.violations) <= check.cells
        for broken in check.violations:
            assert broken.latency_ns == table.latency(broken.subnet, broken.batch_size)
            assert broken.rival_ns == table.latency(broken.rival_subnet, broken.rival_batch_size)
            assert broken.over_percent > 0


def test_a_break_names_both_cells_and_by_how_much() -> None:
    subnets = (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0))
    table = LatencyTable("gpu", subnets, (1, 2, 4), np.array([[10, 8, 30], [20, 9, 40]]))
    p1, p2, p3 = check_properties(table)
    assert [(b.subnet, b.batch_size, b.latency_ns, b.rival_subnet, b.rival_batch_size) for b in p1.violations] == [
        (0, 2, 8, 0, 1),
        (1, 2, 9, 1, 1),
    ]
    assert p1.violations[0].over_percent == 25
    assert p2.holds
    assert p2.cells == 3
    assert [(b.subnet, b.batch_size, b.rival_batch_size, b.rival_ns) for b in p3.violations] == [(1, 2, 4, 30)]


@pytest.mark.parametrize(
    ("name", "stages", "breaks"),
    [
        ("ofa-resnet50-rtx2080ti", None, [0, 0, 3]),
        ("ofa-resnet50-a40", None, [0, 3, 19]),
        ("ofa-resnet50-a40", ["forward"], [7, 3, 3]),
    ],
)
def test_what_the_shipped_tables_break(name: str, stages: list[str] | None, breaks: list[int]) -> None:
    checks = check_properties(load_table(name, stages=stages))
    assert [len(check.violations) for check in checks] == breaks
    assert [check.cells for check in checks] == [24, 25, 20]


def test_p3_on_the_papers_table_is_off_by_a_sixth_at_most() -> None:
    table = load_table("ofa-resnet50-rtx2080ti")
    breaks = check_properties(table)[2].violations
    assert [(table.subnets[b.subnet].accuracy, b.batch_size, round(b.over_percent, 1)) for b in breaks] == [
        (76.686, 8, 15.8),
        (77.636, 8, 15.8),
        (78.25, 8, 11.4),
    ]
