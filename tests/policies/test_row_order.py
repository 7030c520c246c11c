"""The order of rows in the file of a table means nothing: not to the table, a policy or an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import policies
from policies.allocated import Allocated
from policies.by_rate import ByRate
from policies.checks import ask, static_view
from policies.clipper import Clipper
from policies.coarse import Coarse
from policies.modelswitching import ModelSwitching
from policies.one_model import OneModel
from policies.residentfit import ResidentFit
from policies.slackfit import SlackFit
from sim import Cluster, DataError, Dispatch, LatencyTable, Trace
from sim.engines import numba_is_installed, replay
from sim.tables.csv_file import parse_csv
from ssim.files.plugins import find_class
from tests.strategies import assert_same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.engine.policy import Policy

SIZES = (1, 4, 9)
Row = tuple[str, float, int, int]  # subnet, accuracy, batch size, latency in ms


@st.composite
def rows_twice(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Draw the rows of a table with few accuracies and latencies, so that ties are common; and the same, shuffled."""
    accuracies = draw(st.lists(st.sampled_from([80.0, 94.9]), min_size=2, max_size=5))
    rows = [
        (f"s{number}", accuracy, size, draw(st.integers(1, 6)) + size)
        for number, accuracy in enumerate(accuracies)
        for size in SIZES
    ]
    return rows, draw(st.permutations(rows))


def table_of(rows: Sequence[Row]) -> LatencyTable:
    lines = ["subnet,accuracy,batch_size,latency_ms", *(",".join(map(str, row)) for row in rows)]
    return parse_csv("\n".join(lines), "t.csv")


def shipped_policies(table: LatencyTable) -> list[Policy]:
    """Return every shipped policy that has to choose, and one that is told each subnet."""
    owners = [find_class(name, policies.SHORT_NAMES, "policy") for name in policies.SHORT_NAMES]
    plain = [owner() for owner in owners if not issubclass(owner, (Allocated, OneModel, ModelSwitching))]
    return [
        *plain,
        ModelSwitching(seconds=0.02),
        SlackFit(queue_aware=True),
        *(Clipper(subnet=subnet.id) for subnet in table.subnets),
    ]


@given(rows_twice())
def test_a_table_is_its_rows_in_any_order(both: tuple[list[Row], list[Row]]) -> None:
    first, shuffled = map(table_of, both)
    assert_same(first, shuffled)
    sums = [(subnet.accuracy, -int(row.sum())) for subnet, row in zip(first.subnets, first.latency_ns, strict=True)]
    assert sums == sorted(sums)


@given(rows_twice(), st.integers(-2, 20), st.integers(1, 12))
def test_of_equal_subnets_none_that_is_slower_is_chosen(
    both: tuple[list[Row], list[Row]], slack_ms: int, queue: int
) -> None:
    table = table_of(both[0])
    view = static_view(table, slack_ns=slack_ms * 10**6, queue_length=queue, now_ns=10**9)
    for policy in shipped_policies(table):
        decision = ask(policy, view)
        assert isinstance(decision, Dispatch)
        own = table.latency_ns[decision.subnet]
        for subnet, other in zip(table.subnets, table.latency_ns, strict=True):
            equal = subnet.accuracy == table.subnets[decision.subnet].accuracy
            dominates = equal and (other <= own).all() and (other < own).any()
            assert isinstance(policy, Clipper) or not dominates


def outcome(table: LatencyTable, policy: Policy, engine: str) -> list[object]:
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.integers(0, 4 * 10**6, 60))
    trace = Trace(arrivals, 25 * 10**6, int(arrivals[-1]) + 1)
    result, _ = replay(trace, Cluster(2, drop="hopeless"), table, policy, engine=engine)
    batches = result.batches
    ids = [table.subnets[subnet].id for subnet in batches.subnet.tolist()]
    return [ids, *(getattr(batches, name).tolist() for name in ("start_ns", "finish_ns", "worker", "size"))]


@settings(max_examples=3, deadline=None)
@given(rows_twice())
def test_no_result_depends_on_the_order_of_rows(both: tuple[list[Row], list[Row]]) -> None:
    """In both engines, which agree; Coarse reads the clock, others the rate or the memory, and run in SimPy."""
    first, shuffled = map(table_of, both)
    for policy in shipped_policies(first):
        expected = outcome(first, policy, "simpy")
        assert outcome(shuffled, policy, "simpy") == expected
        if numba_is_installed() and not isinstance(policy, (Coarse, ByRate, ResidentFit)):
            assert outcome(first, policy, "compiled") == outcome(shuffled, policy, "compiled") == expected


def test_an_accuracy_of_several_subnets_is_refused_and_an_id_is_not() -> None:
    rows = [("b", 94.9, 1, 8), ("a", 94.9, 1, 22), ("c", 94.94, 1, 30), ("7", 80.0, 1, 2), ("d", 79.999, 1, 2)]
    table = table_of(rows)
    view = static_view(table, slack_ns=10**9)
    with pytest.raises(
        DataError,
        match=r"2 subnets have this accuracy \(94.9: a 94.9, b 94.9\); name one of them by its id, such as subnet: b",
    ):
        Clipper(accuracy=94.9).decide(view)
    with pytest.raises(DataError, match=r"2 subnets have this accuracy \(79.998: d 79.999, 7 80\)"):
        Clipper(accuracy=79.998).decide(view)
    with pytest.raises(DataError, match=r"no subnet of this id \(e\); known: 7, a, b, c, d"):
        Clipper(subnet="e").decide(view)
    chosen = [table.subnets[Clipper(**given).decide(view).subnet].id for given in CHOICES]
    assert chosen == ["a", "7", "7", "d", "c"]


CHOICES: list[dict[str, object]] = [
    {"subnet": "a"},
    {"subnet": 7},
    {"accuracy": 80.0},  # exactly this one
    {"accuracy": 79.999},
    {"accuracy": 94.96},  # the nearest
]
