"""Live runs with kinds of workers and with queues: the laws of live runs, and those of such clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from policies.clipper import Clipper
from policies.slackfit import SlackFit
from serving.comparison import MeasuredBatches
from serving.measured_table import measured_tables
from serving.session import serve_trace
from sim.base.errors import DataError
from sim.engine.cluster import Cluster
from sim.engine.kind_metrics import by_kind
from sim.engine.kinds import WorkerKind, pool_of_workers
from sim.engine.queue_metrics import by_queue
from sim.engine.run_metrics import Outcome
from sim.engine.service_queue import ServiceQueue
from sim.tables.files import load_table
from tests.serving.laws import TABLE, check_laws, trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.engine.policy import Policy
    from sim.traces.trace import Trace

    Policies = Callable[[], Policy | dict[str, Policy]]

FAST = replace(TABLE, latency_ns=TABLE.latency_ns // 3)
OTHER = load_table("ofa-resnet50-a40")
KINDS = (WorkerKind("slow", 2), WorkerKind("fast", 1, FAST))
QUEUES = (
    ServiceQueue("gold", slo_ns=40_000_000, weight=3, floor=78),
    ServiceQueue("silver", slo_ns=80_000_000, priority=2, bound=30),
    ServiceQueue("bronze", slo_ns=60_000_000, priority=3),
)
OWN = (*QUEUES[:2], ServiceQueue("bronze", slo_ns=60_000_000, table={"slow": OTHER, "fast": OTHER}))


def own_policies() -> dict[str, Policy]:
    return {"gold": SlackFit(), "silver": Clipper(73.82), "bronze": SlackFit()}


CASES: dict[str, tuple[Policies, Cluster]] = {
    "kinds": (SlackFit, Cluster.of_kinds(*KINDS, drop="hopeless", actuation_ns=300_000)),
    "kinds, fastest first": (lambda: Clipper(73.82), Cluster.of_kinds(*KINDS, offer="fastest")),
    "fair queues": (SlackFit, Cluster(2, queues=QUEUES, order="fair", drop="expired")),
    "queues by priority": (own_policies, Cluster(2, queues=QUEUES, order="priority")),
    "queues with models on kinds": (SlackFit, Cluster.of_kinds(*KINDS, queues=OWN, order="slack")),
    "a queue for each worker": (SlackFit, Cluster(3, routing="shortest", drop="hopeless")),
    "queues at random workers": (SlackFit, Cluster(3, routing="random", queues=QUEUES)),
}


QUICK = ("queues with models on kinds", "queues at random workers")


def sent_to(cluster: Cluster, seconds: float = 0.4, qps: float = 900) -> Trace:
    sent = trace(seconds, qps)
    if not cluster.queues:
        return sent
    codes = np.random.default_rng(1).integers(len(cluster.queues), size=len(sent)).astype(np.uint16)
    return replace(sent, class_codes=codes, class_names=tuple(queue.name for queue in cluster.queues))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES],
)
def test_the_laws_of_live_runs_hold_with_kinds_and_queues(name: str) -> None:
    policies, cluster = CASES[name]
    sent = sent_to(cluster)
    run = serve_trace(sent, cluster, TABLE, policies(), seed=3)
    check_laws(run, sent, cluster, policies(), 3)
    assert run.log.faults == []
    check_expected(run, cluster)
    result = run.result
    if cluster.kinds:
        found = by_kind(result)
        assert sum(one.batches for one in found) == len(result.batches)
        assert sum(one.met for one in found) == result.count(Outcome.MET)
    if cluster.queues:
        parts = by_queue(result)
        assert sum(one.batches for one in parts) == len(result.batches)
        assert sum(one.queries.queries for one in parts) == result.queries
        assert [one.queue.name for one in parts] == [queue.name for queue in cluster.queues]


def check_expected(run: Any, cluster: Cluster) -> None:
    """Check that each batch has its time from the table of its worker and queue, and its row from all subnets."""
    pools, subnets = cluster.pools_by_queue(TABLE), cluster.subnets(TABLE)
    pool_of = pool_of_workers(pools[0])
    for one in run.log.batches:
        pool = pools[one.start.queue][pool_of[one.start.worker]]
        assert one.start.worker in pool.workers
        known = int(pool.table.dense_ns[one.start.subnet, one.start.size])
        paid = cluster.actuation_delays(pool.table)[one.start.subnet] if one.start.actuates else 0
        assert one.expected_ns == known + paid
        mine = pool.table.subnets[one.start.subnet]
        assert subnets[one.subnet].id.endswith(mine.id)
        assert subnets[one.subnet].accuracy == mine.accuracy


def test_a_bound_rejects_as_in_a_simulation_and_who_sent_is_told() -> None:
    cluster = Cluster(1, queues=(ServiceQueue("all", bound=20),))
    sent = replace(trace(0.3, 2500), class_codes=None)
    run = serve_trace(sent, cluster, TABLE, Clipper(80.16))
    check_laws(run, sent, cluster, Clipper(80.16))
    rejected = run.result.count(Outcome.REJECTED)
    assert rejected > 0
    assert -1 not in run.log.place  # by the queue, and so in the replay


def test_a_trace_that_does_not_name_the_queues_is_refused() -> None:
    with pytest.raises(DataError, match="does not say to which queue"):
        serve_trace(trace(0.1, 100), Cluster(1, queues=QUEUES), TABLE, SlackFit())


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(14))
def test_the_replay_law_holds_with_kinds_and_queues_in_run_after_run(turn: int) -> None:
    policies, cluster = list(CASES.values())[turn % len(CASES)]
    sent = sent_to(cluster, 2, 500 + 100 * turn)
    check_laws(serve_trace(sent, cluster, TABLE, policies(), seed=turn), sent, cluster, policies(), turn)


def test_each_table_of_a_run_is_measured_from_its_own_batches() -> None:
    """Workers of one kind take twice as long as expected, those of the other half as long."""
    cluster, count = CASES["queues with models on kinds"][1], 60
    pools = cluster.pools_by_queue(TABLE)
    rng = np.random.default_rng(5)
    queue, pool = rng.integers(3, size=count), rng.integers(2, size=count)
    chosen = [pools[place][number] for place, number in zip(queue, pool, strict=True)]
    subnet = np.array([int(rng.integers(len(one.table.subnets))) for one in chosen])
    size = rng.integers(1, 9, size=count)
    expected = np.array(
        [int(one.table.dense_ns[at, many]) for one, at, many in zip(chosen, subnet, size, strict=True)], dtype=np.int64
    )
    rows = np.array([one.rows[at] for one, at in zip(chosen, subnet, strict=True)], dtype=np.int64)
    took, zeros = np.where(pool == 0, 2 * expected, expected // 2), np.zeros(count, dtype=np.int64)
    batches = MeasuredBatches(zeros, queue, pool, rows, size, expected, took, zeros, zeros)
    found = measured_tables(batches, cluster, TABLE, "test")
    tables = {("", "slow"): TABLE, ("", "fast"): FAST, ("bronze", "slow"): OTHER, ("bronze", "fast"): OTHER}
    assert set(found) == set(tables)
    for name, (table, _) in found.items():
        factor = 2 if name[1] == "slow" else 0.5
        np.testing.assert_allclose(table.latency_ns, tables[name].latency_ns * factor, rtol=1e-3)
