"""What a run is explained by: with nothing to explain, the simulator's own run comes back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.slackfit import SlackFit
from serving.comparison import STEPS, MeasuredBatches, RunFigures, simulations
from serving.measured_table import measured_table
from sim.base.errors import DataError
from sim.engine.cluster import Cluster
from sim.engine.driver import simulate
from sim.tables.files import load_table
from sim.traces.synthetic import Poisson

TABLE = load_table("ofa-resnet50-rtx2080ti")
TRACE = Poisson(mean_qps=1200, duration_s=2, slo_ms=36).trace(seed=3)
CLUSTER = Cluster(2, dispatch_ns=300_000)


def batches(factor: float = 1.0, overhead_ns: int = CLUSTER.dispatch_ns) -> MeasuredBatches:
    """Return the batches of a simulation, as a live run would have measured them on a device that is slower."""
    run = simulate(TRACE, CLUSTER, TABLE, SlackFit())
    found = run.batches
    expected = TABLE.dense_ns[found.subnet, found.size]
    took = np.rint(expected * factor).astype(np.int64)
    overhead, zeros = np.full(len(found), overhead_ns, dtype=np.int64), np.zeros(len(found), dtype=np.int64)
    return MeasuredBatches(found.start_ns, zeros, zeros, found.subnet, found.size, expected, took, overhead, run.batch)


def test_a_run_that_went_as_planned_has_no_parts() -> None:
    steps = simulations(TRACE, TRACE, batches(), CLUSTER, TABLE, SlackFit, 0)
    plain = simulate(TRACE, CLUSTER, TABLE, SlackFit())
    assert steps == [RunFigures.of(name, plain) for name in STEPS]


@pytest.mark.parametrize(("factor", "overhead_ns"), [(1.25, 300_000), (0.8, 300_000), (1.0, 2_000_000)])
def test_a_constant_slowdown_is_drift_and_nothing_else(factor: float, overhead_ns: int) -> None:
    """Spread and order in time add nothing; overhead adds what it is."""
    found = {
        one.name: one for one in simulations(TRACE, TRACE, batches(factor, overhead_ns), CLUSTER, TABLE, SlackFit, 0)
    }
    figures = {name: replace(one, name="") for name, one in found.items()}
    assert figures["received"] == figures["intended"]
    assert figures["drawn"] == figures["scaled"] == figures["replayed"]
    assert (figures["overhead"] == figures["received"]) == (overhead_ns == CLUSTER.dispatch_ns)
    assert (figures["scaled"] == figures["overhead"]) == (factor == 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_whose_own_durations_are_replayed_comes_back(seed: int) -> None:
    """Each batch takes another time, as its most urgent query draws it."""
    factors = np.random.default_rng(seed).lognormal(0, 0.5, len(TRACE))

    def took(subnet: int, size: int, head: int) -> int:
        return round(int(TABLE.dense_ns[subnet, size]) * factors[head])

    run = simulate(TRACE, CLUSTER, TABLE, SlackFit(), latency_of=lambda _queue, _pool: took)
    found = run.batches
    measured = MeasuredBatches(
        found.start_ns,
        np.zeros(len(found), dtype=np.int64),
        np.zeros(len(found), dtype=np.int64),
        found.subnet,
        found.size,
        TABLE.dense_ns[found.subnet, found.size],
        found.finish_ns - found.start_ns - CLUSTER.dispatch_ns,
        np.full(len(found), CLUSTER.dispatch_ns),
        run.batch,
    )
    steps = {one.name: one for one in simulations(TRACE, TRACE, measured, CLUSTER, TABLE, SlackFit, 0)}
    assert steps["replayed"] == RunFigures.of("replayed", run)
    assert steps["drawn"] != replace(steps["replayed"], name="drawn")


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_a_table_from_a_run_has_the_latencies_that_were_measured(factor: float) -> None:
    measured = batches(factor)
    found, met = measured_table(measured, TABLE, "test")
    np.testing.assert_allclose(found.latency_ns, TABLE.latency_ns * factor, rtol=1e-6)
    used = {
        (subnet, np.searchsorted(TABLE.batch_sizes, size))
        for subnet, size in zip(measured.subnet, measured.size, strict=True)
    }
    assert met == len(used)
    assert found.samples_ns is not None
    assert all(1 <= len(cell) <= 200 for row in found.samples_ns for cell in row)


def test_a_batch_beyond_the_table_is_refused() -> None:
    small = replace(
        TABLE, batch_sizes=TABLE.batch_sizes[:1], latency_ns=TABLE.latency_ns[:, :1], default_max_batch=None
    )
    with pytest.raises(DataError, match="larger than the table's largest"):
        measured_table(batches(), small, "test")
