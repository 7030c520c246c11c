"""Residence: what lies in the memory of workers, against the naive engine; and limits that change nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.allocated import Allocated
from policies.planners.proteus import ProteusAllocation
from sim import (
    Cluster,
    DataError,
    Dispatch,
    LatencyTable,
    PlannerView,
    PolicyError,
    ProfiledSubnet,
    Result,
    SpecError,
    Trace,
    View,
    WorkerKind,
    WorkerPlan,
    simulate,
)
from sim.engine.residence import Memory, Unit, Units, WorkerMemory
from sim.engines import choose
from sim.tables.files import load_table
from sim.traces.synthetic import TimeVarying
from tests.laws.cases import Case, memory_cases
from tests.laws.naive_engine import NaiveEngine
from tests.laws.test_queues import same

VAST = Memory(10**9, 1e9)


@settings(max_examples=120, deadline=None)
@given(memory_cases())
def test_weights_are_loaded_and_evicted_as_in_the_naive_engine(case: Case) -> None:
    naive_engine_agrees(case)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(memory_cases())
def test_weights_are_loaded_and_evicted_as_in_the_naive_engine_in_many_cases(case: Case) -> None:
    naive_engine_agrees(case)


def naive_engine_agrees(case: Case) -> Result:
    """Return the result of the SimPy engine, which is that of the naive one."""
    plans = {"planner": case.planner, "period_ns": case.period_ns}
    result = simulate(case.trace, case.cluster, case.table, case.policy, seed=3, **plans)
    naive = NaiveEngine(case.trace, case.cluster, case.table, case.policy, 3, **plans).run()
    assert result.outcome.tolist() == naive.outcome
    assert result.per_query(result.batches.start_ns).tolist() == naive.start
    assert result.per_query(result.batches.worker).tolist() == naive.worker
    assert np.where(result.answered, result.per_query(result.batches.finish_ns), -1).tolist() == naive.finish
    return result


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 12), st.data())
def test_memory_is_never_exceeded_and_only_absent_units_are_loaded(
    sizes: list[int], spare: int, data: st.DataObject
) -> None:
    units = Units(tuple(Unit(str(i), size, 10 + i) for i, size in enumerate(sizes)), (), {}, 0)
    memory = WorkerMemory(Memory(max(sizes) + spare), units)
    used = data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=20))
    for turn, unit in enumerate(used):
        now_ns = 100 * turn
        held = [i for i in range(len(sizes)) if not memory.wait_ns(i, now_ns)]
        assert sum(sizes[i] for i in held) <= max(sizes) + spare
        assert memory.use(unit, now_ns) == (0 if unit in held else 10 + unit)
        left = [i for i in held if not memory.wait_ns(i, now_ns + 99)]
        if gone := set(held) - set(left):  # only to make room, and none that was used later than one that stays
            assert unit not in held
            assert sum(sizes[i] for i in left) + sizes[unit] + max(sizes[i] for i in gone) > max(sizes) + spare
            last = {i: max((at for at in range(turn) if used[at] == i), default=-1 - i) for i in held}
            assert max(last[i] for i in gone) < min((last[i] for i in left if i != unit), default=turn)


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 5))
def test_more_memory_never_loads_more(used: list[int], places: int) -> None:
    """The inclusion property of least recent use, for units of one size (Mattson et al., 1970)."""

    def loads(held: int) -> int:
        memory = WorkerMemory(Memory(held), Units(tuple(Unit(str(i), 1, 1) for i in range(6)), (), {}, 0))
        return sum(memory.use(unit, 10 * turn) for turn, unit in enumerate(used))

    assert loads(places + 1) <= loads(places)


@settings(max_examples=60, deadline=None)
@given(memory_cases(), st.sampled_from(["shared", "separate"]))
def test_memory_that_holds_all_changes_nothing(case: Case, weights: str) -> None:
    """To the last byte, as long as no worker comes or comes back: that one has to load."""
    workers = [max(1, kind.workers) for kind in case.cluster.kinds]
    kinds = tuple(
        dataclasses.replace(kind, workers=count, memory=None, scaling=None)
        for kind, count in zip(case.cluster.kinds, workers, strict=True)
    )
    cluster = dataclasses.replace(
        case.cluster,
        workers=sum(workers) or case.cluster.workers,
        faults=(),
        kinds=kinds,
        scaling=None,
        memory=None,
        weights="shared",
    )
    plain = simulate(case.trace, cluster, case.table, case.policy)
    kinds = tuple(dataclasses.replace(kind, memory=VAST) for kind in kinds)
    limited = dataclasses.replace(cluster, kinds=kinds, memory=None if kinds else VAST, weights=weights)
    found = simulate(case.trace, limited, case.table, case.policy)
    assert same(found, plain)


@settings(max_examples=60, deadline=None)
@given(memory_cases().filter(lambda case: not case.cluster.queues))
def test_a_supernet_is_loaded_once_and_again_after_a_failure(case: Case) -> None:
    cluster = dataclasses.replace(case.cluster, weights="shared")
    batches = simulate(
        case.trace, cluster, case.table, case.policy, planner=case.planner, period_ns=case.period_ns
    ).batches
    assert np.count_nonzero(batches.load_ns) <= len(cluster.faults)


TABLE = LatencyTable(
    "toy", (ProfiledSubnet("s", 70.0, params=10), ProfiledSubnet("l", 80.0, params=30)), (1,), np.array([[2], [5]])
)


@dataclasses.dataclass(frozen=True)
class Alternates:
    """Runs the two subnets in turn, one query each."""

    def decide(self, view: View) -> Dispatch:
        return Dispatch(view.now_ns // 1000 % 2, 1)


@pytest.mark.parametrize(
    ("memory", "weights", "waits"),
    [
        (Memory(160, 1e9), "separate", [0, 0, 0, 0]),
        (Memory(120, 1e9), "separate", [0, 120, 40, 120]),
        (Memory(120, 2e9), "separate", [0, 60, 20, 60]),
        (Memory(120, 1e9), "shared", [0, 0, 0, 0]),
    ],
)
def test_what_a_batch_waits_for_is_in_its_time(memory: Memory, weights: str, waits: list[int]) -> None:
    trace = Trace(np.arange(4) * 1000, 500, 4000)
    batches = simulate(trace, Cluster(1, memory=memory, weights=weights), TABLE, Alternates()).batches
    assert batches.load_ns.tolist() == waits
    assert (batches.free_ns - batches.start_ns - batches.load_ns).tolist() == [2, 5, 2, 5]


def test_a_free_worker_that_holds_the_model_runs_it() -> None:
    """Each of two workers keeps the model that it has."""
    trace = Trace(np.arange(6) * 1000, 500, 6000)
    cluster = Cluster(2, memory=Memory(120, 1e9), weights="separate")
    batches = simulate(trace, cluster, TABLE, Alternates()).batches
    assert batches.worker.tolist() == [0, 0, 1, 0, 1, 0]
    assert batches.load_ns.tolist() == [0, 120, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("memory", "table", "message"),
    [
        (Memory(119, 1e9), TABLE, "cluster.memory_gb: does not hold the weights of subnet l"),
        (Memory(200), TABLE, "table of toy: a subnet has no loading time"),
        (
            Memory(200, 1e9),
            dataclasses.replace(TABLE, subnets=(ProfiledSubnet("s", 70.0), ProfiledSubnet("l", 80.0))),
            "table of toy: a subnet has no number of weights",
        ),
        (Memory(200, 1e-20), TABLE, "cluster.load_gb_per_s: loading takes longer than any run"),
    ],
)
def test_memory_that_holds_no_model_is_refused(memory: Memory, table: LatencyTable, message: str) -> None:
    cluster = Cluster(1, memory=memory, weights="separate")
    with pytest.raises((SpecError, DataError), match=message):
        simulate(Trace(np.array([0]), 9, 9), cluster, table, Alternates())


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"memory": Memory(0)}, "cluster.memory_gb: is out of range"),
        ({"memory": Memory(9, 0.0)}, "cluster.load_gb_per_s: is out of range"),
        ({"memory": Memory(9), "occupancy": 0.5}, "cluster.occupancy: can't be combined with a limited memory"),
        ({"memory": Memory(9), "actuation_ns": "table"}, "cluster.actuation_ns: counts the loading"),
        ({"weights": "mine"}, "cluster.weights: is unknown"),
        ({"bytes_per_weight": 0}, "cluster.bytes_per_weight: is out of range"),
        ({"memory": Memory(9), "kinds": (WorkerKind("k", 1),)}, "cluster.memory_gb: is given beside kinds"),
    ],
)
def test_what_does_not_fit_a_memory_is_refused(given_: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Cluster(1, **given_)


def test_the_compiled_engine_refuses_limited_memory() -> None:
    with pytest.raises(SpecError, match="workers with limited memory run in SimPy only"):
        choose(9, Cluster(1, memory=Memory(200, 1e9)), TABLE, Alternates(), "compiled")


@dataclasses.dataclass(frozen=True)
class LargeLater:
    """Runs single queries, on the large subnet from 1,001 ns on."""

    def decide(self, view: View) -> Dispatch:
        return Dispatch(int(view.now_ns > 1000), 1)


class Places:
    """Plans the same weights at each turn."""

    changes_workers = False

    def __init__(self, resident: object) -> None:
        self.resident = resident

    def plan(self, _: PlannerView) -> WorkerPlan:
        return WorkerPlan(resident=self.resident)


@pytest.mark.parametrize(
    ("size", "first", "second", "waits"),
    [
        (160, 900, 1450, 0),  # both were there
        (150, 900, 1450, 70),  # the small one is in use until 1,400 and makes room then
        (150, 100, 1060, 60),  # loading began at the turn
        (150, 100, 1200, 0),
        (150, 100, 1060, 120),  # not planned
    ],
)
def test_planned_weights_are_loaded_beside_execution(size: int, first: int, second: int, waits: int) -> None:
    slow = dataclasses.replace(TABLE, latency_ns=np.array([[500], [501]]))
    cluster = Cluster(1, memory=Memory(size, 1e9), weights="separate")
    planner = Places({} if waits == 120 else {0: ["l"]})
    trace = Trace(np.array([first, second]), 10_000, 2000)
    batches = simulate(trace, cluster, slow, LargeLater(), planner=planner, period_ns=1000).batches
    assert batches.load_ns.tolist() == [0, waits]
    assert batches.start_ns.tolist() == [first, second]


@pytest.mark.parametrize(
    ("resident", "message"),
    [
        ([0], "plans weights, but names no workers"),
        ({7: ["s"]}, "plans weights of a worker that does not serve"),
        ({0: "s"}, "plans weights of worker 0, but no list"),
        ({0: ["m"]}, "plans weights of an unknown subnet on worker 0"),
        ({0: ["s", "l"]}, "plans more weights than worker 0 holds"),
    ],
)
def test_a_plan_of_weights_that_can_t_be_is_refused(resident: object, message: str) -> None:
    cluster = Cluster(1, memory=Memory(120, 1e9), weights="separate")
    trace = Trace(np.array([0, 1500]), 500, 2000)
    with pytest.raises(PolicyError, match=message):
        simulate(trace, cluster, TABLE, Alternates(), planner=Places(resident), period_ns=1000)
    if isinstance(resident, dict) and resident == {0: ["s", "l"]}:
        found = simulate(trace, Cluster(1), TABLE, Alternates(), planner=Places(resident), period_ns=1000)
        assert not found.batches.load_ns.any()  # memory without a limit holds all


def test_proteus_loads_beside_execution_what_it_allocates() -> None:
    table = load_table("ofa-resnet50-rtx2080ti")
    load = {"start_qps": 800, "end_qps": 3000, "acceleration_qps2": 800, "ramp_start_s": 0.5, "cv2": 1}
    trace = TimeVarying(**load, duration_s=3, slo_ms=36).trace(seed=1)
    cluster = Cluster(4, memory=Memory(250_000_000, 12.2e9), weights="separate")

    class Late(ProteusAllocation):
        def plan(self, view: PlannerView) -> WorkerPlan:
            return dataclasses.replace(super().plan(view), resident={})

    waited = [
        int(simulate(trace, cluster, table, Allocated(), planner=one, period_ns=500_000_000).batches.load_ns.sum())
        for one in (ProteusAllocation(), Late())
    ]
    assert waited[0] < waited[1]
