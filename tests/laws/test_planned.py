"""Workers that come and go: the engine against the naive one, conservation, and the time that each worker was there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sim import (
    Cluster,
    Decision,
    Dispatch,
    LatencyTable,
    Outcome,
    ProfiledSubnet,
    Trace,
    View,
    WorkerFailure,
    WorkerKind,
    simulate,
)
from sim.compiled.step_policy import HOLD
from sim.compiled.tabulate import DecisionTable, QueueRules, Rule, tables_of
from sim.engine.kind_metrics import by_kind
from sim.engine.metrics import utilisation
from sim.engine.planning import PlannerView, WorkerPlan
from sim.engine.run_metrics import NEVER_NS
from sim.engine.scaling import Fleet, Scaling, serving_over_time
from tests.laws.cases import Case, TablePlanner, planned_cases
from tests.laws.naive_engine import naive_engine_agrees, run
from tests.policies.engines import assert_same

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

from sim.compiled.queues import replay_queues
from sim.compiled.replay import replay_compiled, replay_counted, replay_stream
from sim.compiled.turns import Planning
from tests.laws.test_compiled import decision_tables, tables_by_kind


@settings(max_examples=25, deadline=None)
@given(planned_cases())
def test_the_engine_and_a_process_for_each_query_agree_with_a_planner(case: Case) -> None:
    naive_engine_agrees(case)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(planned_cases())
def test_the_engine_and_a_process_for_each_query_agree_in_many_cases_with_a_planner(case: Case) -> None:
    naive_engine_agrees(case)


@dataclasses.dataclass(frozen=True)
class Still:
    """Changes nothing."""

    def plan(self, _: PlannerView) -> WorkerPlan:
        return WorkerPlan()


@dataclasses.dataclass(frozen=True)
class Single:
    """Runs each query alone."""

    def decide(self, _: View) -> Dispatch:
        return Dispatch(0, 1)


@settings(max_examples=40, deadline=None)
@given(planned_cases())
def test_a_planner_that_changes_nothing_changes_nothing(case: Case) -> None:
    assume(all(kind.workers for kind in case.cluster.kinds))  # without a planner there are no kinds to come
    kinds = tuple(dataclasses.replace(kind, scaling=None) for kind in case.cluster.kinds)
    cluster = dataclasses.replace(case.cluster, kinds=kinds, scaling=None)
    plain = simulate(case.trace, cluster, case.table, case.policy)
    found = run(dataclasses.replace(case, planner=Still()))
    assert found.outcome.tobytes() == plain.outcome.tobytes()
    for column in dataclasses.fields(plain.batches):
        assert getattr(found.batches, column.name).tobytes() == getattr(plain.batches, column.name).tobytes()
    for horizon in (1, plain.horizon_ns // 2, plain.horizon_ns):
        whole = case.cluster.workers * horizon
        assert found.fleet.available_ns(horizon) == whole - cluster.down_ns(horizon)
        assert found.fleet.started_up_ns(horizon) == 0


@settings(max_examples=50, deadline=None)
@given(planned_cases())
def test_a_worker_serves_between_its_start_up_and_its_end_and_all_of_it_adds_up(case: Case) -> None:
    result = run(case)
    fleet, batches, horizon = result.fleet, result.batches, result.horizon_ns
    assert sum(result.count(outcome) for outcome in Outcome) == len(case.trace)
    assert (batches.start_ns >= fleet.ready_ns[batches.worker]).all()
    assert (batches.finish_ns <= fleet.gone_ns[batches.worker]).all(), "who goes finishes its batch"
    scaled = [kind.scaling for kind in case.cluster.kinds] or [case.cluster.scaling]
    startup = np.array([0 if scaling is None else scaling.startup_ns for scaling in scaled])
    assert np.array_equal(fleet.kind[: case.cluster.workers], case.cluster.kind_of_worker)
    late = fleet.asked_ns > 0
    assert (fleet.ready_ns - fleet.asked_ns == np.where(late, startup[fleet.kind], 0)).all()
    # The time of workers is the integral of their number, less what they are down.
    instants, numbers = serving_over_time(fleet.ready_ns, np.minimum(fleet.gone_ns, horizon))
    spans = np.diff(np.append(instants, horizon).clip(0, horizon))
    down = 0
    for fault in case.cluster.faults:
        end = min(NEVER_NS if fault.recover_ns is None else fault.recover_ns, int(fleet.gone_ns[fault.worker]), horizon)
        down += max(0, end - fault.at_ns)
    assert fleet.available_ns(horizon) == int(spans @ numbers) - down
    kinds = range(len(scaled))
    for until in (horizon // 3, horizon):
        assert sum(fleet.available_ns(until, kind) for kind in kinds) == fleet.available_ns(until)
        assert sum(fleet.started_up_ns(until, kind) for kind in kinds) == fleet.started_up_ns(until)
    assert result.busy_ns <= fleet.available_ns(horizon)


@pytest.mark.parametrize("offer", ["kind", "cheapest"])
def test_workers_are_of_their_kind_where_another_kind_has_none_at_the_start(offer: str) -> None:
    table = LatencyTable("toy", (ProfiledSubnet("s", 70.0),), (1,), np.array([[2]]))
    kinds = (
        WorkerKind("none_yet", 0, price_per_h=2.0, scaling=Scaling(4, 0)),
        WorkerKind("three", 3, price_per_h=1.0, scaling=Scaling(3, 0)),
    )
    cluster = Cluster.of_kinds(*kinds, offer=offer, currency="EUR")
    recorder = Recorder(Still())
    result = simulate(Trace(np.arange(20), 9, 20), cluster, table, Single(), planner=recorder, period_ns=5)
    assert result.fleet.kind.tolist() == [1, 1, 1]
    assert [kind.workers for kind in recorder.views[0].kinds] == [0, 3]
    assert [one.batches for one in by_kind(result)] == [0, 20]


@settings(max_examples=20, deadline=None)
@given(planned_cases(queues=False).filter(lambda case: not case.cluster.kinds))
def test_with_one_worker_at_a_time_a_queue_for_each_is_a_central_queue(case: Case) -> None:
    cluster = dataclasses.replace(case.cluster, workers=1, faults=(), scaling=Scaling(1, 0, 3))
    one = dataclasses.replace(case, cluster=dataclasses.replace(cluster, routing="central"))
    for routing in ("round_robin", "shortest", "random"):
        routed = dataclasses.replace(one, cluster=dataclasses.replace(cluster, routing=routing))
        assert run(routed).outcome.tobytes() == run(one).outcome.tobytes()


@dataclasses.dataclass
class Recorder:
    """Plans as another planner, and keeps what it sees."""

    planner: object
    views: list[PlannerView] = dataclasses.field(default_factory=list)

    def plan(self, view: PlannerView) -> WorkerPlan:
        self.views.append(view)
        return self.planner.plan(view)


@settings(max_examples=40, deadline=None)
@given(planned_cases())
def test_turns_see_each_query_once_and_no_plan_leads_out_of_the_bounds(case: Case) -> None:
    recorder = Recorder(case.planner)
    result = run(dataclasses.replace(case, planner=recorder))
    views = recorder.views
    assert [view.now_ns for view in views] == list(range(case.period_ns, case.trace.duration_ns, case.period_ns))
    if not views:
        return
    last = views[-1].now_ns
    assert sum(view.arrivals for view in views) == int((case.trace.arrival_ns < last).sum())
    ended = result.per_query(result.batches.finish_ns)
    queue_of = result.trace.class_codes if case.cluster.queues else np.zeros(len(case.trace))
    for place in range(len(views[0].queues)):
        mine = [view.queues[place] for view in views]
        came = int(((case.trace.arrival_ns < last) & (queue_of == place)).sum())
        assert sum(queue.arrivals for queue in mine) == came
        for outcome, name in ((Outcome.MET, "met"), (Outcome.LATE, "late")):
            expected = (result.outcome == outcome) & (ended < last) & (queue_of == place)
            assert sum(getattr(queue, name) for queue in mine) == int(expected.sum())
        # What has come has been answered, dropped or rejected, waits or runs.
        gone = sum(queue.met + queue.late + queue.dropped + queue.rejected for queue in mine)
        runs = (result.per_query(result.batches.start_ns) < last) & (ended >= last) & (queue_of == place)
        assert came - gone - mine[-1].length == int((runs & (result.batch >= 0)).sum())
    in_batches = result.batches.size[result.batches.start_ns < last].sum()
    assert sum(kind.queries for view in views for kind in view.kinds) == in_batches
    for view in views:
        for kind in view.kinds:
            assert not kind.busy_share < 0
            assert not kind.busy_share > 1
            if kind.scaling is not None and not case.cluster.faults:
                assert kind.scaling.min_workers <= kind.workers <= kind.scaling.max_workers
            if kind.scaling is None:
                assert kind.workers + kind.failed == len(result.fleet.kind[result.fleet.kind == view.kinds.index(kind)])


@dataclasses.dataclass(frozen=True)
class EitherRule:
    """Decides by one of two rules for the compiled engine, as a parameter says that a planner may change."""

    rules: tuple[Rule, Rule]
    kinds: tuple[str, ...]
    drops: bool = False
    waits: bool = False  # changes nothing

    @property
    def rule(self) -> Rule:
        return self.rules[self.drops]

    def decide(self, view: View) -> Decision:
        tables = tables_of(self.rule)
        return tables[self.kinds.index(view.kind) if len(tables) > 1 else 0].at(view.slack_ns, view.queue_length)


@st.composite
def planned_rules(draw: st.DrawFn) -> tuple[Case, EitherRule, int, list[int]]:
    """Return a case with a planner, its policy, a seed, and where the trace is cut into pieces."""
    case = draw(planned_cases(queues=False))
    case = dataclasses.replace(case, planner=dataclasses.replace(case.planner, other=None))
    single = decision_tables(len(case.table.subnets), case.table.max_batch)
    rules = draw(st.tuples(*[tables_by_kind(case) if case.cluster.kinds else single] * 2))
    policy = EitherRule(rules, tuple(kind.name for kind in case.cluster.kinds))
    return case, policy, draw(st.integers(0, 3)), draw(st.lists(st.integers(0, len(case.trace)), max_size=4))


@settings(max_examples=30, deadline=None)
@given(planned_rules())
def test_both_engines_agree_with_a_planner(drawn: tuple[Case, EitherRule, int, list[int]]) -> None:
    engines_agree(*drawn)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(planned_rules())
def test_both_engines_agree_in_many_cases_with_a_planner(drawn: tuple[Case, EitherRule, int, list[int]]) -> None:
    engines_agree(*drawn)


@st.composite
def planned_queues(draw: st.DrawFn) -> tuple[Case, tuple[EitherRule, ...], int]:
    """Return a case with a planner and queues, or a queue for each worker; the policy of each queue; and a seed."""
    case = draw(planned_cases().filter(lambda case: bool(case.cluster.queues) or case.cluster.is_routed))
    case = dataclasses.replace(case, planner=dataclasses.replace(case.planner, other=None))
    kinds, policies = tuple(kind.name for kind in case.cluster.kinds), []
    for pools in case.cluster.pools_by_queue(case.table):
        tables = {pool.kind: pool.table for pool in pools}
        each = [decision_tables(len(tables[kind].subnets), tables[kind].max_batch) for kind in kinds or [""]]
        policies.append(EitherRule(draw(st.tuples(*[st.tuples(*each)] * 2)), kinds))
    return case, tuple(policies), draw(st.integers(0, 3))


@settings(max_examples=100, deadline=None)
@given(planned_queues())
def test_both_engines_agree_with_a_planner_and_queues(drawn: tuple[Case, tuple[EitherRule, ...], int]) -> None:
    engines_agree_on_planned_queues(*drawn)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(planned_queues())
def test_both_engines_agree_in_many_cases_with_a_planner_and_queues(
    drawn: tuple[Case, tuple[EitherRule, ...], int],
) -> None:
    engines_agree_on_planned_queues(*drawn)


def engines_agree_on_planned_queues(case: Case, policies: tuple[EitherRule, ...], seed: int) -> None:
    """Query by query, worker by worker, and turn by turn."""
    trace, cluster, table = case.trace, case.cluster, case.table
    seen, repeated = Recorder(case.planner), Recorder(case.planner)
    by_name = {queue.name: policy for queue, policy in zip(cluster.queues, policies, strict=False)}
    plans = {"planner": seen, "period_ns": case.period_ns}
    expected = simulate(trace, cluster, table, by_name or policies[0], seed=seed, **plans)
    planning = Planning(repeated, case.period_ns, policies, lambda changed, _: changed.rule)
    rules = QueueRules(tuple(policy.rule for policy in policies))
    found = replay_queues(trace, cluster, table, rules, seed=seed, planning=planning)
    assert_same(found, expected)
    assert_same_fleet(found.fleet, expected.fleet)
    assert str(repeated.views) == str(seen.views)


def held_while_one_that_goes_fails() -> tuple[Case, EitherRule, int, list[int]]:
    """Return what random cases hardly ever have: a hold, in which a worker fails that takes no further batch."""
    names = (ProfiledSubnet("s", 70.0),)
    table = LatencyTable("toy", names, (1,), np.array([[20]]))
    kinds = (WorkerKind("goes", 1, scaling=Scaling(1, 0)), WorkerKind("stays", 1))
    cluster = Cluster.of_kinds(*kinds, faults=(WorkerFailure(0, 10),))
    now = DecisionTable(np.array([], np.int64), np.array([[0]]), np.array([[1]]), calls=0)
    later = DecisionTable(np.array([38]), np.array([[0], [HOLD]]), np.array([[1], [0]]), calls=0)
    rules = ((now, later), (now, later))
    case = Case(Trace(np.array([0, 6]), 40, 30), cluster, table, None, TablePlanner((0,), changes_policy=False), 5)
    return case, EitherRule(rules, ("goes", "stays")), 0, []


def test_a_policy_is_asked_when_a_worker_fails_that_takes_no_further_batch() -> None:
    case, policy, *_ = drawn = held_while_one_that_goes_fails()
    plans = {"planner": case.planner, "period_ns": case.period_ns}
    result = simulate(case.trace, case.cluster, case.table, policy, **plans)
    assert result.batches.start_ns.tolist() == [0, 10]
    engines_agree(*drawn)


def engines_agree(case: Case, policy: EitherRule, seed: int, cuts: list[int]) -> None:
    """Query by query and worker by worker; and a stream in pieces has the counts of the whole."""
    trace, cluster, table = case.trace, case.cluster, case.table
    plans = {"planner": case.planner, "period_ns": case.period_ns}
    expected = simulate(trace, cluster, table, policy, seed=seed, **plans)
    planning = Planning(case.planner, case.period_ns, [policy], lambda changed, _: changed.rule)
    how = {"seed": seed, "planning": planning}
    found = replay_compiled(trace, cluster, table, policy.rule, **how)
    assert_same(found, expected)
    assert_same_fleet(found.fleet, expected.fleet)
    if trace.in_order and isinstance(trace.slo_ns, int):
        counted = replay_counted(trace, cluster, table, policy.rule, 7, **how)
        pieces = np.split(trace.arrival_ns, sorted(cuts))
        stream = replay_stream(pieces, trace.slo_ns, trace.duration_ns, cluster, table, policy.rule, 7, **how)
        for one, other in zip(counted.counts, stream.counts, strict=True):
            assert one.tolist() == other.tolist()
        for metrics in (counted, stream):
            assert_same_fleet(metrics.fleet, expected.fleet)
            assert by_kind(metrics) == by_kind(expected)
            assert utilisation(metrics) == pytest.approx(utilisation(expected), nan_ok=True)


def assert_same_fleet(one: Fleet, other: Fleet) -> None:
    for column in ("kind", "asked_ns", "ready_ns", "gone_ns"):
        assert getattr(one, column).tolist() == getattr(other, column).tolist(), column
