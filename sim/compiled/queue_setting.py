"""The constants of a run with several queues and its first state, from a cluster, a latency table and policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.compiled import queue_kernel
from sim.compiled.loop_state import COMES, FAILS, FAR, HELD_NS, IDLE, NEW
from sim.compiled.queue_state import EDF, FAIR, PRIORITY, SLACK, TURN, QueueSetting, QueueState
from sim.compiled.setting import changes_and_limits, drawn_of, first_failures, fixed, stacked, stacked_decisions
from sim.engine.offers import quanta
from sim.engine.service_queue import ServiceQueue
from sim.tables.service_times import dispatch_key, latency_key, service_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sim.compiled.queue_state import ArrivalArrays
    from sim.compiled.tabulate import DecisionTable
    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.tables.latency import LatencyTable

    _Ints = npt.NDArray[np.int64]

_ORDERS = {"edf": EDF, "slack": SLACK, "priority": PRIORITY, "fair": FAIR}


def queue_state(setting: QueueSetting, arrivals: ArrivalArrays, *, in_order: bool) -> QueueState:
    """Return the state at the beginning of a run."""
    queries, queues, workers = len(arrivals.queue), len(setting.rank), len(setting.kind)
    ends, waiting = np.zeros(queues + 1, np.int64), np.empty(queries, np.int64)
    queue_kernel.line_up(arrivals.queue, ends, waiting)
    head, ends = np.concatenate([[0], ends[:-2]]), ends[:-1].copy()
    comes = ends > head
    next_ns = np.full(queues, FAR)
    next_ns[comes] = arrivals.arrival_ns[waiting[head[comes]]]
    at = np.zeros(8, np.int64)
    at[TURN], at[IDLE], at[HELD_NS] = queues - 1, workers, FAR
    return QueueState(
        at,
        idle=np.bincount(setting.kind, minlength=len(setting.first)),
        free=np.arange(workers),
        free_ns=np.empty(workers, np.int64),
        busy=np.empty(workers, np.int64),
        loaded=np.full(workers, NEW),
        fails_ns=first_failures(setting.changes, workers),
        last_ns=np.zeros(workers, np.int64),
        waiting=waiting,
        keys=np.empty(0 if in_order else queries, np.int64),
        head=head,
        length=np.zeros(queues, np.int64),
        head_ns=np.zeros(queues, np.int64),
        upcoming=head.copy(),
        ends=ends,
        next_ns=next_ns,
        deficit=np.zeros(queues),
        ahead=np.zeros(queues),
        offered=np.zeros(queues, np.bool_),
    )


def queue_setting(
    cluster: Cluster, table: LatencyTable, rules: Sequence[Sequence[DecisionTable]], seed: int
) -> QueueSetting:
    """Return the constants of a run with several queues.

    Args:
        cluster: Workers and queues.
        table: The latency table of the run, without overheads.
        rules: For each queue a decision table, or one for each kind of workers.
        seed: For latencies that are drawn.

    Raises:
        DataError: The cluster takes its actuation delays from a table that has none.
    """
    by_queue = cluster.pools_by_queue(table)
    served = cluster.pools_by_queue(cluster.served(table), served=True)
    pools, seen = [pool for of in by_queue for pool in of], [pool for of in served for pool in of]
    times = [service_times(pool.table, cluster.latency) for pool in pools]
    kind_of = np.empty(cluster.workers, np.int64)
    for number, pool in enumerate(by_queue[0]):
        kind_of[pool.workers.start : pool.workers.stop] = number
    events = [(at_ns, worker, FAILS if fails else COMES) for at_ns, worker, fails in cluster.changes()]
    alive = [len(pool.workers) for pool in by_queue[0]]
    smallest_ns = [[pool.table.smallest_ns for pool in of] for of in served]
    changes, limits_ns = changes_and_limits(cluster, smallest_ns, kind_of, alive, events)
    alone_ns = np.array([int(pool.table.dense_ns[:, 1].min()) for pool in seen]).reshape(len(by_queue), -1)
    quantum_ns = cluster.dispatch_ns + max(int(pool.table.dense_ns.max()) for pool in seen)
    queues = cluster.queues or (ServiceQueue("all"),)
    bounds = [FAR if queue.bound is None else queue.bound for queue in queues]
    quantum = np.array(quanta(queues, quantum_ns))
    quantum.flags.writeable = False
    return QueueSetting(
        fixed(stacked([time.fixed_ns for time in times])),
        fixed(stacked([pool.table.dense_ns for pool in seen])),
        fixed(np.concatenate([np.array(cluster.actuation_delays(pool.table)) for pool in pools])),
        fixed(np.concatenate([np.array(pool.rows) for pool in pools])),
        fixed(alone_ns),
        cluster.dispatch_ns,
        cluster.dispatch_per_query_ns,
        limits_ns,
        fixed(kind_of),
        fixed(np.array([pool.workers.start for pool in by_queue[0]])),
        changes,
        drawn_of([time.drawn for time in times], latency_key, seed),
        drawn_of([cluster.dispatch_drawn], dispatch_key, seed),
        float(cluster.occupancy),
        _ORDERS[cluster.order],
        fixed(np.array([queue.priority for queue in queues])),
        quantum,
        fixed(np.array(bounds)),
        *queue_decisions(rules, cluster, by_queue),
    )


def queue_decisions(
    rules: Sequence[Sequence[DecisionTable]], cluster: Cluster, pools: Sequence[Sequence[WorkerPool]]
) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """Return the decision tables of all queues and kinds as one, in the form of `QueueSetting`.

    Args:
        rules: For each queue a decision table, or one for each kind of workers in the order of the cluster.
        cluster: The workers.
        pools: For each queue the workers of each kind in the order of offers.
    """
    places = {kind.name: number for number, kind in enumerate(cluster.kinds)}
    tables = [
        rule[places[pool.kind] if len(rule) > 1 else 0] for rule, of in zip(rules, pools, strict=True) for pool in of
    ]
    rows = [len(pool.rows) for of in pools for pool in of]
    return stacked_decisions(tables, np.cumsum([0, *rows[:-1]]).tolist())
