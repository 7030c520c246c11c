"""Queues: one that is like none changes nothing, nothing is lost between them, and who is served first and how much."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.aimd import Aimd
from sim import (
    Cluster,
    DataError,
    Decision,
    Dispatch,
    LatencyTable,
    Outcome,
    Policy,
    ProfiledSubnet,
    ServiceQueue,
    SpecError,
    Trace,
    View,
    WorkerKind,
    metrics,
    simulate,
)
from sim.compiled.step_policy import ONE_QUEUE
from sim.compiled.tabulate import DecisionTable, QueueRules
from sim.engine.kind_metrics import by_kind
from sim.engine.queue_metrics import by_queue, jain_index, weighted_attainment
from sim.engine.run_metrics import Measure
from sim.engines import choose, replay
from tests.laws.cases import Case, cases, kind_cases, queue_cases
from tests.laws.test_kinds import One, exponential
from tests.policies.engines import assert_same

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

from sim.compiled.queues import replay_queues
from tests.laws.test_compiled import decision_tables

if TYPE_CHECKING:
    from sim import Result


def same(one: Result, other: Result) -> bool:
    columns = dataclasses.fields(one.batches)
    pairs = [(getattr(one.batches, column.name), getattr(other.batches, column.name)) for column in columns]
    return all(a.tobytes() == b.tobytes() for a, b in [*pairs, (one.outcome, other.outcome), (one.batch, other.batch)])


@settings(max_examples=80, deadline=None)
@given(st.one_of(cases(), kind_cases()), st.sampled_from(["edf", "slack", "priority", "fair"]))
def test_one_queue_is_no_queue(case: Case, order: str) -> None:
    """To the last byte, whatever the order."""

    @dataclasses.dataclass(frozen=True)
    class Blind:
        def decide(self, view: View) -> object:
            return case.policy.decide(dataclasses.replace(view, queue=""))

    cluster = dataclasses.replace(case.cluster, queues=(ServiceQueue("all"),), order=order)
    found = simulate(case.trace, cluster, case.table, Blind(), seed=3)
    assert same(found, simulate(case.trace, case.cluster, case.table, case.policy, seed=3))


@settings(max_examples=100, deadline=None)
@given(queue_cases().filter(lambda case: bool(case.cluster.queues)), st.booleans())
def test_queues_add_up_to_the_run(case: Case, part: bool) -> None:
    result = simulate(case.trace, case.cluster, case.table, case.policy)
    first, last = int(case.trace.arrival_ns[0]), int(case.trace.arrival_ns[-1])
    if part and last > first:
        result = result.measured(Measure(first, last))
    found = by_queue(result)
    assert [one.queue for one in found] == [*case.cluster.queues]
    measured = [one.queries for one in found if one.queries is not None]
    for outcome in Outcome:
        assert sum(queries.count(outcome) for queries in measured) == result.count(outcome)
    for queries in measured:
        assert sum(queries.count(outcome) for outcome in Outcome) == queries.queries > 0
    assert sum(one.batches for one in found) == result.batch_count
    assert sum(one.batched for one in found) == result.batched
    assert sum(one.busy_ns for one in found) == result.busy_ns
    assert sum(kind.met for kind in by_kind(result)) == (result.count(Outcome.MET) if case.cluster.kinds else 0)
    attained = [metrics.slo_attainment(queries) for queries in measured]
    low, high = min(attained), max(attained)
    assert low - 1e-12 <= weighted_attainment(found) <= high + 1e-12
    if high:
        assert 1 / len(measured) - 1e-12 <= jain_index(attained) <= 1 + 1e-12
    # No batch holds queries of two queues, and none runs a subnet that its queue does not have.
    served = result.batch >= 0
    assert len({*zip(result.batch[served], result.trace.class_codes[served], strict=True)}) == len(result.batches)
    for one in case.cluster.queues:
        if one.floor is not None:
            mine = served & (result.trace.class_codes == [q.name for q in case.cluster.queues].index(one.name))
            ran = {result.subnets[row].accuracy for row in result.per_query(result.batches.subnet)[mine]}
            assert all(accuracy >= one.floor for accuracy in ran)


@settings(max_examples=60, deadline=None)
@given(queue_cases())
def test_a_queue_is_never_longer_than_its_bound(case: Case) -> None:
    """And rejects nobody while it is shorter; without drops, which have no time."""
    policy = dataclasses.replace(case.policy, drops=False)
    cluster = dataclasses.replace(case.cluster, drop="never", faults=())
    result = simulate(case.trace, cluster, case.table, policy)
    start = np.where(result.batch >= 0, result.per_query(result.batches.start_ns), 2**62)
    for place, queue in enumerate(cluster.queues):
        mine = result.trace.class_codes == place
        arrival, outcome = result.trace.arrival_ns, result.outcome
        for query in np.flatnonzero(mine):
            before = mine & (np.arange(len(mine)) < query) & (outcome != Outcome.REJECTED)
            # Who starts at the very instant of an arrival starts after it.
            waiting = np.count_nonzero(before & (start >= arrival[query]))
            is_rejected = queue.bound is not None and waiting >= queue.bound
            assert (outcome[query] == Outcome.REJECTED) == is_rejected


@dataclasses.dataclass(frozen=True)
class AnyBatch:
    """Batches of random sizes on random subnets."""

    def decide(self, view: View) -> Dispatch:
        rng = view.system.rng
        return Dispatch(int(rng.integers(len(view.table.subnets))), int(rng.integers(1, view.table.max_batch + 1)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(1, 3))
def test_backlogged_queues_get_their_shares_within_the_bound_of_deficit_round_robin(
    seed: int, count: int, workers: int
) -> None:
    """Between any two instants, work over weight of two queues differs by a quantum and a batch of each at most."""
    rng = np.random.default_rng(seed)
    table = LatencyTable(
        "toy", (ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0)), (1, 3, 4), rng.integers(1, 30, (2, 3))
    )
    weights = rng.integers(1, 9, count)
    queues = tuple(ServiceQueue(f"q{i}", weight=int(weight)) for i, weight in enumerate(weights))
    queries = 120 * count
    codes = rng.integers(0, count, queries)
    trace = Trace(np.zeros(queries, np.int64), 100, 1, class_codes=codes, class_names=tuple(q.name for q in queues))
    cluster = Cluster(workers, queues=queues, order="fair")
    result = simulate(trace, cluster, table, AnyBatch(), seed=seed)
    of_batch = np.zeros(len(result.batches), np.int64)
    of_batch[result.batch] = result.trace.class_codes
    last = min(int(np.flatnonzero(of_batch == place)[-1]) for place in range(count))  # the first queue becomes empty
    work = result.batches.finish_ns - result.batches.start_ns
    had = np.cumsum([np.where(of_batch[:last] == place, work[:last], 0) for place in range(count)], axis=1)
    had = np.hstack([np.zeros((count, 1)), had]) / weights[:, None]
    longest = int(table.dense_ns.max())
    quantum = longest / weights.max()
    for one in range(count):
        for other in range(one):
            ahead = had[one] - had[other]
            assert ahead.max() - ahead.min() <= quantum + longest / weights[one] + longest / weights[other] + 1e-9


def test_long_run_shares_are_the_weights() -> None:
    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1, 4), [[5, 11]])
    queues = (ServiceQueue("a", weight=3), ServiceQueue("b", weight=2), ServiceQueue("c"))
    trace = Trace(np.zeros(6000, np.int64), 100, 10_000, class_codes=np.arange(6000) % 3, class_names=("a", "b", "c"))
    result = simulate(trace, Cluster(2, queues=queues, order="fair"), table, AnyBatch()).measured(Measure(0, 3000))
    busy = [one.busy_ns for one in by_queue(result)]
    assert np.array(busy) / sum(busy) == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=0.01)


def test_two_priorities_are_cobhams_formula() -> None:
    """The mean waits in M/M/2 without preemption (Cobham, 1954), within three standard errors."""
    servers, service_ns, load, urgent, queries = 2, 1_000_000, 0.8, 0.4, 6_000
    queues = (ServiceQueue("urgent", priority=1), ServiceQueue("patient", priority=2))
    cluster = Cluster(servers, latency="samples", queues=queues, order="priority")
    table, waits = exponential(service_ns), []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        arrivals = np.cumsum(rng.exponential(service_ns / (servers * load), queries)).astype(np.int64)
        codes = (rng.random(queries) >= urgent).astype(int)
        trace = Trace(arrivals, 10**12, int(arrivals[-1]), class_codes=codes, class_names=("urgent", "patient"))
        result = simulate(trace, cluster, table, One(), seed=seed)
        wait = result.per_query(result.batches.start_ns) - arrivals
        waits.append([wait[1_000:][codes[1_000:] == place].mean() for place in (0, 1)])
    offered = servers * load
    blocked = offered**servers / math.factorial(servers) / (1 - load)
    erlang_c = blocked / (sum(offered**k / math.factorial(k) for k in range(servers)) + blocked)
    rest_ns = erlang_c * service_ns / servers
    expected = [rest_ns / (1 - load * urgent), rest_ns / ((1 - load * urgent) * (1 - load))]
    error = np.std(waits, axis=0, ddof=1) / math.sqrt(len(waits))
    assert (np.abs(np.mean(waits, axis=0) - expected) < 3 * error).all()
    assert (error < [0.05 * expected[0], 0.2 * expected[1]]).all()


def test_orders_differ_in_whom_they_offer_first() -> None:
    """`a` has the earlier deadline, `b` the less slack, since it has a slow model; `c` the least number."""
    fast = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), [[2]])
    slow = LatencyTable("toy", (ProfiledSubnet("other", 70.0),), (1,), [[30]])
    queues = (
        ServiceQueue("a", 50, priority=2),
        ServiceQueue("b", 60, priority=2, table=slow),
        ServiceQueue("c", 70, priority=1),
    )
    trace = Trace(np.zeros(3, np.int64), 1, 1, class_codes=[0, 1, 2], class_names=("a", "b", "c"))
    first = {}
    for order in ("edf", "slack", "priority", "fair"):
        result = simulate(trace, Cluster(1, queues=queues, order=order), fast, One())
        first[order] = "abc"[int(np.argmin(result.per_query(result.batches.start_ns)))]
    assert first == {"edf": "a", "slack": "b", "priority": "c", "fair": "a"}


def test_each_queue_has_its_own_policy_and_its_own_model() -> None:
    """A subnet of another model with a known id gets the queue's name; a switch between models is an actuation."""
    first = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), [[5]])
    other = LatencyTable("toy", (ProfiledSubnet("s", 60.0), ProfiledSubnet("l", 80.0)), (1,), [[3], [4]])
    queues = (ServiceQueue("a"), ServiceQueue("b", table=other))
    trace = Trace(np.array([0, 0]), 100, 1, class_codes=[0, 1], class_names=("a", "b"))

    @dataclasses.dataclass(frozen=True)
    class Largest:
        def decide(self, view: View) -> Dispatch:
            return Dispatch(len(view.table.subnets) - 1, 1)

    policies: dict[str, Policy] = {"a": One(), "b": Largest()}
    result = simulate(trace, Cluster(1, actuation_ns=7, queues=queues), first, policies)
    assert [subnet.id for subnet in result.subnets] == ["s", "b/s", "l"]
    assert result.to_arrow()["subnet"].to_pylist() == ["s", "l"]
    assert result.batches.finish_ns.tolist() == [5, 5 + 7 + 4]
    for wrong in ({"a": One()}, {"a": One(), "b": One(), "c": One()}):
        with pytest.raises(SpecError, match="policy"):
            simulate(trace, Cluster(1, queues=queues), first, wrong)


