"""A run of an experiment that is served in real time instead of simulated."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from serving.facts import facts
from serving.interruption import Interruption
from serving.session import serve_trace
from sim.base.cores import usable_cores
from sim.base.errors import ServingError, SpecError
from sim.base.units import NS_PER_S
from sim.engine.arrow import arrow_table
from sim.engine.run_metrics import Outcome
from ssim.files.model import JobSpec
from ssim.jobs.experiment.live_workers import check_workers, differences
from ssim.jobs.experiment.remote_workers import check_remote, worker_source
from ssim.jobs.experiment.run import ExperimentRun
from ssim.jobs.identity import code_of, own_hash
from ssim.jobs.job import Completion, Job, Run
from ssim.results.environment import Stopwatch
from ssim.results.record import put_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from serving.log import LiveLog
    from serving.session import LiveRun
    from serving.workers import WorkerSource
    from sim.engine.result import Result
    from sim.engine.run_metrics import Measure
    from ssim.jobs.job import AnyRun, ExecutionOptions, Point, RunOutcome, Task, Watch
    from ssim.results.store import Store

LIVE_REQUESTS, LIVE_BATCHES, LIVE_LOG = "live_requests.parquet", "live_batches.parquet", "live_log.parquet"
"""The files that only a live run has."""

_OWN_KEYS = {
    "trace",
    "cluster",
    "latency_table",
    "engine",
    "keep",
    "policies",
    "reference",
    "measure",
    "capacity",
    "live",
    "queues",
}
_SERVED = {*JobSpec.model_fields, *_OWN_KEYS}
_SERVED_CLUSTER = {
    "workers",
    "kinds",
    "offer",
    "currency",
    "order",
    "routing",
    "dispatch_ms",
    "dispatch_per_query_ms",
    "actuation_ms",
    "drop",
    "latency",
}
_SERVED_KIND = {"name", "workers", "table", "price_per_h", "watts"}
_SERVED_QUEUE = {
    "name",
    "trace",
    "slo_ms",
    "weight",
    "priority",
    "floor",
    "bound",
    "latency_table",
    "tables",
    "policy",
    "params",
}
"""Keys of a file that a live run keeps to or has no use for; any other is refused."""


def live_job(job: Job, tell: Callable[[str], None]) -> Job:
    """Return the job whose runs are served in real time; its name ends in `-live`, so that simulated results stay.

    Every seed has its run, since no two live runs are equal.

    Args:
        job: An experiment.
        tell: Called with a sentence when something happens that somebody may wait for.

    Raises:
        SpecError: It has something that is not served live.
    """
    points = live_points(job, "leave it out, or simulate the file without --live")
    seeds, now_ns = range(job.spec.seed, job.spec.seed + job.spec.repeats), time.time_ns()
    runs = (
        LiveExperimentRun(point, seed, number, now_ns, tell)
        for point in points
        for seed in seeds
        for number in range(len(point.spec.policies))
    )
    return replace(job, name=f"{job.name}-live", runs=tuple(runs))


def live_points(job: Job, hint: str) -> list[Point]:
    """Return the points of an experiment.

    Args:
        job: The experiment.
        hint: What to do where something is not served live.

    Raises:
        SpecError: It has something that is not served live.
    """
    points = list({id(run.point): run.point for run in job.runs}.values())
    for point in points:
        cluster = point.spec.cluster
        kinds = [(f"cluster.kinds.{number}.", kind, _SERVED_KIND) for number, kind in enumerate(cluster.kinds)]
        queues = [(f"queues.{number}.", queue, _SERVED_QUEUE) for number, queue in enumerate(point.spec.queues)]
        parts = [("", point.spec, _SERVED), ("cluster.", cluster, _SERVED_CLUSTER), *kinds, *queues]
        for place, part, served in parts:
            for name, key in type(part).model_fields.items():
                if name not in served and getattr(part, name) != key.default:
                    raise SpecError(f"{place}{name}", "can't be used in a live run", "", hint)
        check_workers(point.spec)
    check_remote((run.spec.live, run.setup.table, run.point.folder) for run in job.runs)
    return points


@dataclass(frozen=True)
class LiveExperimentRun(ExperimentRun):
    """One live run.

    Attributes:
        asked_ns: When it was asked for, in nanoseconds since 1970: no two live runs are the same.
        tell: Called with a sentence when something happens that somebody may wait for.
    """

    asked_ns: int
    tell: Callable[[str], None] = field(compare=False)

    @property
    def is_random(self) -> bool:
        """Whether the result may differ from seed to seed: always."""
        return True

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the result, and when it was asked for."""
        live = {**self.spec.live.model_dump(), "asked_ns": self.asked_ns, "code": own_hash(code_of("serving"))}
        return {**super().identity, "live": live}

    @classmethod
    def tasks(
        cls, runs: Sequence[AnyRun], options: ExecutionOptions, *, ahead: int, shared: Path | None
    ) -> Iterator[Task | RunOutcome]:
        """Yield the runs as tasks."""
        return Run.tasks.__func__(cls, runs, options, ahead=ahead, shared=shared)  # type: ignore[attr-defined,no-any-return]

    def execute(self, store: Store, how: Any, watch: Watch | None) -> Completion:
        """Serve the trace in real time and store what came of it; arguments and errors are those of `Run.execute`.

        Raises:
            KeyboardInterrupt: It was interrupted; what was served until then is stored.
        """
        stopwatch, parts, live = Stopwatch(), self.parts, self.spec.live
        trace, before = self.trace(), os.getloadavg()
        parts.measure.check(trace.duration_ns)
        with Interruption() as interruption:
            found = serve_trace(
                trace,
                self.setup.cluster,
                self.setup.table,
                self.setup.policies(),
                seed=self.seed,
                program=self.workers(),
                most_waiting=live.queue,
                is_interrupted=lambda: interruption.is_asked,
            )
            queries = self.put(store, found, before, stopwatch)
        return Completion(queries, "served live")

    def workers(self, *, is_asked: bool = False) -> WorkerSource:
        """Return where the workers come from.

        Args:
            is_asked: Whether somebody reads the answers.
        """
        workers, folder = self.parts.cluster.workers, self.point.folder
        return worker_source(self.spec.live, workers, self.setup.table, self.seed, folder, self.tell, is_asked=is_asked)

    def put(self, store: Store, found: LiveRun, load_before: tuple[float, float, float], stopwatch: Stopwatch) -> int:
        """Store a live run and return the number of measured queries."""
        parts, live = self.parts, self.spec.live
        found = replace(found, result=_measured(found.result, parts.measure))
        elsewhere = "" if live.remote is None else " of other machines"
        circumstances = {
            "engine": "live",
            "engine_reason": f"served by {parts.cluster.workers} {live.workers} workers{elsewhere}",
            **stopwatch.circumstances(),
            "machine_state": {"load_before": load_before, "load_after": os.getloadavg(), **_machine()},
            "live": {
                **facts(found),
                "serves": dict(found.serves),
                "differences": differences(self.setup.table, found.serves),
            },
            "folder": str(self.point.folder),
        }
        put_run(
            store,
            self.id,
            found.result,
            self.identity,
            circumstances,
            "requests",
            {LIVE_REQUESTS: _requests(found), LIVE_BATCHES: _batches(found.log), LIVE_LOG: _log(found.log)},
            (Outcome.REJECTED, Outcome.CANCELLED),
        )
        return found.result.queries


