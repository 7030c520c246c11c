"""What the compiled loop of routed queries reads and changes, beside the constants of `sim.compiled.queue_state`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from sim.compiled.compiling import BOOLS, FLOAT_GRID, FLOATS, GRID, INT, INTS, READ_GRID, READ_INTS, tuple_of
from sim.compiled.loop_state import FAR, HELD_NS, NEW
from sim.compiled.setting import first_failures, fixed, limit_of
from sim.engine.queue_set import routing_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sim.compiled.compiling import Bools, Floats, Ints
    from sim.compiled.queue_state import QueueSetting
    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable

    _Ints = npt.NDArray[np.int64]
    _T = TypeVar("_T", np.int64, np.float64, np.bool_)

ROUND_ROBIN, SHORTEST, RANDOM = range(3)
"""Rules of routing."""

_RULES = {"round_robin": ROUND_ROBIN, "shortest": SHORTEST, "random": RANDOM}

OPEN, ALIVE, NEXT, STRAYS = range(8, 12)
"""Indices of `RoutedState.at`, after those of `sim.compiled.loop_state.State.at`."""


class Routes(NamedTuple):
    """How queries get to workers.

    Attributes:
        rule: `ROUND_ROBIN`, `SHORTEST` or `RANDOM`.
        key: That of quantiles, for `RANDOM`.
        rank: The place of each worker in the order of offers, int64, shape (workers,).
        limits_ns: Queries with less slack are dropped, by queue and kind of workers, int64, shape (queues, kinds).
    """

    rule: int
    key: int
    rank: Ints
    limits_ns: Ints


class RoutedState(NamedTuple):
    """The state of a run.

    The arrays are by worker up to `fails_ns`, by worker and queue from `root` to `deficit`, by query from `child` to
    `stranded`, and by queue from `waits` on.

    Attributes:
        at: `ARRIVED`, `CHANGE`, `RUNNING` and `HELD_NS` as in `sim.compiled.loop_state.State`; then the workers in
            `open` and in `alive`, the worker whose turn it is under `ROUND_ROBIN`, and the queries in `stranded`.
        open: Idle workers at which queries wait, in the order of offers.
        alive: Workers that serve, in order.
        is_idle: Whether each is idle.
        load: Queries that wait at each or that it runs; `FAR` if it does not serve.
        fewest: A tournament: place 1 has the worker with the smallest load, of equals the lowest number. The winner of
            places 2i and 2i + 1 is at i; worker i itself is at workers + i. Shape (2 workers,).
        runs: Queries in the batch that keeps it from the next one.
        total: Queries that wait at each.
        turn: The queue whose turn it is at each, under `FAIR`.
        free_ns: When running workers can take their next batches, a heap with `busy`.
        busy: The numbers of these workers.
        loaded: The subnet on each; `FAILED`, `NEW` or `GONE`.
        last_ns: When each finishes all batches that it has begun.
        fails_ns: Next failure of each.
        root: The most urgent query that waits, -1 for none: of a heap of `sim.compiled.heaps.merged`.
        length: Queries in that heap.
        head_ns: The deadline of the most urgent one.
        deficit: What each queue may still use at a worker, under `FAIR`.
        child: See `sim.compiled.heaps.merged`.
        sibling: As there.
        stranded: A heap of queries without a worker: theirs serves no longer, or none served when they came.
        waits: Queries of each queue that wait anywhere.
        ahead: `deficit` at the worker that is offered, if the offer that was made last is taken.
        offered: Queues that were offered that worker already.
    """

    at: Ints
    open: Ints
    alive: Ints
    is_idle: Bools
    load: Ints
    fewest: Ints
    runs: Ints
    total: Ints
    turn: Ints
    free_ns: Ints
    busy: Ints
    loaded: Ints
    last_ns: Ints
    fails_ns: Ints
    root: Ints
    length: Ints
    head_ns: Ints
    deficit: Floats
    child: Ints
    sibling: Ints
    stranded: Ints
    waits: Ints
    ahead: Floats
    offered: Bools


ROUTES_TYPE = tuple_of(Routes, INT, INT, READ_INTS, READ_GRID)
_BY_WORKER = (INTS, INTS, INTS, BOOLS, *[INTS] * 10)
ROUTED_STATE_TYPE = tuple_of(
    RoutedState, *_BY_WORKER, GRID, GRID, GRID, FLOAT_GRID, INTS, INTS, INTS, INTS, FLOATS, BOOLS
)


def routes_of(cluster: Cluster, table: LatencyTable, seed: int) -> Routes:
    """Return how queries get to workers.

    Args:
        cluster: Workers and queues.
        table: The latency table of the run, without overheads.
        seed: For random routing.
    """
    pools = cluster.pools_by_queue(cluster.served(table), served=True)
    limits_ns = [[limit_of(cluster, [pool.table.smallest_ns], [1]) for pool in of] for of in pools]
    offered = np.concatenate([np.array(pool.workers, np.int64) for pool in pools[0]])
    return Routes(_RULES[cluster.routing], routing_key(seed), fixed(np.argsort(offered)), fixed(np.array(limits_ns)))


def routed_state_of(setting: QueueSetting, queries: int) -> RoutedState:
    """Return the state of a run that has not begun: all workers are idle, and no subnet is loaded."""
    workers, queues = len(setting.kind), len(setting.rank)
    fails_ns = first_failures(setting.changes, workers)
    at = np.zeros(12, np.int64)
    at[ALIVE], at[HELD_NS] = workers, FAR

    def zeros(*shape: int) -> _Ints:
        return np.zeros(shape, np.int64)

    return RoutedState(
        at=at,
        open=zeros(workers),
        alive=np.arange(workers),
        is_idle=np.ones(workers, np.bool_),
        load=zeros(workers),
        fewest=_tournament(zeros(workers)),
        runs=zeros(workers),
        total=zeros(workers),
        turn=np.full(workers, queues - 1),
        free_ns=zeros(workers),
        busy=zeros(workers),
        loaded=np.full(workers, NEW),
        last_ns=zeros(workers),
        fails_ns=fails_ns,
        root=np.full((workers, queues), -1),
        length=zeros(workers, queues),
        head_ns=zeros(workers, queues),
        deficit=np.zeros((workers, queues)),
        child=zeros(queries),
        sibling=zeros(queries),
        stranded=zeros(queries),
        waits=zeros(queues),
        ahead=np.zeros(queues),
        offered=np.zeros(queues, np.bool_),
    )


def _tournament(load: _Ints) -> _Ints:
    """Return `RoutedState.fewest`."""
    fewest = np.arange(-len(load), len(load))
    for place in range(len(load) - 1, 0, -1):
        fewest[place] = min(fewest[2 * place : 2 * place + 2], key=lambda worker: (load[worker], worker))
    return fewest


def with_routed_workers(
    setting: QueueSetting, routes: Routes, state: RoutedState, kinds: Sequence[int]
) -> tuple[QueueSetting, Routes, RoutedState]:
    """Return constants and state with more workers, which are to come and are offered last, by the kind of each."""
    if not kinds:
        return setting, routes, state
    more, queues = len(kinds), len(setting.rank)

    def longer(array: npt.NDArray[_T], value: int = 0) -> npt.NDArray[_T]:
        return np.concatenate([array, np.full((more, *array.shape[1:]), value, array.dtype)])

    load, kind = longer(state.load, FAR), np.concatenate([setting.kind, kinds])
    rank = np.concatenate([routes.rank, np.arange(len(routes.rank), len(kind))])
    return (
        setting._replace(kind=fixed(kind)),
        routes._replace(rank=fixed(rank)),
        state._replace(
            open=longer(state.open),
            alive=longer(state.alive),
            is_idle=longer(state.is_idle),
            load=load,
            fewest=_tournament(load),
            runs=longer(state.runs),
            total=longer(state.total),
            turn=longer(state.turn, queues - 1),
            free_ns=longer(state.free_ns),
            busy=longer(state.busy),
            loaded=longer(state.loaded, NEW),
            last_ns=longer(state.last_ns),
            fails_ns=longer(state.fails_ns, FAR),
            root=longer(state.root, -1),
            length=longer(state.length),
            head_ns=longer(state.head_ns),
            deficit=longer(state.deficit),
        ),
    )