TOY = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), [[5]])
OTHER = LatencyTable("toy", (ProfiledSubnet("t", 70.0),), (1,), [[5]])
KINDS = (WorkerKind("k", 1), WorkerKind("l", 1))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ServiceQueue(" "), "needs a name"),
        (lambda: ServiceQueue("a", weight=0), r"queues, 'a': weight is out of range \(0\)"),
        (lambda: ServiceQueue("a", weight=math.nan), "weight is out of range"),
        (lambda: ServiceQueue("a", weight=True), "weight is out of range"),
        (lambda: ServiceQueue("a", slo_ns=0), "slo_ns is out of range"),
        (lambda: ServiceQueue("a", slo_ns=1.5), "slo_ns is out of range"),
        (lambda: ServiceQueue("a", priority=0), "priority is out of range"),
        (lambda: ServiceQueue("a", bound=0), "bound is out of range"),
        (lambda: ServiceQueue("a", floor=101), "floor is out of range"),
        (lambda: Cluster(1, queues=(ServiceQueue("a"), ServiceQueue("a"))), "two queues have the same name"),
        (lambda: Cluster(1, order="fair"), "has no meaning without queues"),
        (lambda: Cluster(1, queues=(ServiceQueue("a"),), order="fast"), "unknown order"),
        (
            lambda: Cluster.of_kinds(*KINDS, queues=(ServiceQueue("a", table=TOY),)),
            "one latency table for several kinds",
        ),
        (
            lambda: Cluster.of_kinds(*KINDS, queues=(ServiceQueue("a", table={"k": TOY}),)),
            r"no latency table for a kind of workers \('l'\)",
        ),
        (lambda: Cluster(1, queues=(ServiceQueue("a", table={"k": TOY}),)), "an unknown kind of workers"),
        (
            lambda: Cluster.of_kinds(*KINDS, queues=(ServiceQueue("a", table={"k": TOY, "l": OTHER}),)).pools_by_queue(
                TOY
            ),
            "queues, 'a': 'l': its table lacks a subnet of other kinds",
        ),
        (
            lambda: Cluster(1, queues=(ServiceQueue("a"), ServiceQueue("b")), order="priority"),
            "cluster.order: all queues have the same priority",
        ),
        (lambda: Cluster(1, queues=(ServiceQueue("a", floor=80),)).pools_by_queue(TOY), "no subnet reaches its floor"),
    ],
)
def test_what_does_not_fit_is_refused(make: object, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        make()  # type: ignore[operator]


def test_a_trace_names_the_queue_of_each_query() -> None:
    queues = (ServiceQueue("a"), ServiceQueue("b"))
    plain = Trace(np.array([0, 1]), 100, 2)
    with pytest.raises(DataError, match="does not say to which queue"):
        simulate(plain, Cluster(1, queues=queues), TOY, One())
    named = Trace(np.array([0, 1]), 100, 2, class_codes=[0, 1], class_names=("b", "gold"))
    with pytest.raises(DataError, match=r"names an unknown queue \('gold'\)"):
        simulate(named, Cluster(1, queues=queues), TOY, One())


def test_the_choice_of_the_engine_knows_what_runs_queues() -> None:
    cluster = Cluster(2, queues=(ServiceQueue("a"), ServiceQueue("b")))
    choice = choose(10**6, cluster, TOY, One(), "auto")
    reason = "the policies of the queues have decision tables of 2 entries in all"
    assert (choice.engine, choice.reason) == ("compiled", reason)
    with pytest.raises(SpecError, match=f"Aimd: {ONE_QUEUE}"):
        choose(10, cluster, TOY, {"a": One(), "b": Aimd(accuracy=70.0)}, "compiled")
    routed = dataclasses.replace(cluster, routing="random")
    assert choose(10**6, routed, TOY, One(), "auto").engine == "compiled"


@dataclasses.dataclass(frozen=True)
class ByName:
    """Decides by the name of the queue, and by that of the kind of workers."""

    def decide(self, view: View) -> Dispatch:
        return Dispatch(int(view.queue == "a"), 2 if view.kind == "k" else 1)


def test_a_policy_that_looks_at_the_names_of_queues_and_kinds_runs_alike_on_both() -> None:
    subnets = (ProfiledSubnet("low", 70.0), ProfiledSubnet("high", 80.0))
    two = LatencyTable("toy", subnets, (1, 4), np.array([[5, 20], [9, 30]]))
    kinds = (WorkerKind("k", 1), WorkerKind("other", 2, dataclasses.replace(two, latency_ns=two.latency_ns + 3)))
    queues = (ServiceQueue("a", 40, priority=2), ServiceQueue("b", 60, floor=75.0), ServiceQueue("c", 20, bound=2))
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 3, 500)
    trace = Trace(np.sort(rng.integers(0, 3000, 500)), 50, 3001, class_codes=codes, class_names=("a", "b", "c"))
    policy = {"a": ByName(), "b": One(), "c": ByName()}
    for order in ("edf", "slack", "priority", "fair"):
        cluster = Cluster.of_kinds(*kinds, queues=queues, order=order)
        found, choice = replay(trace, cluster, two, policy, engine="compiled")
        expected, _ = replay(trace, cluster, two, policy, engine="simpy")
        assert choice.engine == "compiled"
        assert_same(found, expected)
        assert [one.busy_ns for one in by_queue(found)] == [one.busy_ns for one in by_queue(expected)]


