"""The choice of the engine: it changes how long a run takes, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import pytest

from policies.aimd import Aimd
from policies.clipper import Clipper
from policies.coarse import Coarse
from policies.infaas import Infaas
from policies.maxacc import MaxAcc
from policies.maxbatch import MaxBatch
from policies.slackfit import SlackFit
from sim import Cluster, Dispatch, Hold, SpecError, WorkerFailure, WorkerKind, engines
from sim.compiled.step_policy import ONE_TABLE
from sim.engine.planning import WorkerPlan
from sim.engines import choose, replay
from sim.tables.files import load_table
from sim.traces.synthetic import Bursty
from tests.policies.engines import assert_engines_agree, assert_same

if TYPE_CHECKING:
    from sim import Decision, PlannerView, Policy, View
    from sim.engines import Engine

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

TABLE = load_table("ofa-resnet50-rtx2080ti")
MS = 1_000_000


@pytest.mark.parametrize(
    "policy", [SlackFit(), SlackFit(queue_aware=True), MaxAcc(), MaxBatch(), Infaas(), Clipper(79.44)], ids=str
)
@pytest.mark.parametrize("drop", ["never", "expired", "hopeless"])
def test_every_pure_policy_runs_alike_on_both(policy: Policy, drop: str) -> None:
    trace = Bursty(base_qps=1500, variant_qps=5550, cv2=8, duration_s=3, slo_ms=36).trace(seed=3)
    cluster = Cluster(8, 3 * MS, MS // 2, drop, (WorkerFailure(3, 1000 * MS, 1500 * MS), WorkerFailure(5, 1200 * MS)))
    assert_engines_agree(trace, cluster, TABLE, policy)


TWO = (WorkerKind("slow", 3), WorkerKind("fast", 4, load_table("ofa-resnet50-a40")))


@dataclass(frozen=True)
class KeepsFast:
    """SlackFit that holds the fast workers for queries in a hurry."""

    def decide(self, view: View) -> Decision:
        return Hold(20 * MS) if view.kind == "fast" and view.slack_ns > 20 * MS else SlackFit().decide(view)


@pytest.mark.parametrize("policy", [SlackFit(), KeepsFast(), Clipper(79.44)], ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("drop", ["never", "hopeless"])
def test_every_pure_policy_runs_alike_on_kinds_of_workers(policy: Policy, drop: str) -> None:
    trace = Bursty(base_qps=1500, variant_qps=3550, cv2=8, duration_s=2, slo_ms=36).trace(seed=3)
    faults = (WorkerFailure(3, 1000 * MS, 1500 * MS), WorkerFailure(5, 1200 * MS))
    cluster = Cluster.of_kinds(*TWO, offer="fastest", drop=drop, faults=faults, actuation_ns=MS // 2)
    assert_engines_agree(trace, cluster, TABLE, policy)


def test_a_step_policy_runs_compiled_where_all_kinds_have_one_table() -> None:
    trace = Bursty(base_qps=1500, variant_qps=3550, cv2=8, duration_s=1, slo_ms=36).trace(seed=3)
    cluster = Cluster.of_kinds(WorkerKind("a", 2), WorkerKind("b", 3))
    assert_engines_agree(trace, cluster, TABLE, Aimd(accuracy=78.25))
    choice = choose(10**6, Cluster.of_kinds(*TWO), TABLE, Aimd(accuracy=78.25), "auto")
    assert (choice.engine, choice.reason) == ("simpy", f"Aimd: {ONE_TABLE}")


@dataclass
class Alternates:
    """Gives two policies in turn, the same objects again and again."""

    policies: tuple[Policy, Policy]
    changes_workers = False
    turn: int = field(default=0, init=False)

    def plan(self, _: PlannerView) -> WorkerPlan:
        self.turn += 1
        return WorkerPlan(queues={"": self.policies[self.turn % 2]})


@pytest.mark.parametrize("other", [Aimd(accuracy=78.25), MaxBatch()], ids=["equal", "another"])
def test_a_step_policy_that_a_planner_returns_to_remembers_alike_on_both(other: Policy) -> None:
    trace = Bursty(base_qps=500, variant_qps=1550, cv2=8, duration_s=2, slo_ms=36).trace(seed=3)
    found, expected = (
        replay(
            *(trace, Cluster(4), TABLE, Aimd(accuracy=78.25)),
            engine=engine,
            planner=Alternates((Aimd(accuracy=78.25), other)),
            period_ns=100 * MS,
        )[0]
        for engine in ("compiled", "simpy")
    )
    assert_same(found, expected)


@pytest.mark.parametrize("engine", ["auto", "compiled", "simpy"])
def test_a_planner_is_asked_itself_and_not_a_copy_of_it(engine: Engine) -> None:
    trace = Bursty(base_qps=500, variant_qps=1550, cv2=8, duration_s=2, slo_ms=36).trace(seed=3)
    planner = Alternates((Aimd(accuracy=78.25), MaxBatch()))
    _, choice = replay(trace, Cluster(4), TABLE, MaxBatch(), engine=engine, planner=planner, period_ns=100 * MS)
    assert choice.engine == ("simpy" if engine == "simpy" else "compiled")
    assert planner.turn == (trace.duration_ns - 1) // (100 * MS)  # none at the end


def test_a_planner_that_can_not_be_copied_plans_in_simpy_unless_it_need_not_be() -> None:
    @dataclass
    class Logs(Alternates):
        lock: object = field(default_factory=Lock)

    trace = Bursty(base_qps=500, variant_qps=1550, cv2=8, duration_s=2, slo_ms=36).trace(seed=3)
    results = []
    for engine, found in (("auto", "simpy"), ("compiled", "compiled")):
        planner = Logs((SlackFit(), MaxBatch()))
        result, choice = replay(
            trace, Cluster(4), TABLE, MaxBatch(), engine=engine, planner=planner, period_ns=100 * MS
        )
        assert choice.engine == found
        results.append(result)
    assert_same(*results)


def test_a_run_that_begins_anew_in_simpy_has_a_planner_that_remembers_nothing() -> None:
    trace = Bursty(base_qps=500, variant_qps=1550, cv2=8, duration_s=2, slo_ms=36).trace(seed=3)
    how = (trace, Cluster(4), TABLE, MaxBatch())
    results = []
    for engine in ("auto", "simpy"):
        planner = Alternates((Coarse(), MaxBatch()))
        result, choice = replay(*how, engine=engine, planner=planner, period_ns=100 * MS)
        assert choice.engine == "simpy"
        results.append(result)
    assert_same(*results)


def test_a_policy_that_looks_elsewhere_runs_in_simpy_and_it_is_said_why() -> None:
    choice = choose(10**6, Cluster(1), TABLE, Coarse(), "auto")
    assert (choice.engine, choice.reason) == ("simpy", "Coarse(window_ms=1000.0, headroom=1.0): depends on the clock")
    with pytest.raises(SpecError, match=r"the compiled engine can't run this \(Coarse.*depends on the clock\)"):
        choose(10**6, Cluster(1), TABLE, Coarse(), "compiled")


def test_without_numba_simpy_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "numba_is_installed", lambda: False)
    choice = choose(10**6, Cluster(1), TABLE, SlackFit(), "auto")
    assert (choice.engine, choice.reason) == ("simpy", engines.NO_NUMBA)
    with pytest.raises(SpecError, match="numba is not installed"):
        choose(10**6, Cluster(1), TABLE, SlackFit(), "compiled")


def test_a_policy_that_can_not_be_kept_in_memory_runs_in_simpy() -> None:
    @dataclass(frozen=True)
    class Listed:
        sizes: list[int]

        def decide(self, view: View) -> Dispatch:
            return Dispatch(0, self.sizes[view.slack_ns > 0])

    assert choose(10**6, Cluster(1), TABLE, Listed([1, 2]), "auto").reason == "Listed: may have state (sizes)"
