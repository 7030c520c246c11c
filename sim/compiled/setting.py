"""The constants of the compiled loop and its first state, from a cluster, a latency table and a policy.

The tables of all kinds of workers become one, below each other: the loop knows a subnet of a kind by its row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sim.base.arrays import read_only
from sim.compiled.loop_state import COMES, FAILS, FAR, IDLE, LEAVES, NEW, Drawn, Setting, State
from sim.compiled.step_policy import StepPolicy
from sim.compiled.tabulate import tables_of
from sim.tables.service_times import dispatch_key, latency_key, service_times

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    import numpy.typing as npt

    from sim.compiled.queue_state import QueueSetting, QueueState
    from sim.compiled.tabulate import DecisionTable, Rule
    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.tables.latency import LatencyTable
    from sim.tables.service_times import Distributions

    _Ints = npt.NDArray[np.int64]
    AnySetting = TypeVar("AnySetting", Setting, QueueSetting)
    AnyState = TypeVar("AnyState", State, QueueState)


def drops(rule: Rule) -> bool:
    """Return whether a policy may drop queries; that of a step policy is unknown."""
    return isinstance(rule, StepPolicy) or any(table.drops for table in tables_of(rule))


def setting_of(cluster: Cluster, table: LatencyTable, rule: Rule, seed: int) -> Setting:
    """Return the constants of a run.

    Args:
        cluster: The workers.
        table: The latency table of the run, without overheads.
        rule: The policy.
        seed: For latencies that are drawn.

    Raises:
        SpecError: The subnets of a kind differ from those of the table.
        DataError: The cluster takes its actuation delays from a table that has none.
    """
    pools, served = cluster.pools(table), cluster.pools(cluster.served(table), served=True)
    times = [service_times(pool.table, cluster.latency) for pool in pools]
    kind_of = np.empty(cluster.workers, np.int64)
    for number, pool in enumerate(pools):
        kind_of[pool.workers.start : pool.workers.stop] = number
    smallest_ns = [pool.table.smallest_ns for pool in served]
    changes = [(at_ns, worker, FAILS if fails else COMES) for at_ns, worker, fails in cluster.changes()]
    alive = [len(pool.workers) for pool in pools]
    return Setting(
        fixed(stacked([time.fixed_ns for time in times])),
        fixed(served[0].table.dense_ns),
        fixed(np.concatenate([np.array(cluster.actuation_delays(pool.table)) for pool in pools])),
        cluster.dispatch_ns,
        cluster.dispatch_per_query_ns,
        limit_of(cluster, smallest_ns, alive),
        fixed(kind_of),
        fixed(np.array([pool.workers.start for pool in pools])),
        changes_of(cluster, smallest_ns, kind_of, alive, changes),
        isinstance(rule, StepPolicy),
        drawn_of([time.drawn for time in times], latency_key, seed),
        drawn_of([cluster.dispatch_drawn], dispatch_key, seed),
        float(cluster.occupancy),
        *decisions_of(rule, cluster, pools),
    )


def subnets_of(cluster: Cluster, table: LatencyTable) -> _Ints:
    """Return the subnet of each row of the loop, as an index into the table of the run, int64, shape (rows,)."""
    return np.concatenate([np.array(pool.rows) for pool in cluster.pools(table)])


def first_failures(changes: _Ints, workers: int) -> _Ints:
    """Return when each worker fails first, `FAR` for never; `changes` are those of a setting, in order."""
    fails_ns = np.full(workers, FAR)
    for at_ns, worker, what, *_ in changes[::-1].tolist():
        if what == FAILS:
            fails_ns[worker] = at_ns
    return fails_ns


def state_of(setting: Setting, memory: npt.NDArray[np.float64], heap: int) -> State:
    """Return the state of a run that has not begun: all workers are idle, and no subnet is loaded.

    Args:
        setting: The constants of the run.
        memory: The first state of the step function.
        heap: Capacity of the queue's heap: 0 if deadlines never decrease, else the number of queries.
    """
    workers = len(setting.kind)
    state = State(
        np.zeros(8, np.int64),
        idle=np.bincount(setting.kind, minlength=len(setting.first)).astype(np.int64, copy=False),
        free=np.arange(workers),
        free_ns=np.empty(workers, np.int64),
        busy=np.empty(workers, np.int64),
        loaded=np.full(workers, NEW),
        fails_ns=first_failures(setting.changes, workers),
        last_ns=np.zeros(workers, np.int64),
        deadline_ns=np.empty(heap, np.int64),
        waiting=np.empty(heap, np.int64),
        memory=memory,
    )
    state.at[IDLE] = workers
    return state


def decisions_of(rule: Rule, cluster: Cluster, pools: Sequence[WorkerPool]) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """Return the decision tables of all kinds as one, in the form of `sim.compiled.loop_state.Setting`."""
    if isinstance(rule, StepPolicy):
        nothing = fixed(np.empty((0, 0), np.int64))
        return fixed(np.zeros(len(pools) + 1, np.int64)), fixed(nothing.ravel()), nothing, nothing
    given = tables_of(rule)
    places = {kind.name: number for number, kind in enumerate(cluster.kinds)}
    tables = [given[places[pool.kind] if len(given) > 1 else 0] for pool in pools]
    return stacked_decisions(tables, [number * len(pool.rows) for number, pool in enumerate(pools)])


def stacked_decisions(tables: Sequence[DecisionTable], first: Sequence[int]) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """Return decision tables below each other: where the slacks of each begin, the slacks, rows and sizes.

    Args:
        tables: The tables.
        first: The row of the first subnet of each.
    """
    edges = np.cumsum([0, *(len(table.from_ns) for table in tables)])
    longest = max(table.subnets.shape[1] for table in tables)
    chosen = [
        np.where(table.subnets >= 0, table.subnets + row, table.subnets)
        for table, row in zip(tables, first, strict=True)
    ]
    rows, sizes = (
        np.concatenate([_as_long(grid, longest) for grid in each]) for each in (chosen, [t.sizes for t in tables])
    )
    from_ns = np.concatenate([table.from_ns for table in tables])
    return fixed(edges), fixed(from_ns), fixed(rows), fixed(sizes)


def _as_long(grid: _Ints, lengths: int) -> _Ints:
    """Return a grid of so many columns: the last one stands for all longer queues."""
    missing = lengths - grid.shape[1]
    return np.pad(grid, ((0, 0), (0, missing)), mode="edge") if missing else grid


def stacked(grids: Sequence[_Ints]) -> _Ints:
    """Return grids below each other, filled with zeros to the width of the widest."""
    width = max(grid.shape[1] for grid in grids)
    missing = [width - grid.shape[1] for grid in grids]
    return np.concatenate(
        [np.pad(grid, ((0, 0), (0, more))) if more else grid for grid, more in zip(grids, missing, strict=True)]
    )


def drawn_of(laws: Sequence[Distributions | None], key_of: Callable[[int], int], seed: int) -> Drawn:
    """Return the distributions of all kinds as one; without nodes where nothing is drawn."""
    known = [law for law in laws if law is not None]
    if not known:
        nothing = fixed(np.empty((0, 0), np.int64))
        return Drawn(fixed(nothing.ravel()), nothing, nothing, 0, 0)
    begun = np.cumsum([0, *(len(law.nodes_ns) for law in known)])
    one = len(known) == 1  # of which a copy may have hundreds of megabytes
    return Drawn(
        fixed(known[0].nodes_ns if one else np.concatenate([law.nodes_ns for law in known])),
        fixed(stacked([law.first + start for law, start in zip(known, begun, strict=False)])),
        fixed(stacked([law.parts for law in known])),
        known[0].is_linear,
        key_of(seed),
    )


def changes_of(
    cluster: Cluster,
    smallest_ns: Sequence[int],
    kind: _Ints | Sequence[int],
    alive: Sequence[int],
    changes: Sequence[tuple[int, int, int]],
    gone: Container[int] = (),
) -> _Ints:
    """Return what workers do in the form of `sim.compiled.loop_state.Setting`.

    Args:
        cluster: The workers.
        smallest_ns: The smallest latency of each kind.
        kind: The kind of each worker.
        alive: Workers of each kind that have not failed, and take batches.
        changes: Time, worker and what it does, in order.
        gone: Workers that take no further batch, which do not count in `alive`.
    """
    upcoming: dict[int, int] = {}
    next_ns: list[int] = []
    for at_ns, worker, what in reversed(changes):
        next_ns.append(upcoming.get(worker, FAR))
        if what == FAILS:
            upcoming[worker] = at_ns
    alive = list(alive)
    rows: list[tuple[int, int, int, int, int]] = []
    for (at_ns, worker, what), next_fails_ns in zip(changes, reversed(next_ns), strict=True):
        if what != LEAVES and worker not in gone:
            alive[kind[worker]] += 1 if what == COMES else -1
        rows.append((at_ns, worker, what, next_fails_ns, limit_of(cluster, smallest_ns, alive)))
    return fixed(np.array(rows, dtype=np.int64).reshape(-1, 5))


def limit_of(cluster: Cluster, smallest_ns: Sequence[int], alive: Sequence[int]) -> int:
    """Return the slack below which a query is dropped, from the smallest latency of each kind that is alive."""
    # While none is alive, nothing is asked.
    hopeless = min((ns for ns, count in zip(smallest_ns, alive, strict=True) if count), default=0)
    return {"never": -FAR, "expired": -cluster.dispatch_ns, "hopeless": hopeless}[cluster.drop]


def changes_and_limits(
    cluster: Cluster,
    smallest_ns: Sequence[Sequence[int]],
    kind: _Ints | Sequence[int],
    alive: Sequence[int],
    changes: Sequence[tuple[int, int, int]],
    gone: Container[int] = (),
) -> tuple[_Ints, _Ints]:
    """Return what workers do, and the slacks below which queries of each queue are dropped.

    Args:
        cluster: The workers.
        smallest_ns: The smallest latency by queue and kind.
        kind: As for `changes_of`, as the next three.
        alive: See there.
        changes: See there.
        gone: See there.

    Returns:
        The changes; and the slacks at the start and from each change on, int64, shape (changes + 1, queues).
    """
    rows = [changes_of(cluster, of, kind, alive, changes, gone) for of in smallest_ns]
    limits = [np.append(limit_of(cluster, of, alive), mine[:, 4]) for of, mine in zip(smallest_ns, rows, strict=True)]
    return rows[0], fixed(np.array(limits).T)


def with_workers(setting: AnySetting, state: AnyState, kinds: Sequence[int]) -> tuple[AnySetting, AnyState]:
    """Return constants and state with more workers, which are to come, by the kind of each."""
    if not kinds:
        return setting, state
    kind = np.concatenate([setting.kind, kinds])
    counts: _Ints = np.bincount(kind, minlength=len(setting.first))
    first = np.cumsum([0, *counts[:-1]])
    free = np.empty(len(kind), np.int64)
    for old, new, idle in zip(setting.first, first, state.idle, strict=True):
        free[new : new + idle] = state.free[old : old + idle]

    def longer(array: _Ints, value: int) -> _Ints:
        return np.concatenate([array, np.full(len(kinds), value)])

    return setting._replace(kind=fixed(kind), first=fixed(first)), state._replace(
        free=free,
        free_ns=longer(state.free_ns, 0),
        busy=longer(state.busy, 0),
        loaded=longer(state.loaded, NEW),
        fails_ns=longer(state.fails_ns, FAR),
        last_ns=longer(state.last_ns, 0),
    )


def fixed(array: _Ints) -> _Ints:
    """Return an array in the form of a setting: read-only and contiguous."""
    return read_only(np.ascontiguousarray(array))
