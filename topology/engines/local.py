"""One process: all workers of a plan as tasks of asyncio, in real time, without a broker or network ports."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.base.cores import usable_cores
from sim.base.parameters import Positive, PositiveInt  # noqa: TC001 - fields are checked by their annotations
from topology.engine import Engine
from topology.engines.realtime import RealTimeTransport
from topology.runtime import WorkerRuntime

if TYPE_CHECKING:
    from topology.engine import RunSpec
    from topology.report import RunReport


@dataclass(frozen=True, slots=True)
class LocalEngine(Engine):
    """Runs plans in this process, in real time. Links and speeds are this machine's; faults are injected on time.

    Attributes:
        default_timeout_s: How long a wait without a timeout of its own may take, in seconds.
        jobs: How many functions are computed at once; None for one for each core.
        record: Whether the report holds spans.
    """

    default_timeout_s: Positive = 60.0
    jobs: PositiveInt | None = None
    record: bool = False

    def execute(self, run: RunSpec) -> RunReport:
        """Run it; return the report."""

        async def main() -> RunReport:
            transport = RealTimeTransport(time.monotonic, time.monotonic(), self.jobs or usable_cores())
            timeout_s = self.default_timeout_s
            runtime = WorkerRuntime(run, transport, default_timeout_s=timeout_s, record=self.record)
            await transport.perform(runtime)
            return runtime.report()

        return asyncio.run(main())
