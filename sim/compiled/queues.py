"""Several queues in the compiled engine: a trace is replayed under a decision table for each queue and kind of workers.

They may be those of the cluster, or a set of these for each worker.

Imports numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.compiled import queue_kernel, routed_kernel
from sim.compiled.loop_state import COMES, FAILS, FAR, NEW, Log
from sim.compiled.outcomes import outcomes
from sim.compiled.queue_state import EDF, FAIR, PRIORITY, SLACK, ArrivalArrays, QueueSetting, QueueState
from sim.compiled.routed_state import routed_state_of, routes_of
from sim.compiled.setting import changes_of, drawn_of, fixed, limit_of, stacked, stacked_decisions
from sim.engine.offers import quanta
from sim.engine.queue_set import queue_codes
from sim.engine.result import NONE, Batches, Result
from sim.engine.run_metrics import Outcome
from sim.engine.service_queue import ServiceQueue, in_queues
from sim.engine.turns import check_scaling
from sim.tables.service_times import dispatch_key, latency_key, service_times

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.compiled.tabulate import QueueRules
    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

_ORDERS = {"edf": EDF, "slack": SLACK, "priority": PRIORITY, "fair": FAIR}


def replay_queues(trace: Trace, cluster: Cluster, table: LatencyTable, rules: QueueRules, *, seed: int = 0) -> Result:
    """Return the outcome of each query of a trace; the same as `sim.engine.driver.simulate` returns for the policies.

    Args:
        trace: Arrivals, and the queue of each query as its class.
        cluster: Workers and queues.
        table: The latency table of the run.
        rules: The policies.
        seed: For latencies that are drawn.

    Raises:
        SpecError: The numbers of workers have bounds, and there is no planner here.
        DataError: The trace does not name the queues of the cluster, or the cluster takes its actuation delays from a
            table that has none.
    """
    check_scaling(cluster, None, 1)
    trace = in_queues(trace, cluster.queues)
    queries, due_ns = len(trace), cluster.due_ns(trace)
    codes = np.ascontiguousarray(queue_codes(trace, cluster))
    codes.flags.writeable = False
    arrivals = ArrivalArrays(fixed(trace.arrival_ns), fixed(due_ns), codes)
    setting = queue_setting(cluster, table, rules, seed)
    log = Log.empty(queries, overlaps=cluster.occupancy < 1)
    left, rejected = np.empty(queries, np.int64), np.zeros(queries, np.bool_)
    if cluster.is_routed:
        how = routes_of(cluster, table, seed), arrivals, routed_state_of(setting, queries)
        rows = int(routed_kernel.advance_routed(setting, *how, log, left, rejected))
    else:
        last_ns = np.full(len(setting.rank), -FAR)
        in_order = isinstance(trace.slo_ns, int) or queue_kernel.are_in_order(arrivals, last_ns)
        state = queue_state(setting, arrivals, in_order=in_order)
        rows = int(queue_kernel.advance_queues(setting, arrivals, state, log, left, rejected))
    batch_of, outcome = np.full(queries, NONE, np.int64), np.full(queries, Outcome.UNFINISHED, np.uint8)
    outcomes(due_ns, log.finish_ns, log.row, log.size, log.lost, rows, left, False, batch_of, outcome)  # noqa: FBT003 - numba takes no keywords
    outcome[rejected] = Outcome.REJECTED
    ran = np.flatnonzero(log.row[:rows] >= 0)
    times, subnet = (log.start_ns[ran], log.finish_ns[ran]), setting.subnet[log.row[ran]]
    free_ns = times[1] if cluster.occupancy == 1 else log.free_ns[ran]
    load_ns = np.zeros_like(free_ns)
    batches = Batches(*times, log.worker[ran], subnet, log.size[ran], log.lost[ran], free_ns, load_ns)
    return Result.of(trace, table, cluster, batches, batch_of, outcome)


def queue_state(setting: QueueSetting, arrivals: ArrivalArrays, *, in_order: bool) -> QueueState:
    """Return the state at the beginning of a run."""
    queries, queues, workers = len(arrivals.queue), len(setting.rank), len(setting.kind)
    ends, waiting = np.zeros(queues + 1, np.int64), np.empty(queries, np.int64)
    queue_kernel.line_up(arrivals.queue, ends, waiting)
    head, ends = np.concatenate([[0], ends[:-2]]), ends[:-1].copy()
    comes = ends > head
    next_ns = np.full(queues, FAR)
    next_ns[comes] = arrivals.arrival_ns[waiting[head[comes]]]
    fails_ns = np.full(workers, FAR)
    for at_ns, worker, what, *_ in setting.changes[::-1].tolist():
        if what == FAILS:
            fails_ns[worker] = at_ns
    return QueueState(
        idle=np.bincount(setting.kind, minlength=len(setting.first)),
        free=np.arange(workers),
        free_ns=np.empty(workers, np.int64),
        busy=np.empty(workers, np.int64),
        loaded=np.full(workers, NEW),
        fails_ns=fails_ns,
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


def queue_setting(cluster: Cluster, table: LatencyTable, rules: QueueRules, seed: int) -> QueueSetting:
    """Return the constants of a run with several queues.

    Args:
        cluster: Workers and queues.
        table: The latency table of the run, without overheads.
        rules: The policies.
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
    places = {kind.name: number for number, kind in enumerate(cluster.kinds)}
    tables = [
        rule[places[pool.kind] if len(rule) > 1 else 0]
        for rule, of in zip(rules.by_queue, by_queue, strict=True)
        for pool in of
    ]
    first_row = np.cumsum([0, *(len(pool.rows) for pool in pools[:-1])]).tolist()
    changes = [(at_ns, worker, FAILS if fails else COMES) for at_ns, worker, fails in cluster.changes()]
    alive = [len(pool.workers) for pool in by_queue[0]]
    limits: list[npt.NDArray[np.int64]] = []
    for of in served:
        smallest_ns = [pool.table.smallest_ns for pool in of]
        rows = changes_of(cluster, smallest_ns, kind_of, alive, changes)
        limits.append(np.concatenate([[limit_of(cluster, smallest_ns, alive)], rows[:, 4]]))
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
        fixed(np.array(limits).T),
        fixed(kind_of),
        fixed(np.array([pool.workers.start for pool in by_queue[0]])),
        changes_of(cluster, [0] * len(alive), kind_of, alive, changes),
        drawn_of([time.drawn for time in times], latency_key, seed),
        drawn_of([cluster.dispatch_drawn], dispatch_key, seed),
        float(cluster.occupancy),
        _ORDERS[cluster.order],
        fixed(np.array([queue.priority for queue in queues])),
        quantum,
        fixed(np.array(bounds)),
        *stacked_decisions(tables, first_row),
    )
