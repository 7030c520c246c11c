"""Kinds of workers: a kind that is like the others changes nothing, nothing is lost between them, and two speeds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import (
    Cluster,
    Dispatch,
    Hold,
    LatencyTable,
    Outcome,
    ProfiledSubnet,
    ServiceQueue,
    Trace,
    View,
    WorkerKind,
    metrics,
    simulate,
)
from sim.engine.classes import by_class
from sim.engine.kind_metrics import by_kind
from sim.engine.run_metrics import Measure
from sim.engines import replay
from sim.tables.law import actual_table
from tests.laws.cases import Case, cases, kind_cases


@settings(max_examples=80, deadline=None)
@given(cases(), st.booleans(), st.integers(1, 3))
def test_kinds_that_are_alike_are_no_kinds(case: Case, own: bool, first: int) -> None:
    """One kind, and several with the same table in the order of their numbers, to the last byte."""
    policy = dataclasses.replace(case.policy, picks_worker=False)  # a policy picks among those that are offered
    plain = simulate(case.trace, case.cluster, case.table, policy, seed=5)
    counts = [case.cluster.workers] if first >= case.cluster.workers else [first, case.cluster.workers - first]
    kinds = tuple(WorkerKind("kk"[: i + 1], count, case.table if own else None) for i, count in enumerate(counts))
    if len(kinds) > 1:  # a policy that looks at kinds, or holds, may see that there are two
        policy = dataclasses.replace(policy, waits=False)
        plain = simulate(case.trace, case.cluster, case.table, policy, seed=5)
    found = simulate(case.trace, dataclasses.replace(case.cluster, kinds=kinds), case.table, _blind(policy), seed=5)
    assert found.outcome.tobytes() == plain.outcome.tobytes()
    for column in dataclasses.fields(plain.batches):
        assert getattr(found.batches, column.name).tobytes() == getattr(plain.batches, column.name).tobytes()


def _blind(policy: object) -> object:
    """Return the policy as it decides where the kind has no name."""

    class Blind:
        def decide(self, view: View) -> object:
            return policy.decide(dataclasses.replace(view, kind=""))  # type: ignore[attr-defined]

    return Blind()


@settings(max_examples=80, deadline=None)
@given(kind_cases(), st.booleans())
def test_kinds_add_up_to_the_run(case: Case, part: bool) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    last = int(case.trace.arrival_ns[-1])
    if part and last > int(case.trace.arrival_ns[0]):
        result = result.measured(Measure(int(case.trace.arrival_ns[0]), last))
    found = by_kind(result)
    assert sum(kind.batched for kind in found) == result.batched
    assert sum(kind.batches for kind in found) == result.batch_count
    assert sum(kind.met for kind in found) == result.count(Outcome.MET)
    assert sum(kind.busy_ns for kind in found) == result.busy_ns
    down_ns = case.cluster.down_ns(result.until_ns) - case.cluster.down_ns(result.from_ns)
    available_ns = case.cluster.workers * (result.until_ns - result.from_ns) - down_ns
    assert sum(kind.available_ns for kind in found) == available_ns
    if result.count(Outcome.MET):
        accuracy = sum(kind.accuracy for kind in found) / result.count(Outcome.MET)
        assert accuracy == pytest.approx(metrics.mean_serving_accuracy(result))
    assert sorted(kind.offered for kind in found) == list(range(1, len(found) + 1))


@settings(max_examples=60, deadline=None)
@given(kind_cases())
def test_while_a_query_starts_no_worker_is_free_that_is_offered_before(case: Case) -> None:
    """Of a policy that holds nothing and picks no worker."""
    policy = dataclasses.replace(case.policy, waits=False, drops=False, picks_worker=False)
    cluster = dataclasses.replace(case.cluster, faults=())
    batches = simulate(case.trace, cluster, case.table, policy).batches
    order = [worker for pool in cluster.pools(case.table) for worker in pool.workers]
    for number, start in enumerate(batches.start_ns.tolist()):
        before = order[: order.index(int(batches.worker[number]))]
        running = (batches.start_ns <= start) & (batches.free_ns > start) & (np.arange(len(batches)) < number)
        assert set(before) <= set(batches.worker[running].tolist())


@dataclasses.dataclass(frozen=True)
class One:
    """Single queries."""

    def decide(self, _: View) -> Dispatch:
        return Dispatch(0, 1)


def exponential(mean_ns: int) -> LatencyTable:
    """Return a table whose latencies are drawn from an exponential distribution, by its quantiles."""
    share = (np.arange(20_000) + 0.5) / 20_000
    samples = np.maximum(np.rint(-np.log1p(-share) * mean_ns), 1).astype(np.int64)
    subnets = (ProfiledSubnet("s", 70.0),)
    return LatencyTable("toy", subnets, (1,), np.array([[int(np.median(samples))]]), samples_ns=[[samples]])


def chain(arrivals: float, fast: float, slow: float, places: int = 400) -> float:
    """Return the mean number of queries in M/M/2 with two speeds, the fast server first, from its balance equations."""
    # States: none; one on the fast server; one on the slow server; 2, 3, ... in all.
    states = places + 2
    rate = np.zeros((states, states))
    rate[0, 1] = rate[2, 3] = arrivals  # a query that finds the fast server free takes it
    rate[1, 0], rate[2, 0], rate[1, 3] = fast, slow, arrivals
    rate[3, 2], rate[3, 1] = fast, slow
    for state in range(3, states - 1):
        rate[state, state + 1] = arrivals
        if state > 3:
            rate[state, state - 1] = fast + slow
    rate[states - 1, states - 2] = fast + slow
    rate -= np.diag(rate.sum(axis=1))
    balance = np.vstack([rate.T, np.ones(states)])
    share = np.linalg.lstsq(balance, np.append(np.zeros(states), 1.0), rcond=None)[0]
    inside = np.array([0, 1, 1, *range(2, states - 1)])
    return float(share @ inside)


@pytest.mark.parametrize(("offer", "engine"), [("fastest", "simpy"), ("kind", "compiled"), ("fastest", "compiled")])
def test_two_speeds_are_the_exact_chain(offer: str, engine: str) -> None:
    """The mean time in the system, by Little's law, within three standard errors."""
    if engine == "compiled":
        pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")
    fast_ns, slow_ns, gap_ns, queries = 1_000_000, 4_000_000, 1_300_000, 8_000
    slow, fast = WorkerKind("slow", 1, exponential(slow_ns)), WorkerKind("fast", 1, exponential(fast_ns))
    cluster = Cluster.of_kinds(slow, fast, latency="samples", offer=offer)
    first, second = (fast_ns, slow_ns) if offer == "fastest" else (slow_ns, fast_ns)
    expected = chain(1 / gap_ns, 1 / first, 1 / second) * gap_ns
    times = []
    for seed in range(12):
        arrivals = np.cumsum(np.random.default_rng(seed).exponential(gap_ns, queries)).astype(np.int64)
        trace = Trace(arrivals, 10**12, int(arrivals[-1]))
        result, choice = replay(trace, cluster, exponential(fast_ns), One(), seed=seed, engine=engine)
        assert choice.engine == engine
        times.append(float((result.per_query(result.batches.finish_ns) - arrivals)[1_000:].mean()))
    error = np.std(times, ddof=1) / np.sqrt(len(times))
    assert abs(np.mean(times) - expected) < 3 * error
    assert error < 0.05 * expected


