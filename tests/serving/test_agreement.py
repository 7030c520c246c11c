"""Live runs of paced workers agree with the simulator wherever the machine kept pace; else they are void."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from policies.clipper import Clipper
from policies.slackfit import SlackFit
from serving.facts import facts
from serving.session import serve_trace
from sim.engine.cluster import Cluster
from sim.engine.driver import simulate
from sim.engine.metrics import mean_batch_size, mean_serving_accuracy, slo_attainment
from sim.tables.files import load_table
from sim.traces.synthetic import Poisson

if TYPE_CHECKING:
    from sim.engine.policy import Policy


@pytest.mark.slow
@pytest.mark.parametrize("policy", [SlackFit(), Clipper(78.25)])
def test_paced_workers_agree_with_the_simulator(policy: Policy) -> None:
    """Margins are a few times what was seen, since a run just within the void rule is late, too."""
    table, cluster = load_table("ofa-resnet50-rtx2080ti"), Cluster(8)
    trace = Poisson(mean_qps=2000, duration_s=4, slo_ms=36).trace(seed=7)
    run = serve_trace(trace, cluster, table, policy)
    if reasons := facts(run)["void"]:
        pytest.skip(f"void: {'; '.join(reasons)}")
    simulated = simulate(run.result.trace, cluster, table, policy)
    assert slo_attainment(run.result) == pytest.approx(slo_attainment(simulated), abs=0.06)
    assert mean_serving_accuracy(run.result) == pytest.approx(mean_serving_accuracy(simulated), abs=0.5)
    assert mean_batch_size(run.result) == pytest.approx(mean_batch_size(simulated), rel=0.4)
