"""One semantics, two engines: the compiled one agrees with the SimPy one on every query."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import Dispatch, Result, simulate
from sim.compiled import replay_compiled
from sim.tabulate import DecisionTable
from tests.laws.cases import Case, cases

if TYPE_CHECKING:
    from sim import View

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")


@dataclasses.dataclass(frozen=True)
class FromTable:
    """Decides by a table of decisions."""

    decisions: DecisionTable

    def decide(self, view: View) -> Dispatch:
        return self.decisions.at(view.slack_ns, view.queue_length)


@st.composite
def decision_tables(draw: st.DrawFn, subnets: int, largest: int) -> DecisionTable:
    edges = sorted(draw(st.sets(st.integers(-20, 40), max_size=6)))
    lengths = draw(st.integers(1, 6))
    cells = (len(edges) + 1) * lengths
    parts = [
        np.array(draw(st.lists(st.integers(low, high), min_size=cells, max_size=cells))).reshape(-1, lengths)
        for low, high in ((0, subnets - 1), (1, largest))
    ]
    return DecisionTable(np.array(edges, dtype=np.int64), *parts, calls=0)


@settings(max_examples=2000, deadline=None)
@given(cases(), st.data())
def test_both_engines_agree_on_every_query(case: Case, data: st.DataObject) -> None:
    decisions = data.draw(decision_tables(len(case.table.subnets), case.table.max_batch))
    reference = simulate(case.trace, case.cluster, case.table, FromTable(decisions))
    compiled = replay_compiled(case.trace, case.cluster, case.table, decisions)
    assert_same(compiled, reference)


def assert_same(one: Result, other: Result) -> None:
    assert one.outcome.tolist() == other.outcome.tolist()
    assert one.batch.tolist() == other.batch.tolist()
    assert one.horizon_ns == other.horizon_ns
    for column in dataclasses.fields(one.batches):
        assert getattr(one.batches, column.name).tolist() == getattr(other.batches, column.name).tolist(), column.name