@dataclasses.dataclass(frozen=True)
class KeepsFast:
    """Holds the fast kind for queries in a hurry."""

    def decide(self, view: View) -> Dispatch | Hold:
        return Hold(10) if view.kind == "fast" and view.slack_ns > 10 else Dispatch(0, 1)


def test_a_kind_that_is_held_does_not_keep_the_next_one_from_working() -> None:
    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), np.array([[5]]))
    cluster = Cluster.of_kinds(
        WorkerKind("fast", 1, table), WorkerKind("slow", 1, dataclasses.replace(table, latency_ns=[[40]]))
    )
    trace = Trace(np.array([0, 0, 50]), 30, 60)
    batches = simulate(trace, cluster, table, KeepsFast()).batches
    # The slow worker takes the first at once, the fast one the second as its slack comes to 10, the slow one the last.
    assert list(zip(batches.worker.tolist(), batches.start_ns.tolist(), strict=True)) == [(1, 0), (0, 20), (1, 50)]


def test_hopeless_goes_by_the_fastest_kind_that_is_alive() -> None:
    """While the fast worker is alive but busy, a query that only it can answer in time waits; then it is dropped."""
    from sim import WorkerFailure

    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), np.array([[5]]))
    kinds = (WorkerKind("fast", 1, table), WorkerKind("slow", 1, dataclasses.replace(table, latency_ns=[[40]])))
    trace = Trace(np.array([0, 10]), 20, 60)
    alive = simulate(trace, Cluster.of_kinds(*kinds, drop="hopeless"), table, One())
    assert alive.outcome.tolist() == [Outcome.MET, Outcome.MET]
    failed = Cluster.of_kinds(*kinds, drop="hopeless", faults=(WorkerFailure(0, 0),))
    assert simulate(trace, failed, table, One()).outcome.tolist() == [Outcome.DROPPED, Outcome.DROPPED]


