"""Policies of the field, each against its paper's analysis or one that holds for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from policies.aimd import Aimd
from policies.alpaserve import AlpaServe
from policies.checks import static_view
from policies.clockwork import Clockwork
from policies.maxbatch import MaxBatch
from policies.nexus import Nexus
from policies.proteus import Proteus
from policies.symphony import Symphony
from policies.triton import Triton
from sim import (
    Cluster,
    Dispatch,
    LatencyTable,
    Outcome,
    Policy,
    ProfiledSubnet,
    Result,
    SpecError,
    Trace,
    View,
    metrics,
    simulate,
)
from sim.compiled.tabulate import tabulate
from sim.engines import replay
from sim.traces.synthetic import Gamma, Poisson
from tests.policies.engines import assert_same

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

MS = 1_000_000
ONE = {"accuracy": 70}


def linear(slope_ms: float, base_ms: float, largest: int) -> LatencyTable:
    """Return a table of one model whose latency grows with a straight line."""
    sizes = tuple(range(1, largest + 1))
    latency = np.rint((slope_ms * np.array(sizes) + base_ms) * MS).astype(np.int64)
    return LatencyTable("linear", (ProfiledSubnet("model", 70.0),), sizes, latency[None])


def evenly(rate_per_s: float, seconds: float, slo_ms: float) -> Trace:
    arrivals = np.arange(int(rate_per_s * seconds)) * 10**9 / rate_per_s
    return Trace(arrivals.astype(np.int64), round(slo_ms * MS), round(seconds * 1e9))


# Symphony's stress tool: l(b) = 1.082 b + 5.204 ms on 8 GPUs, an SLO of 100 ms.
STRESS = linear(1.082, 5.204, 90)
BEST = 77
"""Largest batch with l(b) (1 + 1/8) <= 100 ms; then 8 GPUs serve 6,959 queries/s."""


@pytest.mark.parametrize("rate", [3000, 5000])
@pytest.mark.parametrize("window", [False, True])
def test_symphony_uses_workers_in_proportion_to_the_load_with_the_batches_of_its_analysis(
    rate: int, *, window: bool
) -> None:
    """The batch at a rate is the largest with l(b) (1 + 1/n) <= SLO, n = rate l(b) / b the workers that it needs."""
    latency = STRESS.dense_ns[0]
    assert max(b for b in range(1, 91) if latency[b] * 9 / 8 <= 100 * MS) == BEST
    capacity = 8 * BEST / (latency[BEST] / 1e9)
    assert round(capacity) == 6959
    batch = max(b for b in range(1, 91) if latency[b] + b / rate * 1e9 <= 100 * MS)
    trace = Poisson(mean_qps=rate, duration_s=3, slo_ms=100).trace(seed=1)
    run = simulate(trace, Cluster(8), STRESS, Symphony(**ONE, window=window))
    assert metrics.mean_batch_size(run) == pytest.approx(batch, rel=0.025)
    busy = run.busy_ns / (8 * trace.duration_ns)
    assert busy == pytest.approx(rate / capacity, rel=0.025)
    assert metrics.slo_attainment(run) > 0.995


def test_eager_batches_keep_the_same_workers_busy_at_less_than_half_the_load() -> None:
    trace = Poisson(mean_qps=3000, duration_s=5, slo_ms=100).trace(seed=1)
    run, _ = replay(trace, Cluster(8), STRESS, AlpaServe(**ONE))
    assert metrics.utilisation(run) > 0.95
    assert metrics.mean_batch_size(run) < 5


def test_above_capacity_symphony_serves_what_8_workers_can_by_giving_up_queries_for_the_sake_of_batches() -> None:
    trace = Poisson(mean_qps=7600, duration_s=3, slo_ms=100).trace(seed=1)
    kept, head, eager = (
        metrics.slo_attainment(simulate(trace, Cluster(8), STRESS, policy))
        for policy in (Symphony(**ONE), Symphony(**ONE, window=False), MaxBatch())
    )
    assert kept == pytest.approx(6959 / 7600, rel=0.02)
    assert max(head, eager) < 0.5


@pytest.mark.parametrize(("share", "attained"), [(0.99, 1.0), (1.25, 1 / 1.25), (2.0, 1 / 2)])
def test_nexus_keeps_up_with_half_of_the_slo_for_a_batch_and_drops_no_more_than_the_excess(
    share: float, attained: float
) -> None:
    """Its analysis: with l(b) up to half of the SLO, uniform arrivals of b / l(b) are served without a miss."""
    table = linear(1.0, 10.0, 60)
    largest = 40  # l(40) = 50 ms, half of 100
    rate = share * largest / (table.latency(0, largest) / 1e9)
    trace = evenly(rate, 20, 100)
    run, choice = replay(trace, Cluster(1), table, Nexus(**ONE), engine="compiled")
    assert choice.rule is not None
    assert metrics.slo_attainment(run) == pytest.approx(attained, abs=0.01)
    assert run.batches.size.max() <= largest
    assert share < 1 or run.batches.size.max() == largest
    assert run.count(Outcome.LATE) == 0


def test_who_drops_lazily_falls_behind_nexus_above_capacity() -> None:
    table = linear(1.0, 10.0, 60)
    trace = Poisson(mean_qps=880, duration_s=20, slo_ms=100).trace(seed=1)
    early, lazy = (replay(trace, Cluster(1), table, policy)[0] for policy in (Nexus(**ONE), AlpaServe(**ONE)))
    assert metrics.slo_attainment(early) > metrics.slo_attainment(lazy) + 0.1


@pytest.mark.parametrize("policy", [Clockwork(**ONE), Clockwork(**ONE, margin_ms=0, max_batch=60)])
def test_clockwork_answers_by_its_margin_or_not_at_all(policy: Clockwork) -> None:
    table = linear(1.0, 10.0, 60)
    trace = Gamma(mean_qps=2500, cv2=4, duration_s=3, slo_ms=100).trace(seed=1)
    run = simulate(trace, Cluster(2), table, policy)
    assert run.count(Outcome.LATE) == 0
    assert run.count(Outcome.DROPPED) > 0
    assert run.latency_ns.max() <= (100 - policy.margin_ms) * MS
    assert run.batches.size.max() == min(policy.max_batch, 60)


def test_clockwork_takes_the_largest_batch_that_enough_queries_can_be_in() -> None:
    """The example of five queries of which two are too urgent for a batch of four, but three are left for two."""
    sizes, latency = (1, 2, 4), np.array([[10, 12, 30]]) * MS
    table = LatencyTable("toy", (ProfiledSubnet("model", 70.0),), sizes, latency)
    slo = np.array([20, 25, 40, 41, 42]) * MS
    run = simulate(Trace(np.zeros(5, np.int64), slo, MS), Cluster(1), table, Clockwork(**ONE, margin_ms=0))
    # Four need 30 ms, in time for three: so two run, and nobody is given up. Then (12 ms) two of the last three.
    assert run.batches.size.tolist() == [2, 2, 1]
    assert [Outcome(code) for code in run.outcome] == [Outcome.MET] * 5


@pytest.mark.parametrize("share", [0.9, 1.5, 3.0])
def test_alpaserve_is_never_late_and_serves_what_one_server_can(share: float) -> None:
    """One by one at a fixed latency: what it accepts is the capacity, as long as there is more."""
    table = linear(0.0, 10.0, 1)
    run, _ = replay(evenly(100 * share, 30, 50), Cluster(1), table, AlpaServe(**ONE), engine="compiled")
    assert run.count(Outcome.LATE) == 0
    assert metrics.slo_attainment(run) == pytest.approx(min(1.0, 1 / share), abs=0.005)


def test_proteus_starts_at_the_last_moment_with_what_the_queue_fills() -> None:
    """A query each 6 ms, four in 6 ms, an SLO of 36 ms: the fourth is there in time, an eighth would not be."""
    table = LatencyTable("toy", (ProfiledSubnet("m", 70.0),), (1, 2, 4, 8), np.array([[4, 5, 6, 9]]) * MS)
    trace = evenly(1000 / 6, 6, 36)
    run, choice = replay(trace, Cluster(2), table, Proteus(**ONE), engine="compiled")
    assert choice.rule is not None
    whole = run.batches.size[:-2]
    assert (whole == 4).all()
    assert np.diff(run.batches.start_ns[: len(whole)]) == pytest.approx(24 * MS, abs=2)
    head_done = run.batches.finish_ns[: len(whole)] - trace.arrival_ns[: 4 * len(whole) : 4]
    assert (head_done == 36 * MS).all(), "to the nanosecond at its deadline"
    assert metrics.slo_attainment(run) == 1


@pytest.mark.parametrize("delay_ms", [0.0, 5.0, 20.0])
def test_a_batch_of_triton_is_one_query_and_those_that_arrive_within_the_delay(delay_ms: float) -> None:
    """Of Poisson arrivals at workers enough: 1 + rate x delay in the mean, within three standard errors."""
    rate = 400
    trace = Poisson(mean_qps=rate, duration_s=100, slo_ms=200).trace(seed=1)
    table = linear(0.1, 1.0, 64)
    run, choice = replay(trace, Cluster(64), table, Triton(**ONE, max_queue_delay_ms=delay_ms), engine="compiled")
    assert choice.rule is not None
    others = run.batches.size - 1
    expected = rate * delay_ms / 1e3
    assert abs(others.mean() - expected) <= 3 * math.sqrt(expected / len(others)) + 1e-12


def test_triton_takes_a_preferred_size_at_once_and_waits_for_no_longer_than_its_delay() -> None:
    table = linear(0.1, 1.0, 16)
    policy = Triton(**ONE, max_queue_delay_ms=10, preferred=(4, 8))

    def decide(length: int, slack_ms: int) -> object:
        # The view's system has an SLO of its own: that of the head, which has just come.
        view = static_view(table, slack_ns=slack_ms * MS, queue_length=length)
        return policy.decide(View(view.now_ns, view.slack_ns, length, table, view.system))

    assert decide(4, 30) == Dispatch(0, 4)
    assert decide(9, 30) == Dispatch(0, 8)
    with pytest.raises(SpecError, match=r"Triton.preferred: is larger than the largest batch \(32\)"):
        Triton(**ONE, preferred=(32,)).decide(static_view(table, slack_ns=MS))
    with pytest.raises(SpecError, match="is not a batch size"):
        Triton(**ONE, preferred=(0,))


def test_aimd_climbs_by_one_and_falls_by_a_tenth_around_the_objective() -> None:
    """With a queue that never ends: from 0.9 (b + 1) to b + 1, b the largest batch that meets the objective."""
    table = linear(1.0, 10.0, 60)
    trace = Trace(np.zeros(4000, np.int64), 10**12, MS)
    run, choice = replay(trace, Cluster(1), table, Aimd(**ONE, objective_ms=50), engine="compiled")
    assert choice.rule is not None
    sizes = run.batches.size[:-1].tolist()
    assert sizes[:41] == list(range(1, 42)), "40 takes 50 ms, 41 is the first to miss"
    cap, expected = 1.0, []
    for _ in sizes:
        expected.append(int(cap))
        cap = max(1.0, 0.9 * cap) if 10 + int(cap) > 50 else cap + 1
    assert sizes == expected
    assert set(sizes[41:]) == set(range(min(sizes[41:]), 42))
    assert min(sizes[41:]) == math.floor(0.9 * 41)


FIELD: list[Policy] = [
    Symphony(**ONE, window=False),
    Nexus(**ONE),
    AlpaServe(**ONE),
    Proteus(**ONE),
    Triton(**ONE, max_queue_delay_ms=8, preferred=[4, 8]),  # a list, as in YAML
]


@pytest.mark.parametrize("policy", FIELD, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("law", ["fixed", "samples"])
def test_both_engines_agree_on_policies_of_the_field(policy: Policy, law: str) -> None:
    rng = np.random.default_rng(1)
    base = linear(1.0, 6.0, 12)
    samples = [[rng.integers(cell, 2 * cell, 9) for cell in base.latency_ns[0].tolist()]]
    table = LatencyTable("toy", base.subnets, base.batch_sizes, base.latency_ns, samples_ns=samples)
    trace = Gamma(mean_qps=1100, cv2=6, duration_s=3, slo_ms=40).trace(seed=2)
    cluster = Cluster(2, MS, drop="expired", network_ns=MS, latency=law)
    simpy, compiled = (
        replay(trace, cluster, table, policy, seed=3, engine=engine)[0] for engine in ("simpy", "compiled")
    )
    assert_same(compiled, simpy)
    assert isinstance(simpy, Result)
    assert 0 < metrics.slo_attainment(simpy) < 1


def test_what_looks_behind_the_head_of_the_queue_runs_in_simpy() -> None:
    for policy in (Clockwork(**ONE), Symphony(**ONE)):
        with pytest.raises(Exception, match=r"system\.(deadlines_ns|arrivals_within)"):
            tabulate(policy, STRESS, slo_ns=100 * MS)