def _measured(result: Result, measure: Measure) -> Result:
    """Return the result with metrics of a part of the run, which ends with the run if that was interrupted in it.

    Raises:
        ServingError: The run was interrupted before that part.
        NoArrivalsError: No query arrived in it.
    """
    duration_ns = result.trace.duration_ns
    if measure.from_ns >= duration_ns:
        ended = f"{duration_ns / NS_PER_S:.1f} s; measure.from_s is {measure.from_ns / NS_PER_S:g}"
        raise ServingError("live run", "ended before the part that is measured", ended, "nothing of it is stored")
    is_cut = measure.to_ns is not None and measure.to_ns > duration_ns
    return result.measured(replace(measure, to_ns=None) if is_cut else measure)


def _machine() -> dict[str, Any]:
    """Return what the timing of a live run depends on: cores, scheduler, clock."""
    scheduler = {getattr(os, name): name for name in ("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR") if hasattr(os, name)}
    clock = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    return {
        "cores": usable_cores(),
        "scheduler": scheduler.get(os.sched_getscheduler(0), "other") if hasattr(os, "sched_getscheduler") else "",
        "clock": clock.read_text().strip() if clock.is_file() else time.get_clock_info("monotonic").implementation,
    }


def _ints(values: Iterable[int]) -> pa.Array:
    """Return instants or numbers, null for what never happened."""
    array = np.fromiter(values, dtype=np.int64)
    return pa.array(array, mask=array < 0)