@settings(max_examples=60, deadline=None)
@given(kind_cases(), st.integers(0, 60), st.booleans())
def test_batches_that_take_the_power_of_a_busy_worker_take_its_energy(case: Case, middle: int, part: bool) -> None:
    """Measured energy of as much power is the same as power, lost batches included, and parts of a run add up."""
    idle_w, busy_w = 1000.0, 3000.0  # whole microjoules in a nanosecond

    def with_energy(table: LatencyTable) -> LatencyTable:
        actual = actual_table(table)
        measured = dataclasses.replace(actual, energy_uj=3 * actual.latency_ns)
        return measured if actual is table else dataclasses.replace(table, actual=measured)

    plain = dataclasses.replace(
        case.cluster,
        kinds=tuple(dataclasses.replace(kind, idle_w=idle_w, busy_w=busy_w) for kind in case.cluster.kinds),
        dispatch_ns=0,
        dispatch_per_query_ns=0,
        dispatch_p99_over_median=None,
        actuation_ns=0,
        occupancy=1,
        latency="fixed",
    )
    kinds = tuple(dataclasses.replace(kind, table=kind.table and with_energy(kind.table)) for kind in plain.kinds)
    measured = dataclasses.replace(plain, kinds=kinds)

    def energy(cluster: Cluster, table: LatencyTable, interval: Measure | None = None) -> list[float]:
        result = simulate(case.trace, cluster, table, case.policy)
        result = result if interval is None else result.measured(interval)
        return [one.energy_kwh for one in by_kind(result)]

    table, arrival_ns = with_energy(case.table), case.trace.arrival_ns
    assert energy(measured, table) == pytest.approx(energy(plain, case.table))
    if part and arrival_ns[0] < middle <= arrival_ns[-1]:  # both parts have queries
        parts = (Measure(0, middle), Measure(middle, None))
        both = [energy(measured, table, one) for one in parts]
        assert [sum(pair) for pair in zip(*both, strict=True)] == pytest.approx(energy(measured, table))
    without = [kind.table is None for kind in kinds]  # whose table has no energy keep their power
    assert any(without) or energy(measured, case.table) == energy(measured, table)


def test_what_a_batch_takes_beyond_its_cell_is_at_the_power_of_an_idle_worker() -> None:
    subnets = (ProfiledSubnet("s", 70.0),)
    table = LatencyTable("toy", subnets, (1, 2), np.array([[10, 20]]), energy_uj=np.array([[70, 90]]))
    kind = WorkerKind("k", 1, idle_w=1000.0, busy_w=9000.0)  # one microjoule in a nanosecond, and nine
    cluster = Cluster.of_kinds(kind, dispatch_ns=5)
    result = simulate(Trace(np.array([0, 0, 0]), 99, 50), cluster, table, Pair())
    (one,) = by_kind(result)
    assert result.batches.size.tolist() == [2, 1]
    assert result.horizon_ns == 50
    # 25 and 15 ns busy, of which 20 and 10 are the cells; the rest is idle.
    assert one.energy_kwh * 3.6e12 == pytest.approx(90 + 70 + (50 - 30) * 1)


def test_batches_of_queues_with_their_own_models_take_the_energy_of_their_own_tables() -> None:
    """Also where the metrics are about the queries of one queue: metrics of batches stay those of the run."""
    subnets = (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0))
    table = LatencyTable("toy", subnets, (1,), np.array([[10], [20]]), energy_uj=np.array([[70], [90]]))
    other = LatencyTable("other", (ProfiledSubnet("t", 75.0),), (1,), np.array([[5]]), energy_uj=np.array([[8]]))
    kind = WorkerKind("k", 1, idle_w=1000.0, busy_w=9000.0)
    queues = (ServiceQueue("a"), ServiceQueue("b", floor=75.0), ServiceQueue("c", table={"k": other}))
    trace = Trace(np.zeros(3, np.int64), 99, 50, class_codes=[0, 1, 2], class_names=("a", "b", "c"))
    result = simulate(trace, Cluster.of_kinds(kind, queues=queues), table, One())
    for part in (result, *(of_queue for _, of_queue in by_class(result))):
        (one,) = by_kind(part)
        assert one.energy_kwh * 3.6e12 == pytest.approx(70 + 90 + 8 + (50 - 35) * 1)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Runs two queries at a time, if they are there."""

    def decide(self, view: View) -> Dispatch:
        return Dispatch(0, min(2, view.queue_length))
