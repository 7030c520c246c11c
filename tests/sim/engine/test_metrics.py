from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from sim import Cluster, LatencyTable, Outcome, ProfiledSubnet, Trace, metrics, simulate
from sim.base.intervals import mean_and_half_width
from tests.laws.cases import Case, cases
from tests.laws.test_engine import OneAnswer


@settings(max_examples=100, deadline=None)
@given(cases())
def test_metrics_are_their_definitions(case: Case) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    outcomes = [Outcome(code) for code in result.outcome.tolist()]
    met = [i for i, outcome in enumerate(outcomes) if outcome is Outcome.MET]
    subnets = result.per_query(result.batches.subnet)
    finish = result.per_query(result.batches.finish_ns) + case.cluster.network_ns
    assert metrics.slo_attainment(result) == len(met) / len(case.trace)
    accuracy = metrics.mean_serving_accuracy(result)
    if met:
        assert accuracy == pytest.approx(np.mean([case.table.subnets[subnets[i]].accuracy for i in met]))
    else:
        assert math.isnan(accuracy)
    answered = [int(finish[i] - case.trace.arrival_ns[i]) for i, o in enumerate(outcomes) if o <= Outcome.LATE]
    assert sorted(result.latency_ns.tolist()) == sorted(answered)
    if answered:
        for q in (0.5, 0.99, 1.0):
            assert result.latency_quantile_ns(q) == np.quantile(answered, q)
    busy = sum((result.batches.free_ns - result.batches.start_ns).tolist())
    available = case.cluster.workers * result.horizon_ns - result.cluster.down_ns(result.horizon_ns)
    assert metrics.utilisation(result) == (busy / available if available else pytest.approx(math.nan, nan_ok=True))


@settings(max_examples=100, deadline=None)
@given(cases())
def test_windows_add_up_to_the_whole(case: Case) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    width, end = 7, case.trace.duration_ns
    windows = metrics.windows(result, width)
    covered = np.diff(np.minimum(np.arange(len(windows["start_s"]) + 1) * width, end))
    arrivals = windows["ingest_per_s"] * covered / 1e9
    assert arrivals.sum() == pytest.approx(len(case.trace))
    met = np.nansum(windows["slo_attainment"] * arrivals)
    assert met == pytest.approx(result.count(Outcome.MET))
    busy = np.minimum(result.batches.free_ns, end) - np.minimum(result.batches.start_ns, end)
    assert (windows["workers_busy"] * covered).sum() == pytest.approx(busy.sum())
    assert windows["workers_busy"].max() <= case.cluster.workers + 1e-9


def test_a_steady_rate_is_steady_to_the_end_of_the_last_part_of_a_window() -> None:
    arrivals = np.arange(1500) * 1_000_000
    trace = Trace(arrivals, 10**9, 1_500_000_000)
    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), np.array([[1000]]))
    result = simulate(trace, Cluster(1), table, OneAnswer(0, 1))
    assert metrics.windows(result)["ingest_per_s"].tolist() == [1000, 1000]


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = [
        abs(mean) <= half for mean, half in (mean_and_half_width(rng.normal(size=4).tolist()) for _ in range(2000))
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))


def test_one_value_has_no_interval() -> None:
    assert math.isnan(mean_and_half_width([3.0])[1])
