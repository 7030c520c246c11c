"""Placement: which queues each worker serves, against the naive engine; and laws of memory and conservation."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings

from policies.maxacc import MaxAcc
from policies.slackfit import SlackFit
from sim import Cluster, LatencyTable, Outcome, ServiceQueue, SpecError, WorkerKind, simulate
from sim.engine.residence import Memory, Sharing
from sim.engines import choose
from sim.tables.files import load_table
from sim.traces.synthetic import Poisson
from tests.laws.cases import Case, placement_cases, queue_cases
from tests.laws.test_queues import same
from tests.laws.test_residence import naive_engine_agrees

RTX = load_table("ofa-resnet50-rtx2080ti")


@settings(max_examples=30, deadline=None)
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


@settings(max_examples=25, deadline=None)
@given(placement_cases())
def test_which_of_equal_workers_serves_a_queue_makes_no_difference(case: Case) -> None:
    cluster, policy = dataclasses.replace(case.cluster, faults=()), dataclasses.replace(case.policy, picks_worker=False)
    starts = np.cumsum([0, *(kind.workers for kind in cluster.kinds)]) if cluster.kinds else [0, cluster.workers]
    renamed = [one for start, end in pairwise(starts) for one in reversed(range(start, end))]
    moved = {name: [renamed[one] for one in workers] for name, workers in (cluster.placement or {}).items()}
    found = simulate(case.trace, dataclasses.replace(cluster, placement=moved), case.table, policy, seed=3)
    expected = simulate(case.trace, cluster, case.table, policy, seed=3)
    assert found.outcome.tolist() == expected.outcome.tolist()
    assert found.batches.finish_ns.tolist() == expected.batches.finish_ns.tolist()


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


TRACE = Poisson(mean_qps=600, duration_s=1, slo_ms=36).trace(seed=2)
TRACE = dataclasses.replace(TRACE, class_codes=np.arange(len(TRACE), dtype=np.uint16) % 2, class_names=("a", "b"))


def renamed(share: float = 1) -> LatencyTable:
    """Return the table of a model with other names, and a share of the weights."""
    ids = [dataclasses.replace(one, id=f"other-{one.id}", params=int(share * (one.params or 0))) for one in RTX.subnets]
    return dataclasses.replace(RTX, subnets=tuple(ids))


@pytest.mark.parametrize("weights", ["shared", "separate"])
def test_weights_of_its_own_are_a_model_with_other_names(weights: Sharing) -> None:
    memory = Memory(250_000_000, 12.2e9)
    own, named, common = (
        simulate(TRACE, Cluster(2, 0, 10**6, queues=(A, b), memory=memory, weights=weights), RTX, SlackFit())
        for b in (ServiceQueue("b", own_weights=True), ServiceQueue("b", table=renamed()), B)
    )
    assert same(own, named)
    assert own.batches.load_ns.sum() > common.batches.load_ns.sum()
    assert [one.id for one in own.subnets[6:]] == [f"b/{one.id}" for one in RTX.subnets]


def test_a_worker_holds_the_models_of_its_queues_and_no_others_need_fit() -> None:
    """The two models take 192 and 40 MB: the small workers hold the second one only."""
    small = renamed(0.2)
    kinds = (WorkerKind("big", 1, memory=Memory(230_000_000)), WorkerKind("little", 2, memory=Memory(50_000_000)))
    queues = (A, ServiceQueue("b", table={"big": small, "little": small}))
    fits = Cluster.of_kinds(*kinds, queues=queues, placement={"a": [0], "b": [1, 2]})
    assert simulate(TRACE, fits, RTX, MaxAcc()).batches.load_ns.sum() == 0
    with pytest.raises(SpecError, match="worker 1 does not hold the models of its queues"):
        simulate(TRACE, dataclasses.replace(fits, placement={"a": [0, 1], "b": [2]}), RTX, MaxAcc())
    both = dataclasses.replace(fits, placement={"a": [0], "b": [0]})
    with pytest.raises(SpecError, match="worker 0 does not hold the models of its queues"):
        simulate(TRACE, both, RTX, MaxAcc())


def test_the_compiled_engine_says_that_it_can_t() -> None:
    cluster = Cluster(2, queues=(A, B), placement={"a": [0], "b": [1]})
    assert choose(10**7, cluster, RTX, MaxAcc(), "auto").reason == "placed queues run in SimPy only"
