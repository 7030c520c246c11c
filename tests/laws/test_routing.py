"""A queue for each worker: one worker is a central queue, and waits are those of queueing theory."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import brentq
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from policies.aimd import Aimd
from sim import Cluster, Outcome, SpecError, Trace, WorkerFailure, WorkerKind, simulate
from sim.compiled.step_policy import ONE_QUEUE
from sim.engine.planning import PlannerView, WorkerPlan
from sim.engine.scaling import Scaling
from sim.engines import choose
from tests.laws.cases import Case, cases
from tests.laws.test_kinds import One, exponential
from tests.laws.test_queues import FromTables, engines_agree_on_queues, ruled_queues, same

SERVICE_NS, QUERIES, RUNS = 1_000_000, 6_000, 12


@settings(max_examples=60, deadline=None)
@given(cases())
def test_with_one_worker_a_queue_for_each_is_a_central_queue(case: Case) -> None:
    faults = tuple(fault for fault in case.cluster.faults if fault.worker == 0)
    cluster = dataclasses.replace(case.cluster, workers=1, faults=faults)
    central = simulate(case.trace, cluster, case.table, case.policy, seed=4)
    for routing in ("round_robin", "shortest", "random"):
        routed = dataclasses.replace(cluster, routing=routing)
        assert same(simulate(case.trace, routed, case.table, case.policy, seed=4), central)


def mean_wait(routing: str, workers: int, load: float) -> tuple[float, float]:
    """Return the mean wait in units of the service time, and its standard error, if all times are exponential."""
    cluster, waits = Cluster(workers, latency="samples", routing=routing), []
    for seed in range(RUNS):
        gaps = np.random.default_rng(seed).exponential(SERVICE_NS / (workers * load), QUERIES)
        arrivals = np.cumsum(gaps).astype(np.int64)
        result = simulate(
            Trace(arrivals, 10**12, int(arrivals[-1])), cluster, exponential(SERVICE_NS), One(), seed=seed
        )
        waits.append((result.per_query(result.batches.start_ns) - arrivals)[1_000:].mean() / SERVICE_NS)
    return float(np.mean(waits)), float(np.std(waits, ddof=1) / math.sqrt(RUNS))


def shortest_queue_wait(load: float, longest: int = 30) -> float:
    """Return the mean wait where two exponential servers have a queue each and arrivals join the shorter one.

    By the balance equations of the chain (queries at the first server, queries at the second), and Little's law.
    """
    size, arrivals = longest + 1, 2 * load
    rates = lil_matrix((size * size, size * size))

    def move(before: tuple[int, int], after: tuple[int, int], rate: float) -> None:
        if max(after) <= longest:
            rates[after[0] * size + after[1], before[0] * size + before[1]] += rate
            rates[before[0] * size + before[1], before[0] * size + before[1]] -= rate

    for one in range(size):
        for other in range(size):
            move((one, other), (one + 1, other) if one <= other else (one, other + 1), arrivals)
            if one:
                move((one, other), (one - 1, other), 1)
            if other:
                move((one, other), (one, other - 1), 1)
    rates[0, :] = 1
    total = np.zeros(size * size)
    total[0] = 1
    share = spsolve(rates.tocsr(), total).reshape(size, size)
    inside = np.add.outer(np.arange(size), np.arange(size))
    return float((share * inside).sum() / arrivals - 1)


def test_random_routing_splits_into_m_m_1() -> None:
    load = 0.6
    wait, error = mean_wait("random", 3, load)
    assert abs(wait - load / (1 - load)) < 3 * error
    assert error < 0.1 * wait


@pytest.mark.slow
def test_routing_in_turn_makes_erlang_arrivals() -> None:
    """The mean wait in E2/M/1, by the root of its equation (Kleinrock, Queueing Systems I, 6.4)."""
    load = 0.7
    wait, error = mean_wait("round_robin", 2, load)
    rate = 2 * load  # of each of two stages, in units of the service rate
    root = brentq(lambda z: z - (rate / (rate + 1 - z)) ** 2, 0, 1 - 1e-9)
    assert abs(wait - root / (1 - root)) < 3 * error
    assert error < 0.1 * wait


@pytest.mark.slow
def test_the_shorter_queue_is_its_chain() -> None:
    load = 0.7
    wait, error = mean_wait("shortest", 2, load)
    assert abs(wait - shortest_queue_wait(load)) < 3 * error
    assert error < 0.1 * wait


def test_who_waits_at_a_worker_that_fails_is_routed_anew() -> None:
    """And nobody is routed to it; while all have failed, queries wait for the first that comes back."""
    table = dataclasses.replace(exponential(10), latency_ns=[[10]], samples_ns=None)
    faults = (WorkerFailure(0, 5), WorkerFailure(1, 50, 90))
    trace = Trace(np.array([0, 1, 2, 3, 60, 61]), 1000, 100)
    batches = simulate(trace, Cluster(2, routing="round_robin", faults=faults), table, One()).batches
    # Query 0 is lost with worker 0; query 2 waits there and moves. Worker 1 works until 50, and from 90 on.
    assert list(zip(batches.worker.tolist(), batches.start_ns.tolist(), strict=True)) == [
        (0, 0),
        (1, 1),
        (1, 11),
        (1, 21),
        (1, 90),
        (1, 100),
    ]
    none = simulate(trace, Cluster(1, routing="shortest", faults=(WorkerFailure(0, 0),)), table, One())
    assert (none.outcome == Outcome.UNFINISHED).all()


@dataclasses.dataclass(frozen=True)
class Planned:
    """Asks for a number of workers at each turn."""

    workers: tuple[int, ...]
    period_ns: int = 10

    def plan(self, view: PlannerView) -> WorkerPlan:
        return WorkerPlan(self.workers[view.now_ns // self.period_ns - 1])


@pytest.mark.parametrize("routing", ["round_robin", "shortest", "random"])
def test_who_waits_at_a_worker_that_goes_is_routed_anew(routing: str) -> None:
    """Who has none left to go to waits for the first worker that comes."""
    table = dataclasses.replace(exponential(10), latency_ns=[[10]], samples_ns=None)
    cluster = Cluster(3, routing=routing, scaling=Scaling(3, 0, startup_ns=3))
    trace = Trace(np.array([*range(9), 35]), 1000, 60)
    found = simulate(trace, cluster, table, One(), planner=Planned((1, 0, 2, 2, 2)), period_ns=10)
    start_ns, worker = found.batches.start_ns, found.batches.worker
    assert found.outcome.tolist() == [Outcome.MET] * 10
    assert set(worker[(start_ns >= 10) & (start_ns < 20)].tolist()) == {0}, "all others have gone at 10"
    assert not ((start_ns >= 20) & (start_ns < 33)).any(), "nobody serves from 20 on, until two have started at 33"
    assert set(worker[start_ns >= 33].tolist()) == {3, 4}, "who waited is shared out among them"


def test_unknown_routing_is_refused() -> None:
    with pytest.raises(SpecError, match=r"cluster.routing: unknown routing \('best'\)"):
        Cluster(1, routing="best")


def test_the_compiled_engine_runs_decision_tables_with_a_queue_for_each_worker() -> None:
    cluster = Cluster.of_kinds(WorkerKind("k", 2), routing="random")
    choice = choose(10**6, cluster, exponential(10), One(), "auto")
    assert (choice.engine, choice.reason) == ("compiled", "the policy has decision tables of 1 entries in all")
    with pytest.raises(SpecError, match=f"Aimd: {ONE_QUEUE}"):
        choose(10, cluster, exponential(10), Aimd(accuracy=70.0), "compiled")


@settings(max_examples=150, deadline=None)
@given(ruled_queues(routed=True))
def test_both_engines_agree_with_a_queue_for_each_worker(drawn: tuple[Case, tuple[FromTables, ...], int]) -> None:
    engines_agree_on_queues(*drawn)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(ruled_queues(routed=True))
def test_both_engines_agree_in_many_cases_with_a_queue_for_each_worker(
    drawn: tuple[Case, tuple[FromTables, ...], int],
) -> None:
    engines_agree_on_queues(*drawn)
