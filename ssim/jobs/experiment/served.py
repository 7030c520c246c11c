"""A run of an experiment whose queries come over the network."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.front.models import ServedQueue
from serving.front.session import serve_requests
from serving.interruption import Interruption
from sim.base.errors import SpecError
from sim.engine.queue_set import queue_codes, smallest_slos_ns
from sim.engine.service_queue import in_queues
from ssim.jobs.experiment.live import LiveExperimentRun, live_points
from ssim.jobs.job import Completion, Job
from ssim.results.environment import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serving.front.listening import Listen
    from ssim.jobs.job import Watch
    from ssim.results.store import Store

SOURCE = "requests"
"""The kind of trace of such a run."""


def served_job(
    job: Job, listen: Listen, on_ready: Callable[[str, str, Sequence[str]], None], tell: Callable[[str], None]
) -> Job:
    """Return the job whose one run serves requests; its name ends in `-serve`.

    Args:
        job: An experiment.
        listen: Where to listen.
        on_ready: Called with the address, that for gRPC or "", and the names of the models, once requests are taken.
        tell: Called with a sentence when something happens that somebody may wait for.

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
    run = ServedRun(point, job.spec.seed, 0, time.time_ns(), tell, listen, on_ready)
    return replace(job, name=f"{job.name}-serve", runs=(run,))


@dataclass(frozen=True)
class ServedRun(LiveExperimentRun):
    """One run of a server.

    Attributes:
        listen: Where it listens.
        on_ready: Called with the address, that for gRPC or "", and the names of the models, once requests are taken.
    """

    listen: Listen = field(compare=False)
    on_ready: Callable[[str, str, Sequence[str]], None] = field(compare=False)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the result, and when it was asked for; not the trace of the file, which is not sent."""
        queues = [(queue.slo_ns, not queue.is_default) for queue in self._queues()]
        (slo_ns, is_needed), *others = queues
        source = {"kind": SOURCE, "slo_ns": slo_ns, "timeout_is_needed": is_needed}
        return {**super().identity, "trace": {**source, "queues": queues} if others else source}

    def row(self) -> dict[str, Any]:
        """Return the run's row in the index of the experiment."""
        return {**super().row(), "trace": SOURCE}

    def _queues(self) -> list[ServedQueue]:
        """Return for each queue the smallest SLO of the file, and whether it is the only one; one without queues."""
        cluster = self.parts.cluster
        if not cluster.queues and (slo_ns := self.parts.slo_ns) is not None:
            return [ServedQueue(0, slo_ns)]
        trace = in_queues(self.trace(), cluster.queues)
        smallest, codes = smallest_slos_ns(trace, cluster), queue_codes(trace, cluster)
        slos = np.broadcast_to(trace.slo_ns, len(trace))
        found = []
        for place, slo_ns in enumerate(smallest):
            if not slo_ns:
                name = cluster.queues[place].name
                hint = "give it an SLO, or a trace with its queries"
                raise SpecError(f"queues, {name!r}", "has no query in the trace, so that its SLO is unknown", "", hint)
            found.append(ServedQueue(place, slo_ns, bool((slos[codes == place] == slo_ns).all())))
        return found

    def execute(self, store: Store, how: Any, watch: Watch | None) -> Completion:
        """Serve requests until Ctrl-C or SIGTERM, and store what came of it; arguments are those of `Run.execute`."""
        stopwatch, live, before = Stopwatch(), self.spec.live, os.getloadavg()
        with Interruption(is_end=True) as interruption:
            found = serve_requests(
                self.spec.name,
                self.setup.cluster,
                self.setup.table,
                self.setup.policies(),
                self.listen,
                is_interrupted=lambda: interruption.is_asked,
                on_ready=self.on_ready,
                queues=self._queues(),
                seed=self.seed,
                program=self.workers(is_asked=True),
                most_waiting=live.queue,
            )
            queries = self.put(store, found, before, stopwatch)
        return Completion(queries, "served requests")
