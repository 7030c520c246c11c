"""A stored live run is read again, replayed and simulated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.comparison import MeasuredBatches, RunFigures, renumbered, simulations
from serving.log import Instant, replay_log
from sim.base.errors import StoreError
from sim.engine.kinds import pool_of_workers
from sim.engine.run_metrics import NEVER_NS, Measure
from sim.traces.trace import Trace
from ssim.jobs.experiment.live import LIVE_BATCHES, LIVE_LOG, LIVE_REQUESTS
from ssim.jobs.experiment.run import ExperimentRun
from ssim.jobs.identity import hash_of
from ssim.jobs.reading import job_of
from ssim.results.record import BATCHES, REQUESTS, read_output

if TYPE_CHECKING:
    import pandas as pd

    from ssim.results.store import Store


_EVENTS = ("completed", "recovered", "failed", "cancelled")


class Agreement(NamedTuple):
    """What a live run and the simulator agree in.

    Attributes:
        live: The figures of the live run, of the queries that joined a queue and were not cancelled.
        client: SLO attainment as clients saw it, of all queries that are measured, also those that were rejected; None
            where only they know.
        steps: Those of the simulations.
        replays: Whether the log gives the same decisions again.
        ratio: Median, and 5th and 95th percentile of time taken over time expected.
    """

    live: RunFigures
    client: float | None
    steps: list[RunFigures]
    replays: bool
    ratio: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class StoredLiveRun:
    """A live run as it is stored, with the run of the simulator that corresponds to it.

    Attributes:
        run: The simulated run, of which nothing has to be stored.
        manifest: The manifest of the live run.
        queries: requests.parquet and live_requests.parquet side by side, without queries that joined no queue.
        rejected: How many queries were rejected before they joined a queue.
        cancelled: How many were cancelled.
        batches: batches.parquet and live_batches.parquet side by side; `code` is the number of the subnet.
        log: live_log.parquet.
    """

    run: ExperimentRun
    manifest: dict[str, Any]
    queries: pd.DataFrame
    rejected: int
    cancelled: int
    batches: pd.DataFrame
    log: pd.DataFrame

    @classmethod
    def read(cls, store: Store, run_id: str) -> StoredLiveRun:
        """Return a stored run.

        Raises:
            StoreError: It is not stored, not a live run, or damaged; or what it was made from has changed since.
            SpecError: Its file can't be read any more.
        """
        location, manifest = str(store.folder / run_id), store.manifest(run_id)
        if manifest is None:
            hint = "`ssim run FILE --live` serves anew"
            raise StoreError(location, "the run is not stored", store.failure(run_id) or "", hint)
        if LIVE_LOG not in manifest["outputs"]:
            raise StoreError(location, "is not a live run", "", "`ssim run FILE --live` makes one")
        run = _simulated(store, run_id, Path(manifest["circumstances"]["folder"]))
        for key in ("cluster", "latency_table", "policy", "queues", "queue_policies"):
            if hash_of(run.identity.get(key)) != hash_of(manifest["identity"].get(key)):
                raise StoreError(location, "has changed since the run", key, "run it again")
        names = (REQUESTS, LIVE_REQUESTS, BATCHES, LIVE_BATCHES, LIVE_LOG)
        requests, live_requests, batches, live_batches, log = (
            read_output(store, run_id, name).to_pandas() for name in names
        )
        queries = live_requests.assign(
            slo_ns=requests["deadline_ns"] - requests["arrival_ns"], outcome=requests["outcome"], queue=0
        )
        if places := {queue.name: place for place, queue in enumerate(run.setup.cluster.queues)}:
            queries["queue"] = requests["class"].astype(str).map(places)
        live_batches = live_batches.assign(**{name: batches[name] for name in ("start_ns", "worker", "size", "lost")})
        codes = {subnet.id: number for number, subnet in enumerate(run.setup.cluster.subnets(run.setup.table))}
        admitted = queries[queries["place"].notna()].reset_index(drop=True)
        queue_of = admitted[admitted["batch"].notna()].groupby("batch")["queue"].first()
        coded = live_batches.assign(code=batches["subnet"].astype(str).map(codes), queue=queue_of)
        cancelled = int((admitted["outcome"] == "cancelled").sum())
        return cls(run, manifest, admitted, len(queries) - len(admitted), cancelled, coded, log)

    @property
    def measured(self) -> MeasuredBatches:
        """The batches that were answered.

        Raises:
            StoreError: There is none.
        """
        answered = ~self.batches["lost"].to_numpy()
        done = self.batches[answered]
        if done.empty:
            raise StoreError(self.run.label, "no batch was answered", "", "run it again")
        forward = done["ended_ns"] - done["begun_ns"]
        columns = (done["start_ns"], done["queue"], done["code"], done["size"], done["expected_ns"], forward)
        start, queue, subnet, size, expected, took = (column.to_numpy(dtype=np.int64) for column in columns)
        overhead = done["finish_ns"].to_numpy(dtype=np.int64) - start - took
        of_query = renumbered(self.wanted["batch"].fillna(-1).to_numpy(dtype=np.int64), answered.tolist())
        pool_of = np.array(pool_of_workers(self.run.setup.cluster.pools_by_queue(self.run.setup.table)[0]))
        pool = pool_of[done["worker"].to_numpy(dtype=np.int64)]
        return MeasuredBatches(start, queue, pool, subnet, size, expected, took, overhead, of_query)

    @property
    def wanted(self) -> pd.DataFrame:
        """The queries that were not cancelled: those of the simulations, whose clients have patience."""
        return self.queries[self.queries["outcome"] != "cancelled"]

    @property
    def measure(self) -> Measure:
        """The part of the run that the figures are about."""
        asked, last_ns = self.run.parts.measure, int(self.queries["received_ns"].iloc[-1])
        return Measure(asked.from_ns, None if asked.to_ns is None or asked.to_ns > last_ns else asked.to_ns)

    def replays(self) -> bool:
        """Return whether a scheduler that is fed with the log decides the same again, to the last batch."""
        run, cluster = self.run, self.run.setup.cluster
        receipts = list(zip(*(self.queries[name].tolist() for name in ("received_ns", "slo_ns", "queue")), strict=True))
        live = self.manifest["circumstances"]["live"]
        slos_ns = live.get("queue_slos_ns", [live["slo_ns"]])
        decisions, queues = replay_log(
            self._instants(), receipts, slos_ns, cluster, run.setup.table, run.setup.policies(), run.seed
        )
        pools = cluster.pools_by_queue(run.setup.table)
        pool_of = pool_of_workers(pools[0])
        found = [
            (at_ns, start.worker, pools[start.queue][pool_of[start.worker]].rows[start.subnet], start.size, start.queue)
            for at_ns, start in decisions
        ]
        columns = ("start_ns", "worker", "code", "size", "queue")
        stored = list(zip(*(self.batches[name].tolist() for name in columns), strict=True))
        same_queries = np.array_equal(np.maximum(queues.batch_of_query(), -1), self.queries["batch"].fillna(-1))
        return found == stored and same_queries

    def agreement(self) -> Agreement:
        """Return what the run and the simulator agree in."""
        run, measured, measure = self.run, self.measured, self.measure
        is_served = bool(self.queries["intended_ns"].isna().all())  # clients of others keep their times for themselves
        intended, received = (
            self._trace(name) for name in ("received_ns" if is_served else "intended_ns", "received_ns")
        )
        cluster = run.setup.cluster
        steps = simulations(
            intended, received, measured, cluster, run.setup.table, run.setup.policies, run.seed, measure
        )
        low, middle, high = np.quantile(measured.ratio, (0.05, 0.5, 0.95)).tolist()
        client = None if is_served else self.manifest["circumstances"]["live"]["slo_attainment_client"]
        return Agreement(self._figures(), client, steps, self.replays(), (middle, low, high))

    def _trace(self, column: str) -> Trace:
        """Return the queries that were not cancelled as a trace, with their instants of a column."""
        queries, names = self.wanted, tuple(queue.name for queue in self.run.setup.cluster.queues)
        arrivals, slos = (queries[name].to_numpy(np.int64) for name in (column, "slo_ns"))
        codes = queries["queue"].to_numpy(np.uint16) if names else None
        return Trace(arrivals, slos, int(arrivals[-1]) + 1, class_codes=codes, class_names=names)

    def _figures(self) -> RunFigures:
        """Return the figures of the live run."""
        limits = (self.measure.from_ns, self.measure.to_ns or NEVER_NS)
        queries = self.wanted[self.wanted["received_ns"].between(*limits, inclusive="left")]
        batches = self.batches[self.batches["start_ns"].between(*limits, inclusive="left")]
        met = queries["outcome"] == "met"
        accuracy = np.array([subnet.accuracy for subnet in self.run.setup.cluster.subnets(self.run.setup.table)])
        subnets = self.batches["code"].to_numpy()[queries["batch"][met].astype(int)]
        mean_accuracy = float(accuracy[subnets].mean()) if len(subnets) else float("nan")
        return RunFigures("live", float(met.mean()), mean_accuracy, float(batches["size"].mean()))

    def _instants(self) -> list[Instant]:
        found: list[Instant] = []
        for at_ns, rows in self.log.groupby("at_ns", sort=True):
            by_event = {event: rows[rows["event"] == event] for event in _EVENTS}
            completed = by_event["completed"]
            pairs = zip(completed["worker"].astype(int), completed["batch"].astype(int), strict=True)
            recovered, failed = (tuple(by_event[event]["worker"].astype(int)) for event in ("recovered", "failed"))
            cancelled = tuple(by_event["cancelled"]["query"].astype(int)) if "query" in rows else ()
            found.append(Instant(int(str(at_ns)), tuple(pairs), recovered, failed, cancelled))
        return found


def _simulated(store: Store, run_id: str, folder: Path) -> ExperimentRun:
    """Return the run of the simulator that a stored live run corresponds to."""
    index = store.index()
    (row,) = (row for row in index["runs"] if row["id"] == run_id)
    job = job_of("experiment/1", index["content"], folder)
    known: list[ExperimentRun] = list(job.runs)
    return next(
        ExperimentRun(run.point, row["seed"], run.number)
        for run in known
        if run.label == row["policy"] and run.swept == row["swept"]
    )
