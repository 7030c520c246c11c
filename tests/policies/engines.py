"""The outcomes of two engines, compared."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sim.engines import replay

if TYPE_CHECKING:
    from sim import Cluster, LatencyTable, Policy, Result, Trace


def assert_same(one: Result, other: Result) -> None:
    assert one.outcome.tolist() == other.outcome.tolist()
    assert one.batch.tolist() == other.batch.tolist()
    assert one.horizon_ns == other.horizon_ns
    for column in dataclasses.fields(one.batches):
        assert getattr(one.batches, column.name).tolist() == getattr(other.batches, column.name).tolist(), column.name


def assert_engines_agree(trace: Trace, cluster: Cluster, table: LatencyTable, policy: Policy) -> None:
    """Check that a policy runs compiled, and that each query and batch is the same as in the SimPy engine."""
    compiled, choice = replay(trace, cluster, table, policy, engine="compiled")
    reference, _ = replay(trace, cluster, table, policy, engine="simpy")
    assert choice.engine == "compiled"
    assert_same(compiled, reference)
