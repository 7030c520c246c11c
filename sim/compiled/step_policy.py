"""Stateful policies that run in both engines: one plain step function, which numba can compile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.engine.policy import Dispatch, Drop, Hold

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.policy import Decision, View
    from sim.tables.latency import LatencyTable


HOLD, DROP = -2, -3
"""What a step function returns in place of a subnet to hold or to drop."""


def decision_of(subnet: int, number: int) -> Decision:
    """Return the decision that a subnet and a batch size stand for.

    Args:
        subnet: The subnet; `HOLD` or `DROP` for other decisions.
        number: The batch size; the slack until which to hold; or the number of queries to drop.
    """
    if subnet == HOLD:
        return Hold(number)
    return Drop(number) if subnet == DROP else Dispatch(subnet, number)


ONE_TABLE = "a step policy works with one latency table, and the kinds of workers have several"


ONE_QUEUE = "a step policy works with one queue in the compiled engine, and the cluster has several"


class StepPolicy(ABC):
    """A policy that decides by a step function over a numeric state.

    A subclass is a dataclass without slots; its fields are its parameters. Both engines call the same `step`: the SimPy
    engine as plain Python, the compiled one through numba. It must therefore use numbers only: no objects, no integers
    beyond 64 bits, and no conversion of NaN or infinity to integers.

    Examples:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> @dataclass
        ... class Alternating(StepPolicy):
        ...     def memory(self, table, dispatch_ns):
        ...         return np.zeros(1)
        ...     @staticmethod
        ...     def step(memory, now_ns, slack_ns, queue_length, arrived, latency_ns):
        ...         memory[0] = 1 - memory[0]
        ...         return int(memory[0]), 1
    """

    # Types that exist at run time: the loader of YAML files resolves the types of all attributes.
    _system: Any = None
    _memory: Any = None
    _table: Any = None

    def memory(self, table: LatencyTable, dispatch_ns: int) -> npt.NDArray[np.float64]:
        """Return the initial state of a run: shape (n,), converted to float64; empty unless a subclass says more.

        It also holds whatever the step function needs of the policy's parameters and of the table. Integers are exact
        up to 2**53, which is 104 days in nanoseconds.

        Args:
            table: The latency table.
            dispatch_ns: The overhead of each batch, already taken off the slack.
        """
        return np.empty(0)

    def memory_at(
        self,
        table: LatencyTable,
        dispatch_ns: int,
        workers: int,
        slo_ns: int,
    ) -> npt.NDArray[np.float64]:
        """Return the initial state as `memory` does; a policy that depends on more than its arguments overrides this.

        Runs in which workers fail then need the SimPy engine.

        Args:
            table: The latency table.
            dispatch_ns: The overhead of each batch.
            workers: Workers that have not failed.
            slo_ns: The smallest SLO less the network's delay.
        """
        return self.memory(table, dispatch_ns)

    @staticmethod
    @abstractmethod
    def step(
        memory: npt.NDArray[np.float64],
        now_ns: int,
        slack_ns: int,
        queue_length: int,
        arrived: int,
        latency_ns: npt.NDArray[np.int64],
    ) -> tuple[int, int]:
        """Return the subnet (index) that runs next, and the maximum size of its batch.

        `HOLD` in place of the subnet, with a slack, is `Hold`; `DROP`, with a number of queries, is `Drop`.

        Args:
            memory: The state, which may be changed in place.
            now_ns: The instant of the decision.
            slack_ns: As in `sim.engine.policy.View`.
            queue_length: As in `sim.engine.policy.View`.
            arrived: Queries that have arrived since the run began.
            latency_ns: Latency by subnet and batch size, int64, shape (subnets, largest batch + 1); column 0 is empty.
        """

    def begun(self, table: LatencyTable, dispatch_ns: int, workers: int, slo_ns: int) -> npt.NDArray[np.float64]:
        """Return the initial state as both engines use it: a new float64 array of shape (n,).

        Raises:
            ValueError: It has a wrong shape.
        """
        memory = np.array(self.memory_at(table, dispatch_ns, workers, slo_ns), dtype=np.float64)
        if memory.ndim != 1:
            problem = f"memory has shape {memory.shape}; must be (n,)"
            raise ValueError(problem)
        return memory

    def decide(self, view: View) -> Decision:
        """Return the decision of the step function; each run starts from its own initial state."""
        if view.system is not self._system:
            system = view.system
            begun = self.begun(view.table, system.dispatch_ns, system.workers_alive, system.slo_ns)
            for name, value in (("_system", system), ("_memory", begun), ("_table", view.table)):
                object.__setattr__(self, name, value)  # it may be a frozen dataclass
        elif view.table is not self._table:
            raise TypeError(ONE_TABLE)
        arrived = view.system.arrivals_within(view.now_ns + 1)
        seen = (view.now_ns, view.slack_ns, view.queue_length, arrived, view.table.dense_ns)
        return decision_of(*self.step(self._memory, *seen))
