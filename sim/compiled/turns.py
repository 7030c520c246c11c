"""The turns of a planner in the compiled engine: the loop stops before each of them, and continues with its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.compiled.compiling import BOOL, GRID, INT, INTS, READ_INTS, compiled
from sim.compiled.loop_state import CHANGE, COMES, FAILS, FAR, LEAVES, LOG_TYPE, RUNNING
from sim.compiled.setting import changes_of, limit_of, with_workers
from sim.engine.planning import PlannerView, QueueView, ask_planner
from sim.engine.roster import Roster
from sim.engine.turns import check_scaling

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from sim.compiled.compiling import Ints
    from sim.compiled.loop_state import Log, Setting, State
    from sim.compiled.tabulate import Rule
    from sim.engine.cluster import Cluster
    from sim.engine.planning import Planner
    from sim.engine.policy import Policy
    from sim.engine.scaling import Fleet
    from sim.tables.latency import LatencyTable


class Planning(NamedTuple):
    """Who changes the number of workers in a run.

    Attributes:
        planner: The planner.
        period_ns: The time between two turns.
        policy: The policy of the run, whose parameters a planner may change.
        rule_of: Returns a policy in the form that the compiled engine runs, or raises a `NotTabulableError`.
    """

    planner: Planner
    period_ns: int
    policy: Policy
    rule_of: Callable[[Policy], Rule]


@compiled(INT(LOG_TYPE, READ_INTS, INTS, BOOL, INT, GRID, INTS, INTS))
def _note(
    log: Log, deadline_ns: Ints, left: Ints, in_order: bool, head: int, batches: Ints, last_ns: Ints, busy_ns: Ints
) -> int:
    """Return the number of batches in a log, and note what becomes of their queries and their workers.

    Args:
        log: The log.
        deadline_ns: Deadlines, int64, shape (queries,).
        left: The queries in order of leaving the queue, from the first that the log is about; anything if `in_order`.
        in_order: Whether they left it in order of arrival.
        head: The first of them, if so.
        batches: Out: for each batch start, completion, when its worker could take the next one, worker, queries,
            whether it was lost, queries that met their deadlines, and 1. int64, shape (8, batches or more).
        last_ns: In and out: when each worker finishes its last batch, int64, shape (workers,).
        busy_ns: In and out: when each worker can take its next batch, int64, shape (workers,).
    """
    place = found = 0
    for row in range(len(log.size)):
        size, finish = log.size[row], log.finish_ns[row]
        if log.row[row] >= 0:
            met, worker = 0, log.worker[row]
            for nth in range(place, place + size):
                met += finish <= deadline_ns[head + nth if in_order else left[nth]]
            batches[0, found], batches[1, found], batches[2, found] = log.start_ns[row], finish, log.free_ns[row]
            batches[3, found], batches[4, found], batches[5, found] = worker, size, log.lost[row]
            batches[6, found], batches[7, found] = met, 1
            found += 1
            last_ns[worker], busy_ns[worker] = max(last_ns[worker], finish), max(busy_ns[worker], log.free_ns[row])
        place += size
    return found


class CompiledTurns:
    """A planner's turns in a run of the compiled loop."""

    def __init__(
        self, planning: Planning, cluster: Cluster, table: LatencyTable, slo_ns: int, duration_ns: int
    ) -> None:
        """Begin before the first turn.

        Args:
            planning: The planner.
            cluster: The workers.
            table: The latency table, without overheads.
            slo_ns: The smallest SLO less the network's delay.
            duration_ns: The length of the trace, after which there is no turn.

        Raises:
            SpecError: The planner has no workers to plan, or its period is out of range.
        """
        check_scaling(cluster, planning.planner, planning.period_ns)
        self._planning, self._cluster, self._slo_ns, self._duration_ns = planning, cluster, slo_ns, duration_ns
        pools = cluster.pools(cluster.served(table), served=True)
        self._smallest_ns = [pool.table.smallest_ns for pool in pools]
        self._tables = {pool.kind: pool.table for pool in pools}
        self.policy = planning.policy
        self._roster = Roster(cluster, pools, [0] * len(pools))  # memory is not limited here
        self._changes = [(at_ns, worker, FAILS if fails else COMES) for at_ns, worker, fails in cluster.changes()]
        self._gone: set[int] = set()
        self._last_ns, self._busy_ns = np.zeros((2, cluster.workers), np.int64)
        self._arrived = self._taken = self._dropped = 0
        self._drops = 0  # since the last turn
        self._since_ns = 0
        self._batches: list[npt.NDArray[np.int64]] = []  # since the last turn, or had not ended then
        self._turn_ns = planning.period_ns

    def rule_of(self, policy: Policy) -> Rule:
        """Return a policy in the form that the compiled engine runs.

        Raises:
            NotTabulableError: There is none.
        """
        return self._planning.rule_of(policy)

    @property
    def next_ns(self) -> int:
        """The instant of the next turn; `FAR` after the last one."""
        return self._turn_ns if self._turn_ns < self._duration_ns else FAR

    def note(self, log: Log, deadline_ns: Ints, left: Ints, in_order: bool, head: int) -> None:
        """Take note of what the loop did.

        Args:
            log: Its log.
            deadline_ns: Deadlines, int64, shape (queries,).
            left: The queries in order of leaving the queue.
            in_order: Whether they left it in order of arrival, and `left` has no meaning.
            head: The first of them, if so.
        """
        batches = np.empty((8, len(log.size)), np.int64)
        count = _note(log, deadline_ns, left, in_order, head, batches, self._last_ns, self._busy_ns)
        batches = batches[:, :count]
        taken = int(batches[4].sum())
        self._taken += taken
        self._drops += int(log.size.sum()) - taken
        self._batches.append(batches)

    def take(self, arrived: int, setting: Setting, state: State) -> tuple[Setting, State, Policy | None]:
        """Have the planner plan.

        Args:
            arrived: Queries that arrived before the turn.
            setting: The constants of the run until now.
            state: Its state.

        Returns:
            Constants and state from now on; and the policy, if it has changed.

        Raises:
            PolicyError: The planner raised, or its plan can't be carried out.
        """
        now_ns = self._turn_ns
        self._turn_ns += self._planning.period_ns
        for at_ns, worker, what in self._past(now_ns):
            self._roster.note(at_ns, *(([worker], []) if what == COMES else ([], [worker])))
        view = self._view(now_ns, arrived)
        wanted, (policy,) = ask_planner(self._planning.planner, view, [self.policy])
        came, left = self._roster.change(
            now_ns, view.kinds, wanted, lambda worker: bool(self._busy_ns[worker] >= now_ns)
        )
        if came:
            setting, state = with_workers(setting, state, [new.pool for new in came])
            self._last_ns, self._busy_ns = (np.pad(one, (0, len(came))) for one in (self._last_ns, self._busy_ns))
        self._change(now_ns, left, state)
        self._changes += [(now_ns + new.startup_ns, new.worker, COMES) for new in came]
        self._changes += [(now_ns, worker, LEAVES) for worker in left]
        self._changes.sort(key=lambda change: (change[0], change[2], change[1]))
        serving = list(self._roster.up_ns)
        alive = np.bincount(setting.kind[serving], minlength=len(setting.first)).tolist()
        changes = changes_of(self._cluster, self._smallest_ns, setting.kind, alive, self._changes, self._gone)
        state.at[CHANGE] = 0
        changed = policy is not self.policy
        self.policy = policy
        limit_ns = limit_of(self._cluster, self._smallest_ns, alive)
        return setting._replace(changes=changes, limit_ns=limit_ns), state, policy if changed else None

    def _past(self, now_ns: int) -> list[tuple[int, int, int]]:
        """Return what workers did before an instant, and forget it."""
        past = [change for change in self._changes if change[0] < now_ns]
        self._changes = self._changes[len(past) :]
        return [change for change in past if change[2] != LEAVES and change[1] not in self._gone]

    def _change(self, now_ns: int, left: list[int], state: State) -> None:
        """Forget what workers that go would have done.

        All but a failure that ends the batch which keeps its worker busy: policies are asked at its instant.
        """
        running = set(state.busy[: state.at[RUNNING]].tolist())
        kept: set[tuple[int, int, int]] = set()
        for worker in left:
            if self._busy_ns[worker] >= now_ns and worker not in running:
                kept.add((int(self._busy_ns[worker]), worker, FAILS))
        self._changes = [change for change in self._changes if change[1] not in left or change in kept]
        self._gone |= set(left)

    def _view(self, now_ns: int, arrived: int) -> PlannerView:
        """Return what happened since the last turn; what happens now belongs to the next one."""
        batches = np.concatenate(self._batches, axis=1) if self._batches else np.empty((8, 0), np.int64)
        _, finish_ns, _, worker, size, lost, met, new = batches
        ended = finish_ns < now_ns
        answered, gone = ended & (lost == 0), ended & (lost == 1)
        in_time = int(met[answered].sum())
        started = np.zeros(len(self._roster.pool_of_kind), np.int64)
        np.add.at(started, np.array(self._roster.kind)[worker], size * new)
        still = batches[:, ~ended]
        still[7] = 0
        self._batches = [still]
        queue = QueueView(
            "",
            self._tables,
            arrivals=arrived - self._arrived,
            met=in_time,
            late=int(size[answered].sum()) - in_time,
            dropped=self._drops + int(size[gone].sum()),
            length=arrived - self._taken - self._dropped - self._drops,
            slo_ns=self._slo_ns,
        )
        kinds = self._roster.views(now_ns, self._since_ns, self._busy(batches, now_ns), started.tolist())
        view = PlannerView(now_ns, self._since_ns, self._cluster.dispatch_ns, kinds, (queue,))
        self._since_ns, self._arrived = now_ns, arrived
        self._dropped, self._drops = self._dropped + self._drops, 0
        return view

    def _busy(self, batches: npt.NDArray[np.int64], now_ns: int) -> dict[int, int]:
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
