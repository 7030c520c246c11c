"""Policies with a memory that run in both engines: one plain step function, which numba can compile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.engine.policy import Dispatch

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.policy import View
    from sim.tables.latency import LatencyTable


class Stepped(ABC):
    """A policy that decides by a step function over a few numbers that it remembers.

    A subclass is a dataclass without slots; its fields are its parameters. Both engines call the same `step`: the SimPy
    engine as it stands, the compiled one through numba. It must therefore keep to numbers: no objects, no integers
    beyond 64 bits, and none made of NaN or infinity.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> @dataclass
        ... class Alternating(Stepped):
        ...     def memory(self, table, dispatch_ns):
        ...         return np.zeros(1)
        ...     @staticmethod
        ...     def step(memory, now_ns, slack_ns, queue_length, arrived, latency_ns):
        ...         memory[0] = 1 - memory[0]
        ...         return int(memory[0]), 1
    """

    # Of kinds that are there at run time: whoever builds a policy from YAML asks for the kinds of all its attributes.
    _system: Any = None
    _memory: Any = None

    @abstractmethod
    def memory(self, table: LatencyTable, dispatch_ns: int) -> npt.NDArray[np.float64]:
        """Return what is remembered when a run begins: shape (n,); taken as float64.

        What the step function needs of the policy's parameters and of the table belongs there, too. Whole numbers are
        exact up to 2**53, nanoseconds up to 104 days.

        Args:
            table: The latency table.
            dispatch_ns: The overhead of each batch, already taken off the slack.
        """

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
        """Return which subnet (index) runs next, and the most queries in its batch.

        Args:
            memory: What is remembered; it may be changed.
            now_ns: The instant of the decision.
            slack_ns: As in `sim.engine.policy.View`.
            queue_length: As in `sim.engine.policy.View`.
            arrived: Queries that have arrived since the run began.
            latency_ns: Latency by subnet and batch size, int64, shape (subnets, largest batch + 1); column 0 is empty.
        """

    def begun(self, table: LatencyTable, dispatch_ns: int) -> npt.NDArray[np.float64]:
        """Return the memory as both engines have it: float64, shape (n,), and of one run alone.

        Raises:
            ValueError: It has another shape.
        """
        memory = np.array(self.memory(table, dispatch_ns), dtype=np.float64)
        if memory.ndim != 1:
            what = f"memory has shape {memory.shape}; must be (n,)"
            raise ValueError(what)
        return memory

    def decide(self, view: View) -> Dispatch:
        """Return the decision of the step function; each run begins with a memory of its own."""
        if view.system is not self._system:
            begun = self.begun(view.table, view.system.dispatch_ns)
            for name, value in (("_system", view.system), ("_memory", begun)):
                object.__setattr__(self, name, value)  # it may be a frozen dataclass
        arrived = view.system.arrivals_within(view.now_ns + 1)
        seen = (view.now_ns, view.slack_ns, view.queue_length, arrived, view.table.dense_ns)
        return Dispatch(*self.step(self._memory, *seen))
