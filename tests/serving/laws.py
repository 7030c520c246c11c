"""The laws of live runs: what holds whatever the machine does meanwhile."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from serving.log import replay_log
from sim.engine.queues import WAITING
from sim.engine.result import NONE
from sim.engine.run_metrics import Outcome
from sim.tables.files import load_table
from sim.traces.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from serving.log import LiveLog
    from serving.session import LiveRun
    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable

TABLE = load_table("ofa-resnet50-rtx2080ti")
SECOND = 1_000_000_000


def trace(seconds: float, qps: float, slo_ms: tuple[int, ...] = (36,)) -> Trace:
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.exponential(SECOND / qps, int(qps * seconds))).astype(np.int64)
    slos = rng.choice(slo_ms, len(arrivals)) * 1_000_000
    return Trace(arrivals, slos if len(slo_ms) > 1 else slo_ms[0] * 1_000_000, int(arrivals[-1]) + 1)


def check_replay(
    log: LiveLog,
    cluster: Cluster,
    policy: Policy | Mapping[str, Policy],
    seed: int = 0,
    table: LatencyTable = TABLE,
) -> npt.NDArray[np.int64]:
    """Check the replay law; return the batch of each query, or what became of it, as `batch_of_query` does."""
    decisions, queues = replay_log(log.instants, log.receipts, log.least_slos_ns, cluster, table, policy, seed)
    assert decisions == [(one.start_ns, one.start) for one in log.batches]
    return log.batch_of_query(queues)


def check_laws(
    run: LiveRun,
    sent: Trace,
    cluster: Cluster,
    policy: Policy | Mapping[str, Policy],
    seed: int = 0,
    table: LatencyTable = TABLE,
) -> None:
    """Check the replay law, and that client, router and result agree about every query."""
    log, result = run.log, run.result
    batches = check_replay(log, cluster, policy, seed, table)
    np.testing.assert_array_equal(np.maximum(batches, NONE), result.batch)

    assert len(result.trace) == len(sent) == len(log.arrival_ns) == len(run.sent_ns)
    served = np.array([batch >= 0 and not log.batches[batch].lost for batch in result.batch])
    np.testing.assert_array_equal(result.answered, served)
    np.testing.assert_array_equal(run.answered_ns != NONE, served)
    waiting = batches == WAITING
    np.testing.assert_array_equal(result.outcome == Outcome.UNFINISHED, waiting)
    np.testing.assert_array_equal(np.array(log.answered_ns) == NONE, waiting)
    assert sum(one.start.size for one in log.batches) == np.count_nonzero(result.batch != NONE)

    assert (run.sent_ns >= run.intended_ns).all()
    assert (np.array(log.arrival_ns) >= run.intended_ns).all()
    for worker in range(cluster.workers):
        own = [one for one in log.batches if one.start.worker == worker]
        assert all(one.finish_ns <= other.start_ns for one, other in pairwise(own))
    for one in log.batches:
        if not one.lost:
            assert one.start_ns <= one.read_ns <= one.begun_ns <= one.ended_ns <= one.finish_ns
            assert table is not TABLE or one.ended_ns - one.begun_ns >= one.expected_ns  # paced workers are never early
