"""The compiled engine: replays a trace with a tabulated policy, to the same outcomes as `sim.engine`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.queues import WAITING
from sim.result import Batches, Result

if TYPE_CHECKING:
    from sim.cluster import Cluster
    from sim.latency import LatencyTable
    from sim.tabulate import DecisionTable
    from sim.trace import Trace


def replay_compiled(trace: Trace, cluster: Cluster, table: LatencyTable, decisions: DecisionTable) -> Result:
    """Return what becomes of each query of a trace under a tabulated policy; the same as `sim.engine.simulate`.

    Args:
        trace: When queries arrive, and their SLOs.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        decisions: The policy, tabulated for this table and this dispatch overhead.

    Raises:
        ImportError: numba is not installed.
        DataError: The cluster takes its actuation delays from a table that has none.
    """
    from sim import kernel  # noqa: PLC0415 - numba takes a third of a second to import

    queries = len(trace)
    deadline_ns = trace.deadline_ns
    changes = np.array(cluster.changes(), dtype=np.int64).reshape(-1, 3)
    batches = np.empty((queries, 5), dtype=np.int64)
    lost = np.zeros(queries, dtype=np.bool_)
    batch_of = np.full(queries, WAITING, dtype=np.int64)
    count = kernel.replay(
        trace.arrival_ns,
        deadline_ns,
        trace.in_order,
        table.dense_ns,
        np.array(cluster.actuation_delays(table), dtype=np.int64),
        cluster.dispatch_ns,
        {"never": kernel.NEVER, "expired": kernel.EXPIRED, "hopeless": kernel.HOPELESS}[cluster.drop],
        table.smallest_ns,
        decisions.from_ns,
        decisions.subnets,
        decisions.sizes,
        changes,
        cluster.workers,
        batches,
        lost,
        batch_of,
    )
    start, finish, worker, subnet, size = (np.ascontiguousarray(column) for column in batches[:count].T)
    outcome = np.empty(queries, dtype=np.uint8)
    kernel.outcomes(deadline_ns, finish, lost, batch_of, outcome)
    found = Batches(start, finish, worker, subnet, size, lost[:count].copy())
    return Result.of(trace, table, cluster, found, batch_of, outcome)
