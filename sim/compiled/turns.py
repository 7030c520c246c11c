"""The turns of a planner in the compiled engine: the loop stops before each of them, and continues with its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.compiled.compiling import BOOL, GRID, INT, INTS, READ_CODES, READ_INTS, compiled
from sim.compiled.loop_state import COMES, FAILS, FAR, LEAVES, LOG_TYPE
from sim.compiled.setting import changes_and_limits
from sim.engine.kinds import pool_of_workers
from sim.engine.planning import PlannerView, QueueView, ask_planner
from sim.engine.roster import Roster
from sim.engine.turns import check_scaling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from sim.compiled.compiling import Ints
    from sim.compiled.loop_state import Log
    from sim.compiled.tabulate import Rule
    from sim.engine.cluster import Cluster
    from sim.engine.planning import Planner
    from sim.engine.policy import Policy
    from sim.engine.scaling import Fleet
    from sim.tables.latency import LatencyTable

    _Ints = npt.NDArray[np.int64]


class Planning(NamedTuple):
    """Who changes the number of workers in a run.

    Attributes:
        planner: The planner.
        period_ns: The time between two turns.
        policies: The policies of the run, one for each queue, whose parameters a planner may change.
        rule_of: Returns a policy of a queue in the form that the compiled engine runs, or raises a `NotTabulableError`.
    """

    planner: Planner
    period_ns: int
    policies: Sequence[Policy]
    rule_of: Callable[[Policy, int], Rule]


class Turn(NamedTuple):
    """What a planner changes.

    Attributes:
        kinds: The kind of each new worker, in the order of offers.
        changes: What workers do from now on, as in `sim.compiled.loop_state.Setting`.
        limits_ns: The slacks below which queries of each queue are dropped, now and from each change on, int64, shape
            (changes + 1, queues).
        rules: The policy of each queue from now on; None for one that does not change.
    """

    kinds: list[int]
    changes: _Ints
    limits_ns: _Ints
    rules: list[Rule | None]


@compiled(INT(LOG_TYPE, READ_INTS, READ_CODES, INTS, BOOL, INT, GRID, INTS, INTS, GRID))
def _note(
    log: Log,
    deadline_ns: Ints,
    queue_of: npt.NDArray[np.uint16],
    left: Ints,
    in_order: bool,
    head: int,
    batches: Ints,
    last_ns: Ints,
    busy_ns: Ints,
    gone: Ints,
) -> int:
    """Return the number of batches in a log, and note what becomes of their queries and their workers.

    Args:
        log: The log.
        deadline_ns: Deadlines, int64, shape (queries,).
        queue_of: The queue of each query; empty for a single one.
        left: The queries in order of leaving the queue, from the first that the log is about; anything if `in_order`.
        in_order: Whether they left it in order of arrival.
        head: The first of them, if so.
        batches: Out: for each batch start, completion, when its worker could take the next one, worker, queries,
            whether it was lost, queries that met their deadlines, 1, and the queue. int64, shape (9, batches or more).
        last_ns: In and out: when each worker finishes its last batch, int64, shape (workers,).
        busy_ns: In and out: when each worker can take its next batch, int64, shape (workers,).
        gone: In and out: by queue, queries that were taken and queries that were dropped, int64, shape (queues, 2).
    """
    place = found = 0
    for row in range(len(log.size)):
        size, finish = log.size[row], log.finish_ns[row]
        queue = int(queue_of[left[place]]) if queue_of.size else 0
        if log.row[row] >= 0:
            met, worker = 0, log.worker[row]
            for nth in range(place, place + size):
                met += finish <= deadline_ns[head + nth if in_order else left[nth]]
            batches[0, found], batches[1, found], batches[2, found] = log.start_ns[row], finish, log.free_ns[row]
            batches[3, found], batches[4, found], batches[5, found] = worker, size, log.lost[row]
            batches[6, found], batches[7, found], batches[8, found] = met, 1, queue
            found += 1
            last_ns[worker], busy_ns[worker] = max(last_ns[worker], finish), max(busy_ns[worker], log.free_ns[row])
            gone[queue, 0] += size
        else:
            gone[queue, 1] += size
        place += size
    return found


class CompiledTurns:
    """A planner's turns in a run of the compiled loop."""

    def __init__(
        self, planning: Planning, cluster: Cluster, table: LatencyTable, slos_ns: Sequence[int], duration_ns: int
    ) -> None:
        """Begin before the first turn.

        Args:
            planning: The planner.
            cluster: The workers.
            table: The latency table, without overheads.
            slos_ns: For each queue the smallest SLO less the network's delay.
            duration_ns: The length of the trace, after which there is no turn.

        Raises:
            SpecError: The planner has no workers to plan, or its period is out of range.
        """
        check_scaling(cluster, planning.planner, planning.period_ns)
        self._planning, self._cluster, self._slos_ns, self._duration_ns = planning, cluster, slos_ns, duration_ns
        pools = cluster.pools_by_queue(cluster.served(table), served=True)
        self._smallest_ns = [[pool.table.smallest_ns for pool in of] for of in pools]
        self._tables = [{pool.kind: pool.table for pool in of} for of in pools]
        self._policies = [*planning.policies]
        self._roster = Roster(cluster, pools[0], [0] * len(pools[0]))  # memory is not limited here
        self._pool_of = pool_of_workers(pools[0])
        self._changes = [(at_ns, worker, FAILS if fails else COMES) for at_ns, worker, fails in cluster.changes()]
        self._left: set[int] = set()
        self._last_ns, self._busy_ns = np.zeros((2, cluster.workers), np.int64)
        self._gone = np.zeros((len(pools), 2), np.int64)  # by queue, taken and dropped
        self._counted = np.zeros((3, len(pools)), np.int64)  # arrivals, drops and rejections until the last turn
        self._since_ns = 0
        self._batches: list[_Ints] = []  # since the last turn, or had not ended then
        self._turn_ns = planning.period_ns

    @property
    def next_ns(self) -> int:
        """The instant of the next turn; `FAR` after the last one."""
        return self._turn_ns if self._turn_ns < self._duration_ns else FAR

    def note(
        self,
        log: Log,
        deadline_ns: Ints,
        queue_of: npt.NDArray[np.uint16],
        left: Ints,
        in_order: bool,
        head: int,
    ) -> None:
        """Take note of what the loop did.

        Args:
            log: Its log.
            deadline_ns: Deadlines, int64, shape (queries,).
            queue_of: The queue of each query; empty for a single one.
            left: The queries in order of leaving the queue.
            in_order: Whether they left it in order of arrival, and `left` has no meaning.
            head: The first of them, if so.
        """
        batches = np.empty((9, len(log.size)), np.int64)
        of_workers = self._last_ns, self._busy_ns
        count = _note(log, deadline_ns, queue_of, left, in_order, head, batches, *of_workers, self._gone)
        self._batches.append(batches[:, :count])

    def take(self, arrived: npt.ArrayLike, rejected: npt.ArrayLike, running: set[int]) -> Turn:
        """Have the planner plan.

        Args:
            arrived: For each queue the queries that arrived before the turn.
            rejected: For each queue those of them that found it full.
            running: The workers that run batches.

        Raises:
            PolicyError: The planner raised, or its plan can't be carried out.
            NotTabulableError: It changed a policy into one that only the SimPy engine runs.
        """
        now_ns = self._turn_ns
        self._turn_ns += self._planning.period_ns
        for at_ns, worker, what in self._past(now_ns):
            self._roster.note(at_ns, *(([worker], []) if what == COMES else ([], [worker])))
        view = self._view(now_ns, np.asarray(arrived), np.asarray(rejected))
        before = self._policies
        wanted, self._policies = ask_planner(self._planning.planner, view, before)
        came, left = self._roster.change(
            now_ns, view.kinds, wanted, lambda worker: bool(self._busy_ns[worker] >= now_ns)
        )
        if came:
            self._last_ns, self._busy_ns = (np.pad(one, (0, len(came))) for one in (self._last_ns, self._busy_ns))
        self._pool_of += [new.pool for new in came]
        self._change(now_ns, left, running)
        self._changes += [(now_ns + new.startup_ns, new.worker, COMES) for new in came]
        self._changes += [(now_ns, worker, LEAVES) for worker in left]
        self._changes.sort(key=lambda change: (change[0], change[2], change[1]))
        alive = [0] * len(self._smallest_ns[0])
        for worker in self._roster.up_ns:
            alive[self._pool_of[worker]] += 1
        how = self._pool_of, alive, self._changes, self._left
        rules = [
            None if policy is old else self._planning.rule_of(policy, place)
            for place, (policy, old) in enumerate(zip(self._policies, before, strict=True))
        ]
        changes, limits_ns = changes_and_limits(self._cluster, self._smallest_ns, *how)
        return Turn([new.pool for new in came], changes, limits_ns, rules)

    def _past(self, now_ns: int) -> list[tuple[int, int, int]]:
        """Return what workers did before an instant, and forget it."""
        past = [change for change in self._changes if change[0] < now_ns]
        self._changes = self._changes[len(past) :]
        return [change for change in past if change[2] != LEAVES and change[1] not in self._left]

    def _change(self, now_ns: int, left: list[int], running: set[int]) -> None:
        """Forget what workers that go would have done.

        All but a failure that ends the batch which keeps its worker busy: policies are asked at its instant.
        """
        kept: set[tuple[int, int, int]] = set()
        for worker in left:
            if self._busy_ns[worker] >= now_ns and worker not in running:
                kept.add((int(self._busy_ns[worker]), worker, FAILS))
        self._changes = [change for change in self._changes if change[1] not in left or change in kept]
        self._left |= set(left)

    def _view(self, now_ns: int, arrived: _Ints, rejected: _Ints) -> PlannerView:
        """Return what happened since the last turn; what happens now belongs to the next one."""
        batches = np.concatenate(self._batches, axis=1) if self._batches else np.empty((9, 0), np.int64)
        _, finish_ns, _, worker, size, _, _, new, _ = batches
        started = np.zeros(len(self._roster.pool_of_kind), np.int64)
        np.add.at(started, np.array(self._roster.kind)[worker], size * new)
        is_open = finish_ns >= now_ns
        still, ended = batches[:, is_open], batches[:, ~is_open]
        still[7] = 0
        taken, dropped = self._gone.T
        counts = np.stack([arrived, dropped, rejected])
        views = self._queue_views(ended, counts - self._counted, arrived - taken - dropped - rejected)
        self._batches, self._counted = [still], counts
        kinds = self._roster.views(now_ns, self._since_ns, self._busy(batches, now_ns), started.tolist())
        view = PlannerView(now_ns, self._since_ns, self._cluster.dispatch_ns, kinds, views)
        self._since_ns = now_ns
        return view

    def _queue_views(self, ended: _Ints, counts: _Ints, length: _Ints) -> tuple[QueueView, ...]:
        """Return the queues as the planner sees them.

        Args:
            ended: The batches that have ended since the last turn.
            counts: By queue, arrivals, drops and rejections since then, int64, shape (3, queues).
            length: By queue, how many wait.
        """
        *_, size, lost, met, _, queue = ended
        sums = np.zeros((3, len(length)), np.int64)  # queries that were lost, answered, and answered in time
        np.add.at(sums, (1 - lost, queue), size)
        np.add.at(sums[2], queue, np.where(lost, 0, met))
        each = zip(*counts.tolist(), *sums.tolist(), length.tolist(), strict=True)
        return tuple(
            QueueView(
                known.name if known else "",
                self._tables[place],
                arrivals=came,
                met=in_time,
                late=answered - in_time,
                dropped=dropped + gone,
                rejected=rejected,
                length=waits,
                slo_ns=self._slos_ns[place],
                weight=known.weight if known else 1.0,
            )
            for place, (known, (came, dropped, rejected, gone, answered, in_time, waits)) in enumerate(
                zip(self._cluster.queues or [None], each, strict=True)
            )
        )

    def _busy(self, batches: _Ints, now_ns: int) -> dict[int, int]:
        """Return how long each worker that serves was busy since the last turn."""
        start_ns, _, free_ns, worker, *_ = batches
        serving = list(self._roster.up_ns)
        up_ns = np.full(len(self._roster.kind), now_ns)
        up_ns[serving] = list(self._roster.up_ns.values())
        begin_ns = np.maximum(np.maximum(start_ns, self._since_ns), up_ns[worker])
        busy_ns = np.zeros(len(up_ns), np.int64)
        np.add.at(busy_ns, worker, np.maximum(np.minimum(free_ns, now_ns) - begin_ns, 0))
        return dict(zip(serving, busy_ns[serving].tolist(), strict=True))

    def fleet(self) -> Fleet:
        """Return the workers of the run, which has ended."""
        return self._roster.fleet(self._last_ns)
