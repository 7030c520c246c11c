from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from sim import Outcome, metrics, simulate
from sim.intervals import mean_and_half_width
from tests.laws.cases import Case, cases


@settings(max_examples=200, deadline=None)
@given(cases())
def test_metrics_are_their_definitions(case: Case) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    outcomes = [Outcome(code) for code in result.outcome.tolist()]
    met = [i for i, outcome in enumerate(outcomes) if outcome is Outcome.MET]
    subnets = result.per_query(result.batches.subnet)
    finish = result.per_query(result.batches.finish_ns)
    assert metrics.slo_attainment(result) == len(met) / len(case.trace)
    accuracy = metrics.mean_serving_accuracy(result)
    if met:
        assert accuracy == pytest.approx(np.mean([case.table.subnets[subnets[i]].accuracy for i in met]))
    else:
        assert math.isnan(accuracy)
    answered = [int(finish[i] - case.trace.arrival_ns[i]) for i, o in enumerate(outcomes) if o <= Outcome.LATE]
    assert sorted(result.latency_ns.tolist()) == sorted(answered)
    if answered:
        assert metrics.latency_quantile_ns(result, 1.0) == max(answered)
    assert 0 <= metrics.utilisation(result) <= 1 or math.isnan(metrics.utilisation(result))


@settings(max_examples=200, deadline=None)
@given(cases())
def test_windows_add_up_to_the_whole(case: Case) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    width = 7
    windows = metrics.windows(result, width)
    arrivals = windows["ingest_per_s"] * width / 1e9
    assert arrivals.sum() == pytest.approx(len(case.trace))
    met = np.nansum(windows["slo_attainment"] * arrivals)
    assert met == pytest.approx(metrics.count(result, Outcome.MET))
    covered = np.minimum(result.batches.finish_ns, len(arrivals) * width) - np.minimum(
        result.batches.start_ns, len(arrivals) * width
    )
    assert windows["workers_busy"].sum() * width == pytest.approx(covered.sum())
    assert np.nanmax(windows["workers_busy"]) <= case.cluster.workers


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = [
        abs(mean) <= half for mean, half in (mean_and_half_width(rng.normal(size=4).tolist()) for _ in range(2000))
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))


def test_one_value_has_no_interval() -> None:
    assert math.isnan(mean_and_half_width([3.0])[1])
