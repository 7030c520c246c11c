"""One run of a compiled loop with several queues: its state and its constants, from turn to turn of a planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.compiled import queue_kernel, routed_kernel
from sim.compiled.loop_state import CHANGE, FAR, RUNNING, Log
from sim.compiled.queue_setting import queue_decisions, queue_setting, queue_state
from sim.compiled.queue_state import ArrivalArrays
from sim.compiled.routed_state import routed_state_of, routes_of, with_routed_workers
from sim.compiled.setting import fixed, with_workers
from sim.compiled.step_policy import StepPolicy
from sim.compiled.tabulate import tables_of
from sim.engine.queue_set import queue_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.compiled.compiling import Bools, Ints
    from sim.compiled.queue_state import QueueSetting, QueueState
    from sim.compiled.routed_state import RoutedState, Routes
    from sim.compiled.tabulate import QueueRules
    from sim.compiled.turns import CompiledTurns
    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace


@dataclass(slots=True)
class _Central:
    """The loop of queues that all workers share, and its state."""

    state: QueueState

    def advance(
        self, setting: QueueSetting, arrivals: ArrivalArrays, until_ns: int, log: Log, left: Ints, rejected: Bools
    ) -> int:
        """Continue as `sim.compiled.queue_kernel.advance_queues`."""
        return int(queue_kernel.advance_queues(setting, arrivals, self.state, until_ns, log, left, rejected))

    def add(self, setting: QueueSetting, kinds: Sequence[int]) -> QueueSetting:
        """Return the constants with more workers, which are to come, by the kind of each."""
        setting, self.state = with_workers(setting, self.state, kinds)
        return setting


@dataclass(slots=True)
class _Routed:
    """The loop of a queue for each worker, and its state."""

    routes: Routes
    state: RoutedState

    def advance(
        self, setting: QueueSetting, arrivals: ArrivalArrays, until_ns: int, log: Log, left: Ints, rejected: Bools
    ) -> int:
        """Continue as `sim.compiled.routed_kernel.advance_routed`."""
        how = setting, self.routes, arrivals, self.state, until_ns
        return int(routed_kernel.advance_routed(*how, log, left, rejected))

    def add(self, setting: QueueSetting, kinds: Sequence[int]) -> QueueSetting:
        """Return the constants with more workers, which are to come, by the kind of each."""
        setting, self.routes, self.state = with_routed_workers(setting, self.routes, self.state, kinds)
        return setting


class QueueRun:
    """One run of a compiled loop with several queues, or a queue for each worker.

    Attributes:
        log: The rows, once it has run.
        left: The queries in order of leaving their queues.
        rejected: Whether each query found its queue full.
    """

    def __init__(
        self,
        trace: Trace,
        cluster: Cluster,
        table: LatencyTable,
        rules: QueueRules,
        seed: int,
        turns: CompiledTurns | None,
    ) -> None:
        """Begin with all workers idle and no subnet loaded.

        Args:
            trace: Arrivals, as `sim.engine.service_queue.in_queues` returns them.
            cluster: Workers and queues.
            table: The latency table, without overheads.
            rules: The policies.
            seed: For latencies that are drawn, and random routing.
            turns: Those of a planner; None without one.
        """
        self._cluster, self._turns, self._rules = cluster, turns, [*rules.by_queue]
        self._pools = cluster.pools_by_queue(table)
        codes = np.ascontiguousarray(queue_codes(trace, cluster))
        codes.flags.writeable = False
        self._arrivals = ArrivalArrays(fixed(trace.arrival_ns), fixed(cluster.due_ns(trace)), codes)
        self._setting = queue_setting(cluster, table, self._rules, seed)
        self.subnet = self._setting.subnet
        self.log = Log.empty(len(trace), overlaps=cluster.occupancy < 1)
        self.left, self.rejected = np.empty(len(trace), np.int64), np.zeros(len(trace), np.bool_)
        self._loop: _Central | _Routed
        if cluster.is_routed:
            self._loop = _Routed(routes_of(cluster, table, seed), routed_state_of(self._setting, len(trace)))
        else:
            last_ns = np.full(len(self._pools), -FAR)
            in_order = isinstance(trace.slo_ns, int) or queue_kernel.are_in_order(self._arrivals, last_ns)
            self._loop = _Central(queue_state(self._setting, self._arrivals, in_order=in_order))
        self._arrived = 0  # queries before the last turn, and by queue how many these are and how many were rejected
        self._counts = np.zeros((2, len(self._pools)), np.int64)

    def advance(self) -> int:
        """Run to the end and return the number of rows of the log.

        Raises:
            PolicyError: The planner raised, or its plan can't be carried out.
            NotTabulableError: The planner changed a policy into one that only the SimPy engine runs.
        """
        rows = gone = 0
        while True:
            stop_ns = FAR if self._turns is None else self._turns.next_ns
            rest = self.log.part(slice(rows, None))
            how = self._setting, self._arrivals, stop_ns, rest, self.left[gone:], self.rejected
            more = self._loop.advance(*how)
            rows += more
            if self._turns is None:
                return rows
            written, left = rest.part(slice(more)), self.left[gone:]
            self._turns.note(written, self._arrivals.deadline_ns, self._arrivals.queue, left, in_order=False, head=0)
            gone += int(written.size.sum())
            if stop_ns == FAR:
                return rows
            self._turn(self._turns, stop_ns)

    def _turn(self, turns: CompiledTurns, now_ns: int) -> None:
        """Have the planner plan."""
        before, self._arrived = self._arrived, int(np.searchsorted(self._arrivals.arrival_ns, now_ns))
        codes = self._arrivals.queue[before : self._arrived]
        rejected = codes[self.rejected[before : self._arrived]]
        self._counts += [np.bincount(of, minlength=len(self._pools)) for of in (codes, rejected)]
        state = self._loop.state
        running = set(state.busy[: state.at[RUNNING]].tolist())
        kinds, changes, limits_ns, rules = turns.take(self._counts[0], self._counts[1], running)
        state.at[CHANGE] = 0
        self._setting = self._loop.add(self._setting, kinds)._replace(changes=changes, limits_ns=limits_ns)
        if any(rule is not None for rule in rules):
            self._rules = [
                old if rule is None or isinstance(rule, StepPolicy) else tables_of(rule)
                for rule, old in zip(rules, self._rules, strict=True)
            ]
            edges, from_ns, decided, sizes = queue_decisions(self._rules, self._cluster, self._pools)
            self._setting = self._setting._replace(edges=edges, from_ns=from_ns, rows=decided, sizes=sizes)
