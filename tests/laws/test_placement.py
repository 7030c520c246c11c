"""Placement: which queues each worker serves, against the naive engine; and laws of memory and conservation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from policies.maxacc import MaxAcc
from sim import Cluster, Outcome, ServiceQueue, SpecError, Trace, WorkerKind, simulate
from sim.engine.residence import Memory
from sim.engines import choose
from sim.tables.files import load_table
from tests.laws.cases import Case, placement_cases, queue_cases
from tests.laws.test_queues import same
from tests.laws.test_residence import naive_engine_agrees

RTX = load_table("ofa-resnet50-rtx2080ti")


@settings(max_examples=50, deadline=None)
@given(placement_cases())
def test_queues_are_served_by_their_workers_as_in_the_naive_engine(case: Case) -> None:
    workers_serve_their_queues(case)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(placement_cases())
def test_queues_are_served_by_their_workers_as_in_the_naive_engine_in_many_cases(case: Case) -> None:
    workers_serve_their_queues(case)


def workers_serve_their_queues(case: Case) -> None:
    result = naive_engine_agrees(case)
    worker = result.per_query(result.batches.worker)
    placement, codes = case.cluster.placement or {}, np.asarray(case.trace.class_codes)
    for place, queue in enumerate(case.cluster.queues):
        mine = codes == place
        assert set(worker[mine & result.answered].tolist()) <= set(placement[queue.name])
        if not placement[queue.name]:
            assert (result.outcome[mine] == Outcome.REJECTED).all()


@settings(max_examples=25, deadline=None)
@given(queue_cases().filter(lambda case: case.cluster.queues))
def test_all_queues_on_all_workers_are_the_same_as_no_placement(case: Case) -> None:
    plain = dataclasses.replace(case.cluster, routing="central")
    everyone = {queue.name: range(plain.workers) for queue in plain.queues}
    placed = dataclasses.replace(plain, placement=everyone)
    found, expected = (simulate(case.trace, one, case.table, case.policy, seed=3) for one in (placed, plain))
    assert same(found, expected)


A, B = ServiceQueue("a"), ServiceQueue("b")


@pytest.mark.parametrize(
    ("placement", "told"),
    [
        ({"a": [0], "c": [1]}, "cluster.placement: names an unknown queue ('c')"),
        ({"a": [0]}, "cluster.placement: leaves out a queue ('b')"),
        ({"a": [0, 2], "b": [1]}, "cluster.placement.a: unknown worker (2); 0 to 1"),
        ({"a": [-1], "b": [1]}, "cluster.placement.a: unknown worker (-1)"),
        ({"a": [True], "b": [1]}, "cluster.placement.a: unknown worker (True)"),
        ({"a": [1, 1], "b": [1]}, "cluster.placement.a: names a worker twice (1)"),
        ({"a": "01", "b": [1]}, "cluster.placement.a: is not a list of workers ('01')"),
        ([[0], [1]], "cluster.placement: is not a mapping of queues to workers"),
    ],
)
def test_a_placement_that_does_not_fit_is_refused(placement: dict[str, list[int]], told: str) -> None:
    with pytest.raises(SpecError) as refused:
        Cluster(2, queues=(A, B), placement=placement)
    assert str(refused.value).startswith(told)


def test_a_placement_needs_queues_and_a_central_queue() -> None:
    with pytest.raises(SpecError, match="has no meaning without queues"):
        Cluster(2, placement={})
    with pytest.raises(SpecError, match="can't be combined with routing"):
        Cluster(2, queues=(A, B), placement={"a": [0], "b": [1]}, routing="shortest")


def test_a_worker_holds_the_models_of_its_queues_and_no_others_need_fit() -> None:
    """The two models take 192 and 40 MB: the small workers hold the second one only."""
    small = dataclasses.replace(
        RTX,
        subnets=tuple(
            dataclasses.replace(one, id=f"small-{one.id}", params=one.params and one.params // 5) for one in RTX.subnets
        ),
    )
    kinds = (WorkerKind("big", 1, memory=Memory(230_000_000)), WorkerKind("little", 2, memory=Memory(50_000_000)))
    queues = (A, ServiceQueue("b", table={"big": small, "little": small}))
    arrivals = np.arange(0, 10**9, 10**7)
    codes = np.arange(len(arrivals), dtype=np.uint16) % 2
    trace = Trace(arrivals, 10**8, 10**9, class_codes=codes, class_names=("a", "b"))
    fits = Cluster.of_kinds(*kinds, queues=queues, placement={"a": [0], "b": [1, 2]})
    assert simulate(trace, fits, RTX, MaxAcc()).batches.load_ns.sum() == 0
    with pytest.raises(SpecError, match="worker 1 does not hold the models of its queues"):
        simulate(trace, dataclasses.replace(fits, placement={"a": [0, 1], "b": [2]}), RTX, MaxAcc())
    both = dataclasses.replace(fits, placement={"a": [0], "b": [0]})
    with pytest.raises(SpecError, match="worker 0 does not hold the models of its queues"):
        simulate(trace, both, RTX, MaxAcc())


def test_the_compiled_engine_says_that_it_can_t() -> None:
    cluster = Cluster(2, queues=(A, B), placement={"a": [0], "b": [1]})
    assert choose(10**7, cluster, RTX, MaxAcc(), "auto").reason == "placed queues run in SimPy only"
