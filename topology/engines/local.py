"""One process: all workers of a plan as tasks of asyncio, in real time, without a broker or network ports."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.base.cores import usable_cores
from sim.base.parameters import Positive, PositiveInt  # noqa: TC001 - fields are checked by their annotations
from sim.base.units import NS_PER_S
from topology.engine import Engine
from topology.engines.realtime import RealTimeTransport
from topology.rests import LocalKeeper, read_rest
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
            rest = read_rest(run.checkpoints)
            start = time.monotonic() - (0.0 if rest is None else rest.at_ns / NS_PER_S)
            transport = RealTimeTransport(time.monotonic, start, self.jobs or usable_cores())
            report = None if rest is None else rest.report(channel.name for channel in run.plan.tag.channels)
            terms: Any = {"default_timeout_s": self.default_timeout_s, "record": self.record, "report": report}
            runtime = WorkerRuntime(run, transport, **terms)
            if run.checkpoints is not None:
                keeper = LocalKeeper(runtime, run.checkpoints)
                runtime.positions = {} if rest is None else keeper.restore(rest)
            await transport.perform(runtime)
            return runtime.report()

        return asyncio.run(main())
