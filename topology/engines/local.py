"""One process: all workers of a plan as tasks of asyncio, in real time. No broker, no ports of the machine."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.base.parameters import Parameters, Positive, PositiveInt
from topology.engines.realtime import RealTime
from topology.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from topology.engine import Report
    from topology.parties import Fault
    from topology.plan import Plan
    from topology.program import Program


@dataclass(frozen=True, slots=True)
class LocalEngine(Parameters):
    """Runs plans in this process, in real time. Links and speeds are this machine's; faults happen as they are said.

    Attributes:
        patience_s: How long a program may wait for something without having said how long, in seconds.
        jobs: How many functions are computed at once; None is one for each core.
        record: Whether the report holds how each worker and each message spent its time.
    """

    patience_s: Positive = 60.0
    jobs: PositiveInt | None = None
    record: bool = False

    def run(
        self,
        plan: Plan,
        programs: Mapping[str, Callable[..., Program]],
        *,
        seed: int = 0,
        faults: Sequence[Fault] = (),
    ) -> Report:
        """Run a program on each worker until all have ended; return what came of it (`topology.engine.Engine`).

        Raises:
            TagError: A program does not fit its role.
            SsimError: A program failed, or waited in vain for longer than `patience_s`.
        """

        async def main() -> Report:
            carrier = RealTime(time.monotonic, time.monotonic(), self.jobs or os.cpu_count() or 1)
            stage = Stage(
                plan, programs, carrier, seed=seed, faults=faults, patience_s=self.patience_s, record=self.record
            )
            await carrier.perform(stage)
            return stage.outcome()

        return asyncio.run(main())
