"""What an engine is: it runs a plan. The same programs run on each engine, unchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.base.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from topology.deployment import InjectedFault
    from topology.plan import Plan
    from topology.program import Program
    from topology.report import RunReport


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What an engine runs.

    Attributes:
        plan: The workers.
        programs: The program of each role: its class, or a factory that takes the role's `config`.
        seed: The seed of all random numbers.
        faults: The faults to inject.
    """

    plan: Plan
    programs: Mapping[str, Callable[..., Program]]
    seed: int
    faults: tuple[InjectedFault, ...]


class Engine(Parameters, ABC):
    """Base of the engines."""

    __slots__ = ()

    def run(
        self,
        plan: Plan,
        programs: Mapping[str, Callable[..., Program]],
        *,
        seed: int = 0,
        faults: Sequence[InjectedFault] = (),
    ) -> RunReport:
        """Run a program on each worker until all have ended; return the report.

        Args:
            plan: The workers.
            programs: The program of each role: its class, or a factory that takes the role's `config`.
            seed: The seed of all random numbers.
            faults: The faults to inject, at most one entry for each worker.

        Raises:
            TagError: A program does not fit its role.
            SsimError: A program failed, or waited for longer than the engine's default timeout.
        """
        return self.execute(RunSpec(plan, programs, seed, tuple(faults)))

    @abstractmethod
    def execute(self, run: RunSpec) -> RunReport:
        """Run it; return the report."""