@dataclasses.dataclass(frozen=True)
class FromTables:
    """Decides by a decision table for each kind of workers."""

    tables: tuple[DecisionTable, ...]
    kinds: tuple[str, ...]

    def decide(self, view: View) -> Decision:
        return self.tables[self.kinds.index(view.kind)].at(view.slack_ns, view.queue_length)


@st.composite
def ruled_queues(draw: st.DrawFn, *, routed: bool = False) -> tuple[Case, tuple[FromTables, ...], int]:
    """Return a case with queues, each for all workers or routed to them, the policy of each queue, and a seed."""
    case = draw(queue_cases().filter(lambda case: routed or bool(case.cluster.queues)))
    routing = draw(st.sampled_from(["round_robin", "shortest", "random"])) if routed else "central"
    case = dataclasses.replace(case, cluster=dataclasses.replace(case.cluster, routing=routing))
    kinds = tuple(kind.name for kind in case.cluster.kinds) or ("",)
    policies = []
    for pools in case.cluster.pools_by_queue(case.table):
        tables = {pool.kind: pool.table for pool in pools}
        drawn = [decision_tables(len(tables[kind].subnets), tables[kind].max_batch) for kind in kinds]
        policies.append(FromTables(draw(st.tuples(*drawn)), kinds))
    return case, tuple(policies), draw(st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(ruled_queues())
def test_both_engines_agree_with_queues(drawn: tuple[Case, tuple[FromTables, ...], int]) -> None:
    engines_agree_on_queues(*drawn)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(ruled_queues())
def test_both_engines_agree_with_queues_in_many_cases(drawn: tuple[Case, tuple[FromTables, ...], int]) -> None:
    engines_agree_on_queues(*drawn)


def engines_agree_on_queues(case: Case, policies: tuple[FromTables, ...], seed: int) -> None:
    by_name = {queue.name: policy for queue, policy in zip(case.cluster.queues, policies, strict=False)}
    expected = simulate(case.trace, case.cluster, case.table, by_name or policies[0], seed=seed)
    rules = QueueRules(tuple(policy.tables for policy in policies))
    found = replay_queues(case.trace, case.cluster, case.table, rules, seed=seed)
    assert_same(found, expected)
    assert found.trace.class_names == expected.trace.class_names
    assert [one.id for one in found.subnets] == [one.id for one in expected.subnets]
