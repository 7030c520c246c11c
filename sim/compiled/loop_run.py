"""One run of the compiled loop: its state and its constants, step by step and from turn to turn of a planner."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sim.base.errors import PolicyError, raised
from sim.compiled import kernel
from sim.compiled.compiling import compiled_step, no_step
from sim.compiled.loop_state import ARRIVED, BEFORE, CHANGE, FAR, HEAD, RUNNING
from sim.compiled.setting import decisions_of, setting_of, state_of, with_workers
from sim.compiled.step_policy import StepPolicy, decision_of
from sim.engine.policy import View, check_decision, policy_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from sim.compiled.loop_state import Log
    from sim.compiled.tabulate import Rule
    from sim.compiled.turns import CompiledTurns
    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable

NO_QUEUES = np.empty(0, np.uint16)
"""The queue of each query where there is one for all; read-only, as the loop expects it."""

NO_QUEUES.flags.writeable = False


def compiled_rule(policy: StepPolicy) -> StepPolicy:
    """Return a step policy whose step function compiles.

    Raises:
        PolicyError: It does not compile.
    """
    try:
        _step(type(policy).step)
    except Exception as error:  # numba raises its own errors and others
        messages = [
            line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Failed in")
        ]
        raise PolicyError(
            f"{type(policy).__name__}.step", "can't be compiled", (messages or [repr(error)])[0]
        ) from error
    return policy


@cache
def _step(step: Callable[..., tuple[int, int]]) -> Any:
    return compiled_step(step)


class LoopRun:
    """One run of the compiled loop: its state and its constants."""

    def __init__(
        self,
        cluster: Cluster,
        table: LatencyTable,
        rule: Rule,
        seed: int,
        heap: int,
        slo_ns: int,
        turns: CompiledTurns | None,
    ) -> None:
        """Begin with all workers idle and no subnet loaded.

        Args:
            cluster: The workers.
            table: The latency table, without overheads.
            rule: The policy.
            seed: For latencies that are drawn.
            heap: Capacity of the queue's heap: 0 if deadlines never decrease, else the number of queries.
            slo_ns: The smallest SLO.
            turns: Those of a planner; None without one.
        """
        self._pools, self._cluster, self._turns = cluster.pools(table), cluster, turns
        self._table = cluster.pools(cluster.served(table), served=True)[0].table
        self._in_order, self._slo_ns = heap == 0, slo_ns
        self._memories: dict[int, tuple[StepPolicy, npt.NDArray[np.float64]]] = {}  # by id: equal ones are not one
        self._setting = setting_of(cluster, table, rule, seed)
        self._state = state_of(self._setting, np.empty(0), heap)
        self._take(rule)

    def _take(self, rule: Rule) -> None:
        """Decide by a rule from now on."""
        self._rule, self._step, memory = rule, no_step, np.empty(0)
        if isinstance(rule, StepPolicy):
            if id(rule) not in self._memories:  # a planner may return to a policy, which remembers its run
                self._memories[id(rule)] = rule, _memory(rule, self._table, self._cluster, self._slo_ns)
            self._step, memory = _step(type(rule).step), self._memories[id(rule)][1]
        self._state = self._state._replace(memory=memory)

    @property
    def head(self) -> int:
        """The first query in the queue, as an index of the current arrays of arrivals."""
        return int(self._state.at[HEAD])

    def move(self, by: int) -> None:
        """Shift all indices after arrivals were removed at the front of the arrays."""
        self._state.at[HEAD] -= by
        self._state.at[ARRIVED] -= by
        self._state.at[BEFORE] += by

    def advance(
        self,
        arrival_ns: npt.NDArray[np.int64],
        deadline_ns: npt.NDArray[np.int64],
        log: Log,
        left: npt.NDArray[np.int64],
        *,
        final: bool,
    ) -> int:
        """Continue to the end of the arrivals, as `sim.compiled.kernel.advance`; return the number of rows of the log.

        Raises:
            PolicyError: The step function raised, or returned a decision that can't be carried out.
        """
        until_ns = FAR if final else int(arrival_ns[-1]) if len(arrival_ns) else 0
        if self._turns is None:
            return self._go_on(arrival_ns, deadline_ns, until_ns, log, left)
        rows = gone = 0
        while True:
            stop_ns, head = min(until_ns, self._turns.next_ns), self.head
            rest = log.part(slice(rows, None))
            more = self._go_on(arrival_ns, deadline_ns, stop_ns, rest, left[gone:])
            written = rest.part(slice(more))
            self._turns.note(written, deadline_ns, NO_QUEUES, left[gone:], self._in_order, head)
            rows, gone = rows + more, gone + int(written.size.sum())
            if self._turns.next_ns > until_ns or stop_ns == FAR:
                return rows
            self._turn(int(np.searchsorted(arrival_ns, stop_ns)))

    def _turn(self, arrived: int) -> None:
        """Have the planner plan, before which so many queries of the current arrays had arrived."""
        if self._turns is None:
            return
        at = self._state.at
        running = set(self._state.busy[: at[RUNNING]].tolist())
        kinds, changes, limits_ns, (rule,) = self._turns.take([arrived + at[BEFORE]], [0], running)
        setting, self._state = with_workers(self._setting, self._state, kinds)
        self._setting = setting._replace(changes=changes, limit_ns=int(limits_ns[0, 0]))
        at[CHANGE] = 0
        if rule is not None:
            uses_step = isinstance(rule, StepPolicy)
            edges, from_ns, rows, sizes = decisions_of(rule, self._cluster, self._pools)
            decides = self._setting._replace(uses_step=uses_step, edges=edges, from_ns=from_ns)
            self._setting = decides._replace(rows=rows, sizes=sizes)
            self._take(rule)

    def _go_on(
        self,
        arrival_ns: npt.NDArray[np.int64],
        deadline_ns: npt.NDArray[np.int64],
        until_ns: int,
        log: Log,
        left: npt.NDArray[np.int64],
    ) -> int:
        arrays = (arrival_ns, deadline_ns, self._in_order, until_ns, log, left)
        try:
            rows = int(kernel.advance(self._setting, self._state, self._step, *arrays))
        except Exception as error:
            if not isinstance(self._rule, StepPolicy):
                raise
            raise PolicyError(policy_name(self._rule), *raised(error)) from error
        if rows < 0 and isinstance(self._rule, StepPolicy):
            row = -1 - rows
            seen = (int(log.start_ns[row]), int(log.finish_ns[row]), int(log.worker[row]))
            view = View(*seen, self._table, cast("Any", None))
            check_decision(decision_of(int(log.row[row]), int(log.size[row])), view, self._rule)
        return rows


def _memory(rule: StepPolicy, table: LatencyTable, cluster: Cluster, slo_ns: int) -> npt.NDArray[np.float64]:
    try:
        return rule.begun(table, cluster.dispatch_ns, cluster.workers, slo_ns - cluster.network_ns)
    except Exception as error:
        raise PolicyError(policy_name(rule), *raised(error)) from error
