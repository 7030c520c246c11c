from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sim import (
    Cluster,
    DataError,
    Dispatch,
    Drop,
    Hold,
    LatencyTable,
    Outcome,
    PolicyError,
    ProfiledSubnet,
    SpecError,
    Trace,
    Wait,
    WorkerFailure,
    simulate,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim import Decision, View

TABLE = LatencyTable(
    "toy",
    (ProfiledSubnet("small", 70.0, loading_ns=100), ProfiledSubnet("large", 80.0, loading_ns=300)),
    (1, 2, 4),
    np.array([[10, 12, 16], [20, 24, 32]]),
)


def trace_of(*arrivals: int, slo: int | list[int] = 100) -> Trace:
    slo_ns = slo if isinstance(slo, int) else np.array(slo)
    return Trace(np.array(arrivals), slo_ns, max(arrivals) + 1)


@dataclass
class Scripted:
    """Answers what it is told to, and remembers what it saw."""

    answer: Callable[[View], Decision]
    seen: list[View] = field(init=False, default_factory=list)

    def decide(self, view: View) -> Decision:
        self.seen.append(view)
        return self.answer(view)


def always(decision: Decision) -> Scripted:
    return Scripted(lambda _: decision)


def starts(trace: Trace, cluster: Cluster, policy: Scripted) -> list[int]:
    result = simulate(trace, cluster, TABLE, policy)
    return result.per_query(result.batches.start_ns).tolist()


def test_arrivals_of_one_instant_form_one_batch_and_completions_come_before_them() -> None:
    policy = always(Dispatch(0, 4))
    trace = trace_of(0, 10, 10, 10)  # the first is answered at 10, just when the others arrive
    result = simulate(trace, Cluster(1), TABLE, policy)
    assert result.batches.start_ns.tolist() == [0, 10]
    assert result.batches.size.tolist() == [1, 3]
    assert [view.queue_length for view in policy.seen] == [1, 3]


def test_a_query_answered_at_its_deadline_is_met_and_a_nanosecond_later_is_late() -> None:
    outcome = lambda slo: simulate(trace_of(0, slo=slo), Cluster(1), TABLE, always(Dispatch(0, 1))).outcome.tolist()  # noqa: E731
    assert outcome(10) == [Outcome.MET]
    assert outcome(9) == [Outcome.LATE]


def test_slack_has_the_dispatch_overhead_taken_off_and_the_batch_pays_it() -> None:
    policy = always(Dispatch(0, 1))
    result = simulate(trace_of(5), Cluster(1, dispatch_ns=7), TABLE, policy)
    assert policy.seen[0].slack_ns == 100 - 7
    assert result.batches.finish_ns.tolist() == [5 + 10 + 7]


def test_the_free_worker_with_the_lowest_number_runs_the_batch() -> None:
    result = simulate(trace_of(0, 1, 2, 12), Cluster(3), TABLE, always(Dispatch(0, 1)))
    assert result.batches.worker.tolist() == [0, 1, 2, 0]


def test_a_policy_may_pick_the_worker() -> None:
    result = simulate(trace_of(0), Cluster(3), TABLE, always(Dispatch(0, 1, worker=2)))
    assert result.batches.worker.tolist() == [2]


@pytest.mark.parametrize(("delay", "paid"), [(50, 50), ("table", 300)])
def test_a_switch_of_subnet_costs_the_actuation_delay_and_the_first_batch_does_not(delay: int, paid: int) -> None:
    policy = Scripted(lambda view: Dispatch(int(view.now_ns >= 100), 1))
    result = simulate(trace_of(0, 50, 100, 900), Cluster(1, actuation_ns=delay), TABLE, policy)
    durations = (result.batches.finish_ns - result.batches.start_ns).tolist()
    assert durations == [10, 10, 20 + paid, 20]


def test_actuation_from_a_table_without_loading_times_is_an_error() -> None:
    table = LatencyTable("bare", (ProfiledSubnet("s", 70.0),), (1,), np.array([[5]]))
    with pytest.raises(DataError, match="bare: a subnet has no loading time"):
        simulate(trace_of(0), Cluster(1, actuation_ns="table"), table, always(Dispatch(0, 1)))


def test_a_failing_worker_loses_its_batch_and_comes_back_with_nothing_loaded() -> None:
    cluster = Cluster(1, actuation_ns=50, faults=(WorkerFailure(0, 5, 100),))
    result = simulate(trace_of(0, 20), cluster, TABLE, always(Dispatch(0, 1)))
    assert result.outcome.tolist() == [Outcome.DROPPED, Outcome.LATE]
    assert result.batches.lost.tolist() == [True, False]
    assert result.batches.finish_ns.tolist() == [5, 100 + 10 + 50]
    assert result.cluster.down_ns(result.horizon_ns) == 95


def test_a_batch_answered_at_the_instant_of_the_failure_is_answered() -> None:
    result = simulate(trace_of(0), Cluster(1, faults=(WorkerFailure(0, 10),)), TABLE, always(Dispatch(0, 1)))
    assert result.outcome.tolist() == [Outcome.MET]


def test_without_any_worker_left_the_rest_is_unfinished() -> None:
    result = simulate(trace_of(0, 20, 30), Cluster(1, faults=(WorkerFailure(0, 15),)), TABLE, always(Dispatch(0, 1)))
    assert result.outcome.tolist() == [Outcome.MET, Outcome.UNFINISHED, Outcome.UNFINISHED]


def test_the_queue_is_in_order_of_deadlines_when_queries_have_their_own() -> None:
    trace = trace_of(0, 1, 2, 3, slo=[500, 400, 30, 300])
    assert starts(trace, Cluster(1), always(Dispatch(0, 1))) == [0, 30, 10, 20]


@pytest.mark.parametrize(("rule", "dropped"), [("never", 0), ("expired", 1), ("hopeless", 2)])
def test_drop_rules(rule: str, dropped: int) -> None:
    # At 20 the first batch is answered. By then the second query is past its deadline, and the third can't make it.
    policy = Scripted(lambda view: Dispatch(1 if view.now_ns == 0 else 0, 1))
    trace = trace_of(0, 1, 1, 1, slo=[100, 15, 25, 60])
    result = simulate(trace, Cluster(1, drop=rule), TABLE, policy)
    assert np.count_nonzero(result.outcome == Outcome.DROPPED) == dropped


def test_a_waiting_policy_is_asked_again_when_its_time_is_up_or_something_happens() -> None:
    policy = Scripted(
        lambda view: (
            Dispatch(0, 4) if view.queue_length >= 3 or view.slack_ns <= 60 else Wait(view.now_ns + view.slack_ns - 60)
        )
    )
    result = simulate(trace_of(0, 5, 7, 200), Cluster(1), TABLE, policy)
    assert result.batches.start_ns.tolist() == [7, 240]
    assert [view.now_ns for view in policy.seen] == [0, 5, 7, 200, 240]


def test_a_policy_may_drop() -> None:
    policy = Scripted(lambda view: Drop(2) if view.queue_length == 3 else Dispatch(0, 1))
    result = simulate(trace_of(0, 0, 0), Cluster(1), TABLE, policy)
    assert result.outcome.tolist() == [Outcome.DROPPED, Outcome.DROPPED, Outcome.MET]


def test_what_a_view_looks_up() -> None:
    looked: list[object] = []

    def look(view: View) -> Dispatch:
        system = view.system
        looked.append(
            (
                view.now_ns,
                tuple(system.free_workers()),
                system.workers_alive,
                system.subnet_on(0),
                tuple(system.deadlines_ns(9)),
                system.arrivals_within(10),
                view.rate_per_s(10),
            )
        )
        return Dispatch(1, 1)

    simulate(trace_of(0, 5, 5), Cluster(2, faults=(WorkerFailure(1, 1),)), TABLE, Scripted(look))
    assert looked[0] == (0, (0, 1), 2, None, (100,), 1, 1e9)
    assert looked[1] == (20, (0,), 1, 1, (105, 105), 0, 0.0)


def test_random_policies_draw_from_the_seed() -> None:
    trace = trace_of(*range(0, 4000, 40))
    pick = lambda: Scripted(lambda view: Dispatch(int(view.system.rng.integers(2)), 1))  # noqa: E731 - made anew
    subnets = lambda seed: simulate(trace, Cluster(1), TABLE, pick(), seed=seed).batches.subnet.tolist()  # noqa: E731
    assert subnets(1) == subnets(1)
    assert subnets(1) != subnets(2)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Dispatch(2, 1), "unknown subnet (2); an index from 0 to 1"),
        (Dispatch(-1, 1), "unknown subnet (-1)"),
        (Dispatch(subnet=True, batch_size=1), "unknown subnet (True)"),
        (Dispatch(0, 0), "invalid batch size (0); an integer from 1 to 4"),
        (Dispatch(0, 5), "invalid batch size (5)"),
        (Dispatch(0, 1.5), "invalid batch size (1.5)"),
        (Dispatch(0, 1, worker=1), "picks a worker that is not free (1); free: 0"),
        (Wait(0), "waits for a time that is not in the future (0)"),
        (Wait(0.5), "waits for a time that is not in the future (0.5)"),
        (Hold(100), "holds until a slack that can't come (100)"),
        (Hold(-1), "holds until a slack that can't come (-1)"),
        (Hold(0.5), "holds until a slack that can't come (0.5)"),
        (Drop(2), "drops more queries than are waiting, or none (2); 1 to 1"),
        (Drop(0), "drops more queries than are waiting, or none (0)"),
        (None, "does not return a decision (None); Dispatch, Hold, Wait or Drop"),
        ((0, 1), "does not return a decision ((0, 1))"),
    ],
)
def test_a_decision_that_cannot_be_carried_out_ends_the_run(answer: Decision, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        simulate(trace_of(0), Cluster(1), TABLE, always(answer))
    value, place, *situation = caught.value.value.split("; ")
    assert says in f"{caught.value.problem} ({value}); {caught.value.hint}"
    assert place.startswith("test_engine.py:")
    assert situation == ["slack 0.0001 ms, queue 1"]
    assert "at 0 ms" in str(caught.value)


def test_a_policy_that_raises_is_named_with_the_instant_and_its_words() -> None:
    def fail(_: View) -> Decision:
        raise ZeroDivisionError("no rate yet")

    with pytest.raises(PolicyError, match="raised ZeroDivisionError: no rate yet") as caught:
        simulate(trace_of(3), Cluster(1), TABLE, Scripted(fail))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "at 0.000003 ms: " in str(caught.value)
    assert "(test_engine.py:226, in fail; slack 0.0001 ms, queue 1)" in str(caught.value)


def test_a_policy_that_waits_for_nothing_past_every_deadline_is_stopped() -> None:
    with pytest.raises(PolicyError, match="waits with nothing left to wait for"):
        simulate(trace_of(0), Cluster(1), TABLE, Scripted(lambda view: Wait(view.now_ns + 50)))


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    result = simulate(trace_of(0), Cluster(1), TABLE, always(Dispatch(np.int64(1), np.int32(2))))
    assert result.batches.subnet.tolist() == [1]


def test_whole_numbers_of_numpy_do_not_overflow() -> None:
    trace = trace_of(*range(0, 20_000, 100))
    result = simulate(trace, Cluster(1), TABLE, Scripted(lambda _: Dispatch(np.int8(1), np.int8(2), worker=np.int8(0))))
    assert len(result.batches) == 200
    with pytest.raises(PolicyError, match="not free"):
        simulate(trace, Cluster(1), TABLE, always(Dispatch(0, 1, worker=0.0)))


def test_a_policy_may_wait_long_while_queries_are_still_to_come() -> None:
    policy = Scripted(lambda view: Wait(np.int64(10**6)) if view.now_ns < 300 else Dispatch(0, 4))
    result = simulate(trace_of(0, 300), Cluster(1), TABLE, policy)
    assert result.batches.start_ns.tolist() == [300]
    assert result.horizon_ns == 312


def test_delays_are_whole_nanoseconds() -> None:
    for wrong in (
        {"dispatch_ns": 0.75},
        {"dispatch_ns": 2e6},
        {"actuation_ns": -1},
        {"workers": 0},
        {"workers": 10**9},
    ):
        with pytest.raises(SpecError):
            Cluster(**{"workers": 1, **wrong})
    with pytest.raises(SpecError, match="invalid failure time"):
        Cluster(1, faults=(WorkerFailure(0, -1),))
    with pytest.raises(DataError, match="invalid duration"):
        Trace(np.array([0]), 5, 0)


def test_a_policy_that_ends_the_program_is_a_policy_that_raised() -> None:
    def leave(_: View) -> Decision:
        raise SystemExit(0)

    with pytest.raises(PolicyError, match="raised SystemExit"):
        simulate(trace_of(3), Cluster(1), TABLE, Scripted(leave))


def test_errors_survive_being_rebuilt() -> None:
    for error in (PolicyError("where", "what", "value", "right"), DataError("a", "b")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes
        assert str(type(error)(*error.args)) == str(error)
