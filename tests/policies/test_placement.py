"""The search for a placement: against all placements of small clusters, within memory, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import chain, combinations, product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from policies.placement import Candidate, PlacementSearch, Workers
from policies.slackfit import SlackFit
from sim import Cluster, ServiceQueue, SpecError, Trace, WorkerFailure, WorkerKind, simulate
from sim.engine.residence import Memory
from sim.tables.files import load_table
from sim.traces.merged import Merged
from sim.traces.synthetic import Gamma

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.placement import SearchRule

RTX = load_table("ofa-resnet50-rtx2080ti")
SUPERNET = 192_440_000
"""Bytes of a supernet of the table, rounded up."""


def models(*slos_ms: int) -> tuple[ServiceQueue, ...]:
    """Return queues with a copy of the supernet each, and their SLOs."""
    return tuple(ServiceQueue("abc"[i], slo_ns=slo * 10**6, own_weights=True) for i, slo in enumerate(slos_ms))


def workload(*rates: float, seed: int = 5, duration_s: float = 0.2) -> Trace:
    parts = [Gamma(mean_qps=rate, cv2=4, duration_s=duration_s, slo_ms=36) for rate in rates]
    source = Merged(parts=tuple(zip("abc", parts, strict=False)))
    return source.trace_of(source.arrivals(seed), seed)


def search_of(cluster: Cluster, trace: Trace) -> PlacementSearch:
    @cache
    def run(items: tuple[tuple[str, tuple[int, ...]], ...]) -> Candidate:
        placement = dict(items)
        return Candidate(placement, simulate(trace, replace(cluster, placement=placement), RTX, SlackFit()))

    return PlacementSearch(cluster, RTX, lambda placement: run(tuple(sorted(placement.items()))).result)


def all_placements(cluster: Cluster, each: Sequence[int]) -> list[Workers]:
    """Return all placements in which worker i serves at most each[i] queues."""
    names = [queue.name for queue in cluster.queues]
    subsets = [[*chain.from_iterable(combinations(names, size) for size in range(most + 1))] for most in each]
    return [
        {name: tuple(worker for worker, held in enumerate(choice) if name in held) for name in names}
        for choice in product(*subsets)
    ]


@pytest.mark.parametrize("rule", ["greedy", "fast_greedy"])
@pytest.mark.parametrize(
    ("rates", "slots", "near"), [((1500, 300), 1, 1), ((900, 800), 1, 1), ((1200, 500, 300), 2, 0.95)]
)
def test_a_search_is_near_the_best_of_all_placements(
    rule: SearchRule, rates: tuple[float, ...], slots: int, near: float
) -> None:
    cluster = Cluster(2, memory=Memory(slots * SUPERNET, 1e9), queues=models(36, 36, 25)[: len(rates)], drop="hopeless")
    search = search_of(cluster, workload(*rates))
    best, passed = search.search(rule)
    exhaustive = max(Candidate(one, search.simulated(one)).score for one in all_placements(cluster, [slots, slots]))
    assert near * exhaustive[0] <= best.score[0] <= exhaustive[0]
    assert best.score == max(one.score for one in passed)
    before = {queue.name: () for queue in cluster.queues}
    for one in passed:  # each has one model more, and the memory holds it
        gained = [name for name, workers in one.placement.items() if workers != before[name]]
        assert len(gained) == 1
        assert len(one.placement[gained[0]]) == len(before[gained[0]]) + 1
        assert set(before[gained[0]]) < set(one.placement[gained[0]])
        held = np.bincount([worker for workers in one.placement.values() for worker in workers])
        assert held.max() <= slots
        before = one.placement


@pytest.mark.slow
def test_searches_are_near_the_best_of_all_placements_in_many_cases() -> None:
    """The figures of docs/residence.md."""
    rng, reached = np.random.default_rng(1), []
    for seed in range(60):
        count, slots = int(rng.integers(2, 4)), int(rng.integers(1, 3))
        rates = rng.uniform(200, 1600, count).tolist()
        slos = rng.choice([25, 36, 60], count).tolist()
        cluster = Cluster(2, memory=Memory(slots * SUPERNET, 1e9), queues=models(*slos), drop="hopeless")
        search = search_of(cluster, workload(*rates, seed=seed))
        best = max(Candidate(one, search.simulated(one)).score for one in all_placements(cluster, [slots, slots]))
        rules: tuple[SearchRule, ...] = ("greedy", "fast_greedy")
        reached.append([search.search(rule)[0].score[0] / best[0] for rule in rules])
    assert np.round(np.min(reached, axis=0), 2).tolist() == [0.94, 0.93]
    assert np.round(np.mean(np.array(reached) == 1, axis=0), 2).tolist() == [0.95, 0.88]


@pytest.mark.parametrize("rule", ["greedy", "fast_greedy"])
def test_memory_for_all_ends_with_all_on_all_workers(rule: SearchRule) -> None:
    cluster = Cluster(2, memory=Memory(2 * SUPERNET, 1e9), queues=models(36, 36))
    search = search_of(cluster, workload(900, 500))
    best, passed = search.search(rule)
    assert passed[-1].placement == {"a": (0, 1), "b": (0, 1)}
    assert best.score >= passed[-1].score
    plain = simulate(workload(900, 500), cluster, RTX, SlackFit())
    assert passed[-1].result.outcome.tolist() == plain.outcome.tolist()


def test_more_memory_raises_what_the_greedy_finds() -> None:
    trace, found = workload(1400, 900), []
    for slots in (1, 2):
        cluster = Cluster(2, memory=Memory(slots * SUPERNET, 1e9), queues=models(36, 25), drop="hopeless")
        found.append(search_of(cluster, trace).search("greedy")[0].score)
    assert found[0] < found[1]


def test_a_worker_that_fails_is_not_taken_for_another() -> None:
    """One worker fails at once: the only model goes to the other."""
    for failing in (0, 1):
        cluster = Cluster(
            2, queues=models(36), memory=Memory(SUPERNET, 1e9), faults=(WorkerFailure(failing, 0),), drop="expired"
        )
        assert 1 - failing in search_of(cluster, workload(300)).search("greedy")[0].placement["a"]
        _, passed = search_of(cluster, workload(300)).search("greedy")
        assert passed[0].placement == {"a": (1 - failing,)}


def test_kinds_with_little_memory_hold_the_models_that_fit() -> None:
    kinds = (WorkerKind("big", 1, memory=Memory(2 * SUPERNET, 1e9)), WorkerKind("little", 1, memory=Memory(10**8, 1e9)))
    cluster = Cluster.of_kinds(*kinds, queues=models(36, 36))
    best, _ = search_of(cluster, workload(300, 300)).search("greedy")
    assert best.placement == {"a": (0,), "b": (0,)}


def test_what_can_t_be_searched_is_refused() -> None:
    with pytest.raises(SpecError, match="has nothing to search for where memory holds all weights"):
        search_of(Cluster(2, queues=models(36)), workload(300)).search("greedy")
    too_small = Cluster(2, queues=models(36, 36), memory=Memory(10**8, 1e9))
    with pytest.raises(SpecError, match=r"queues, 'a': its model fits into no worker's memory .*0\.19244"):
        search_of(too_small, workload(300, 300)).search("fast_greedy")