def _requests(run: LiveRun) -> pa.Table:
    count = len(run.log.arrival_ns)
    ids = {"request": (pa.array(run.request_ids), "id that the client gave its request")} if run.request_ids else {}
    return arrow_table(
        "live_requests/1",
        intended_ns=(_ints(run.intended_ns[:count].tolist()), "arrival in the trace, ns from its start"),
        sent_ns=(_ints(run.sent_ns[:count].tolist()), "sent by the load generator, ns"),
        received_ns=(_ints(run.log.arrival_ns), "received by the router, ns"),
        answered_ns=(_ints(run.log.answered_ns), "answered by the router, served or not, ns; null: never"),
        client_ns=(_ints(run.answered_ns[:count].tolist()), "answer received by the load generator, ns; null: never"),
        place=(_ints(run.log.place), "number in the order of all queues; null: turned away"),
        batch=(_ints(run.result.batch.tolist()), "number of its batch; null: none"),
        **ids,
    )


def _batches(log: LiveLog) -> pa.Table:
    rows = log.batches
    return arrow_table(
        "live_batches/1",
        expected_ns=(_ints(one.expected_ns for one in rows), "time that it was expected to take, ns"),
        sent_ns=(_ints(one.sent_ns for one in rows), "handed to the connection of the worker, ns from the start"),
        read_ns=(_ints(one.read_ns for one in rows), "read by the worker, ns; null: lost"),
        begun_ns=(_ints(one.begun_ns for one in rows), "start of the forward pass, ns; null: lost"),
        ended_ns=(_ints(one.ended_ns for one in rows), "end of the forward pass, ns; null: lost"),
        finish_ns=(_ints(one.finish_ns for one in rows), "answer, or failure of the worker, at the router, ns"),
    )


def _log(log: LiveLog) -> pa.Table:
    """Return a row for each report, and one for each instant without any."""
    rows: list[tuple[int, str, int, int, int]] = []
    for at_ns, completed, recovered, failed, cancelled in log.instants:
        found = [("completed", worker, batch, -1) for worker, batch in completed]
        found += [("recovered", worker, -1, -1) for worker in recovered]
        found += [("failed", worker, -1, -1) for worker in failed]
        found += [("cancelled", -1, -1, query) for query in cancelled]
        rows += [(at_ns, *one) for one in found or [("none", -1, -1, -1)]]
    instants, events, workers, batches, queries = zip(*rows, strict=True)
    return arrow_table(
        "live_log/1",
        at_ns=(_ints(instants), "instant that was settled, ns from the start"),
        event=(pa.array(events).dictionary_encode(), "completed, recovered, failed, cancelled or none"),
        worker=(_ints(workers), "the worker; null: none"),
        batch=(_ints(batches), "the batch that was completed; null: none"),
        query=(_ints(queries), "the query that was cancelled, by its place; null: none"),
    )
