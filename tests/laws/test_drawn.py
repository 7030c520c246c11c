"""Latencies that are drawn: their distribution, their independence, and the quantiles that all policies share."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from policies.clipper import Clipper
from policies.slackfit import SlackFit
from sim import Cluster, DataError, Dispatch, LatencyTable, ProfiledSubnet, SpecError, Trace, View, metrics, simulate
from sim.engines import replay
from sim.tables.files import load_table
from sim.tables.law import LatencyLaw, actual_table, nodes_of, planned
from sim.tables.service_times import latency_key, quantile, service_times
from sim.traces.synthetic import Bursty
from tests.laws.cases import LAWS, Case, cases

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

A40 = load_table("ofa-resnet50-a40")
Z99 = float(norm.ppf(0.99))


@dataclasses.dataclass(frozen=True)
class One:
    """Single queries on one subnet."""

    subnet: int = 0

    def decide(self, _: View) -> Dispatch:
        return Dispatch(self.subnet, 1)


def table_of(p50_ns: int, p99_ns: int) -> LatencyTable:
    return LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), np.array([[p50_ns]]), np.array([[p99_ns]]))


def drawn_ns(table: LatencyTable, law: LatencyLaw, queries: int, seed: int = 0) -> np.ndarray:
    """Return the latencies of batches of single queries, none of which waits."""
    gap_ns = 100 * int(table.latency_ns.max())
    trace = Trace(np.arange(queries) * gap_ns, 1, queries * gap_ns)
    result, _ = replay(trace, Cluster(1, latency=law), table, One(), seed=seed, engine="compiled")
    return result.batches.finish_ns - result.batches.start_ns


def test_quantiles_of_a_million_batches_are_those_of_the_lognormal() -> None:
    count, median, scale = 10**6, 10_000_000, math.log(1.5) / Z99
    found = drawn_ns(table_of(median, 15_000_000), LatencyLaw("lognormal"), count)
    for share in (0.01, 0.1, 0.5, 0.9, 0.99, 0.999):
        z = norm.ppf(share)
        expected = median * math.exp(scale * z)
        density = norm.pdf(z) / (scale * expected)
        error = math.sqrt(share * (1 - share) / count) / density
        assert abs(np.quantile(found, share) - expected) < 3 * error, share
    mean = median * math.exp(scale**2 / 2)
    assert abs(found.mean() - mean) < 3 * found.std() / math.sqrt(count)
    for lag in (1, 2, 8):
        assert abs(np.corrcoef(found[:-lag], found[lag:])[0, 1]) < 3 / math.sqrt(count)


def test_samples_are_equally_likely_and_nothing_else_occurs() -> None:
    samples = [3_000_000, 4_000_000, 4_000_000, 9_000_000, 50_000_000]
    table = dataclasses.replace(table_of(4_000_000, 50_000_000), samples_ns=[[samples]])
    found, counts = np.unique(drawn_ns(table, LatencyLaw("samples"), 100_000), return_counts=True)
    assert found.tolist() == sorted(set(samples))
    for share, count in zip((0.2, 0.4, 0.2, 0.2), counts / 100_000, strict=True):
        assert abs(count - share) < 3 * math.sqrt(share * (1 - share) / 100_000)


@pytest.mark.parametrize("between", ["pad", "interpolate"])
def test_what_was_measured_is_drawn_as_it_was_measured(between: str) -> None:
    """Also where the next smaller batch size has more samples."""
    subnets = (ProfiledSubnet("s", 70.0),)
    samples = [[[1, 4, 5], [20, 90]]]
    table = LatencyTable("toy", subnets, (1, 4), np.array([[4, 55]]), between=between, samples_ns=samples)  # type: ignore[arg-type]
    drawn = service_times(table, LatencyLaw("samples")).drawn
    assert drawn is not None
    half = 2**31
    assert [drawn.latency(0, 4, at) for at in (0, half - 1, half, 2 * half - 1)] == [20, 20, 90, 90]
    assert [drawn.latency(0, 1, at) for at in (0, half, 2 * half - 1)] == [1, 4, 5]


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_waits_are_those_of_pollaczek_and_khinchine(load: float) -> None:
    median, scale = 1_000_000, math.log(4) / Z99
    table, law = table_of(median, 4 * median), LatencyLaw("lognormal")
    mean, second = median * math.exp(scale**2 / 2), median**2 * math.exp(2 * scale**2)
    waits = []
    for seed in range(32):
        rng = np.random.default_rng(seed)
        arrivals = np.cumsum(rng.exponential(mean / load, 40_000)).astype(np.int64)
        trace = Trace(arrivals, 10**12, int(arrivals[-1]))
        result, _ = replay(trace, Cluster(1, latency=law), table, One(), seed=seed, engine="compiled")
        waits.append(float((result.batches.start_ns - arrivals)[4_000:].mean()))
    theory = load / mean * second / (2 * (1 - load))
    assert abs(np.mean(waits) - theory) < 3 * np.std(waits, ddof=1) / math.sqrt(len(waits))


def test_policies_of_a_repeat_share_their_quantiles_so_that_a_paired_interval_is_narrower() -> None:
    trace = Bursty(base_qps=1000, variant_qps=1500, cv2=4, duration_s=4, slo_ms=36).trace(seed=0)
    cluster = Cluster(8, latency="lognormal")
    attained = np.array(
        [
            [
                metrics.slo_attainment(replay(trace, cluster, A40, policy, seed=seed, engine="compiled")[0])
                for policy in (SlackFit(buckets=20), SlackFit(buckets=10))
            ]
            for seed in range(12)
        ]
    )
    paired = np.std(attained[:, 0] - attained[:, 1], ddof=1)
    unpaired = math.hypot(*np.std(attained, axis=0, ddof=1))
    assert 0 < paired < 0.8 * unpaired


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from(LAWS))
def test_a_batch_takes_the_quantile_of_its_head_whatever_its_policy_plans_on(case: Case, law: LatencyLaw) -> None:
    cluster = dataclasses.replace(case.cluster, latency=law, actuation_ns=0, faults=(), occupancy=1)
    result = simulate(case.trace, cluster, case.table, case.policy, seed=3)
    actual, key, batches = actual_table(case.table), latency_key(3), result.batches
    nodes = nodes_of(actual, law)
    ids = [subnet.id for subnet in actual.subnets]
    for number in range(len(batches)):
        queries = np.flatnonzero(result.batch == number)
        head = min(queries, key=lambda query: (case.trace.deadline_ns[query], query))
        size, row = len(queries), ids.index(case.table.subnets[batches.subnet[number]].id)
        if size in actual.batch_sizes:
            cell = nodes[row][actual.batch_sizes.index(size)]
            share = quantile(key, int(head)) / 2**32
            taken = batches.finish_ns[number] - batches.start_ns[number] - cluster.overheads(3)(size, int(head))
            if law.law == "samples":
                assert taken == cell[math.floor(share * len(cell))]
            else:
                assert abs(taken - np.interp(share, np.linspace(0, 1, len(cell)), cell)) <= 1


def test_a_spread_of_nothing_is_the_fixed_latency() -> None:
    trace = Bursty(base_qps=1000, variant_qps=1500, cv2=4, duration_s=2, slo_ms=36).trace(seed=1)
    table = load_table("ofa-resnet50-rtx2080ti")
    fixed, none = (
        replay(trace, Cluster(8, latency=law), table, SlackFit(), engine="compiled")[0]
        for law in (LatencyLaw(), LatencyLaw("lognormal", 1.0))
    )
    assert fixed.batches.finish_ns.tobytes() == none.batches.finish_ns.tobytes()


def test_the_mean_that_a_table_holds_stays_the_mean() -> None:
    assert A40.holds == "mean"
    assert load_table("ofa-resnet50-rtx2080ti").holds == "median"
    for law in (LatencyLaw("lognormal"), LatencyLaw("lognormal", 1.5)):
        mean, p99 = (planned(A40, figure, law).latency_ns for figure in ("mean", "p99"))
        assert np.abs(mean - A40.latency_ns).max() <= 1
        median = planned(A40, "median", law).latency_ns
        assert (median < A40.latency_ns).all()
        if law.p99_over_median is None:
            assert np.abs(p99 - A40.p99_ns).max() <= 1
        else:
            assert np.abs(p99 / median - 1.5).max() < 1e-6


def test_who_plans_on_a_high_quantile_is_late_less_often() -> None:
    trace = Bursty(base_qps=1000, variant_qps=1500, cv2=4, duration_s=4, slo_ms=36).trace(seed=1)
    cluster = Cluster(8, latency="lognormal")
    attained = [
        metrics.slo_attainment(replay(trace, cluster, planned(A40, plan, cluster.latency), SlackFit(buckets=20))[0])
        for plan in ("mean", "p95", "p99")
    ]
    assert attained == sorted(attained)
    assert attained[0] < 0.98 < attained[-1]


def test_plans_of_a_table_with_samples() -> None:
    samples = [[[1, 2, 3, 4, 90], [5, 5, 5, 7, 8]], [[3, 4, 5, 6, 7], [9, 9, 9, 9, 9]]]
    subnets = (ProfiledSubnet("a", 70.0), ProfiledSubnet("b", 80.0))
    table = LatencyTable("toy", subnets, (1, 2), np.array([[3, 5], [5, 9]]), samples_ns=samples)
    assert planned(table, "mean").latency_ns.tolist() == [[20, 6], [5, 9]]
    assert planned(table, "p95").latency_ns.tolist() == [[90, 8], [7, 9]]
    assert planned(table, "median").latency_ns.tolist() == table.latency_ns.tolist()
    assert planned(table, 2).latency_ns.tolist() == [[6, 10], [10, 18]]


def test_equally_accurate_subnets_may_change_places_in_a_plan_and_stay_themselves() -> None:
    subnets = (ProfiledSubnet("steady", 70.0), ProfiledSubnet("moody", 70.0))
    table = LatencyTable("toy", subnets, (1,), np.array([[6], [5]]), np.array([[7], [20]]))
    seen = planned(table, "p99")
    assert [subnet.id for subnet in seen.subnets] == ["moody", "steady"]
    trace = Trace(np.array([0]), 100, 100)
    result = simulate(trace, Cluster(1), seen, One(1))
    assert int(result.batches.finish_ns[0]) == 6


BAD = {
    "no 99th percentiles": (LatencyLaw("lognormal"), dataclasses.replace(table_of(5, 9), p99_ns=None)),
    "no samples": (LatencyLaw("samples"), table_of(5, 9)),
    "no lognormal has such a mean": (
        LatencyLaw("lognormal"),
        dataclasses.replace(table_of(10, 200), provenance={"statistic": "mean"}),
    ),
    "too long to be drawn": (LatencyLaw("lognormal", 2.0), table_of(2**45, 2**45)),
}


@pytest.mark.parametrize(("message", "law", "table"), [(message, *bad) for message, bad in BAD.items()])
def test_a_table_that_lacks_what_a_law_needs_is_refused(message: str, law: LatencyLaw, table: LatencyTable) -> None:
    with pytest.raises(DataError, match=message):
        simulate(Trace(np.array([0]), 9, 9), Cluster(1, latency=law), table, Clipper(accuracy=70))


def test_a_figure_that_a_table_lacks_is_refused() -> None:
    for plan in ("p95", "median", "mean", "p99"):
        lacks = dataclasses.replace(A40 if plan == "median" else table_of(5, 9), p99_ns=None)
        if plan == lacks.holds:
            continue
        with pytest.raises(DataError, match=f"has no samples .plan: {plan}"):
            planned(lacks, plan)  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", ["p90", 0, -1.0, True, 1e9, math.nan])
def test_an_unknown_figure_or_an_odd_margin_is_refused(plan: object) -> None:
    with pytest.raises(SpecError, match="plan"):
        planned(A40, plan)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("law", "ratio"), [("gamma", None), ("lognormal", 0.9), ("lognormal", math.nan), ("samples", 1.2), ("fixed", 1.2)]
)
def test_a_law_that_makes_no_sense_is_refused(law: str, ratio: float | None) -> None:
    with pytest.raises(SpecError, match="latency"):
        LatencyLaw(law, ratio)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="latency"):
        Cluster(1, latency=3)  # type: ignore[arg-type]


def test_overheads_are_drawn_from_a_lognormal_of_their_own() -> None:
    count, overhead = 200_000, 2_000_000
    table = table_of(1_000_000, 2_000_000)
    trace = Trace(np.arange(count) * 10**9, 1, count * 10**9)
    laws = (LatencyLaw("lognormal"), LatencyLaw())
    clusters = [Cluster(1, overhead, latency=law, dispatch_p99_over_median=3.0) for law in laws]
    drawn, alone = (replay(trace, cluster, table, One(), engine="compiled")[0] for cluster in clusters)
    overheads = alone.batches.finish_ns - trace.arrival_ns - 1_000_000
    latencies = drawn.batches.finish_ns - trace.arrival_ns - overheads
    for share in (0.01, 0.5, 0.99):
        scale, z = math.log(3) / Z99, norm.ppf(share)
        expected = overhead * math.exp(scale * z)
        error = math.sqrt(share * (1 - share) / count) * scale * expected / norm.pdf(z)
        assert abs(np.quantile(overheads, share) - expected) < 3 * error, share
    assert abs(np.corrcoef(overheads, latencies)[0, 1]) < 3 / math.sqrt(count)


def test_too_many_cells_are_refused_instead_of_filling_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.tables.service_times.MAX_NODES", 2000)
    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1, 2), np.array([[5, 5]]))
    with pytest.raises(DataError, match="too many cells"):
        service_times(table, LatencyLaw("lognormal", 1.2))
