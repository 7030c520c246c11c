"""A run of an experiment whose queries come over the network."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.front.session import serve_requests
from serving.interruption import Interruption
from sim.base.errors import SpecError
from ssim.jobs.experiment.live import LiveExperimentRun, live_points
from ssim.jobs.experiment.live_workers import worker_program
from ssim.jobs.job import Completion, Job
from ssim.results.environment import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.front.listening import Listen
    from ssim.jobs.job import Watch
    from ssim.results.store import Store

SOURCE = "requests"
"""The kind of trace of such a run."""


def served_job(job: Job, listen: Listen, on_ready: Callable[[str, str], None]) -> Job:
    """Return the job whose one run serves requests; its name ends in `-serve`.

    Args:
        job: An experiment.
        listen: Where to listen.
        on_ready: Called with the address, and that for gRPC or "", once requests are taken.

    Raises:
        SpecError: It has more than one policy or is swept, or has something that is not served live.
    """
    points = live_points(job, "leave it out")
    if len(points) > 1:
        swept = ", ".join(job.swept)
        raise SpecError("sweep", "a server serves one point", swept, "leave it out, and give a value by --set")
    (point,) = points
    names = [policy.label for policy in point.spec.policies]
    if len(names) > 1:
        hint = f"such as --set 'policies=[{point.spec.policies[0].use}]'"
        raise SpecError("policies", "a server has one policy", ", ".join(names), hint)
    if point.spec.measure is not None:
        raise SpecError("measure", "can't be used by a server, whose run has no end", "", "leave it out")
    run = ServedRun(point, job.spec.seed, 0, time.time_ns(), listen, on_ready)
    return replace(job, name=f"{job.name}-serve", runs=(run,))


@dataclass(frozen=True)
class ServedRun(LiveExperimentRun):
    """One run of a server.

    Attributes:
        listen: Where it listens.
        on_ready: Called with the address, and that for gRPC or "", once requests are taken.
    """

    listen: Listen = field(compare=False)
    on_ready: Callable[[str, str], None] = field(compare=False)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the result, and when it was asked for; not the trace of the file, which is not sent."""
        slo_ns, is_for_all = self._slo()
        source = {"kind": SOURCE, "slo_ns": slo_ns, "timeout_is_needed": not is_for_all}
        return {**super().identity, "trace": source}

    def row(self) -> dict[str, Any]:
        """Return the run's row in the index of the experiment."""
        return {**super().row(), "trace": SOURCE}

    def _slo(self) -> tuple[int, bool]:
        """Return the smallest SLO of the file, and whether it is the only one."""
        if (slo_ns := self.parts.slo_ns) is not None:
            return slo_ns, True
        return int(np.min(self.trace().slo_ns)), False

    def execute(self, store: Store, how: Any, watch: Watch | None) -> Completion:
        """Serve requests until Ctrl-C or SIGTERM, and store what came of it; arguments are those of `Run.execute`."""
        stopwatch, parts, live, before = Stopwatch(), self.parts, self.spec.live, os.getloadavg()
        slo_ns, is_for_all = self._slo()
        with Interruption(is_end=True) as interruption:
            found = serve_requests(
                self.spec.name,
                parts.cluster,
                self.setup.table,
                self.setup.policy(),
                self.listen,
                is_interrupted=lambda: interruption.is_asked,
                on_ready=self.on_ready,
                slo_ns=slo_ns,
                slo_is_for_all=is_for_all,
                seed=self.seed,
                program=worker_program(
                    live, parts.cluster.workers, self.setup.table, self.seed, self.point.folder, is_asked=True
                ),
                most_waiting=live.queue,
            )
            self.put(store, found, before, stopwatch)
        return Completion(found.result.queries, "served requests")
