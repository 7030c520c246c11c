"""What an engine is: it runs a plan. The same programs run on each engine, unchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sim.base.errors import SpecError
from sim.base.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from topology.checkpoints import Checkpoints
    from topology.deployment import InjectedFault
    from topology.plan import Plan
    from topology.program import Program
    from topology.report import RunReport


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What an engine runs.

    Attributes:
        plan: The workers.
        programs: The program of each role, and of each variant as `role/variant`: its class, or a factory that takes
            the `config`.
        seed: The seed of all random numbers.
        faults: The faults to inject.
        watch: Called with the report so far after each entry of a program in its log; None for no call.
        checkpoints: When and where the run is stored; None for never.
    """

    plan: Plan
    programs: Mapping[str, Callable[..., Program]]
    seed: int
    faults: tuple[InjectedFault, ...]
    watch: Callable[[RunReport], None] | None = None
    checkpoints: Checkpoints | None = None


class Engine(Parameters, ABC):
    """Base of the engines.

    Attributes:
        can_store: Whether a run can be stored in mid-flight.
    """

    __slots__ = ()

    can_store: ClassVar[bool] = False

    def run(
        self,
        plan: Plan,
        programs: Mapping[str, Callable[..., Program]],
        *,
        seed: int = 0,
        faults: Sequence[InjectedFault] = (),
        watch: Callable[[RunReport], None] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> RunReport:
        """Run a program on each worker until all have ended; return the report.

        Args:
            plan: The workers.
            programs: The program of each role, and of each variant as `role/variant`: its class, or a factory that
                takes the `config`.
            seed: The seed of all random numbers.
            faults: The faults to inject, at most one entry for each worker.
            watch: Called with the report so far after each entry of a program in its log, in this process.
            checkpoints: When and where the run is stored.

        Raises:
            TagError: A program does not fit its role.
            SpecError: The engine can't store a run.
            SsimError: A program failed, or waited for longer than the engine's default timeout.
        """
        if checkpoints is not None and not self.can_store:
            problem, hint = "a run in real time can't be stored in mid-flight", "use SimEngine, or no checkpoints"
            raise SpecError("checkpoints", problem, type(self).__name__, hint)
        return self.execute(RunSpec(plan, programs, seed, tuple(faults), watch, checkpoints))

    @abstractmethod
    def execute(self, run: RunSpec) -> RunReport:
        """Run it; return the report."""
