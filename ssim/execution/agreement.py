"""A stored live run is read again, replayed and simulated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.comparison import MeasuredBatches, RunFigures, renumbered, simulations
from serving.log import Instant, replay_log
from sim.base.errors import StoreError
from sim.traces.trace import Trace
from ssim.jobs.experiment.live import LIVE_BATCHES, LIVE_LOG, LIVE_REQUESTS
from ssim.jobs.experiment.run import ExperimentRun
from ssim.jobs.identity import hash_of
from ssim.jobs.reading import job_of
from ssim.results.record import BATCHES, REQUESTS, read_output

if TYPE_CHECKING:
    import pandas as pd

    from ssim.results.store import Store


class Agreement(NamedTuple):
    """What a live run and the simulator agree in.

    Attributes:
        live: The figures of the live run, of the queries that were admitted.
        client: SLO attainment as clients saw it, of all queries, also those that were rejected; None where only they
            know.
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
        queries: requests.parquet and live_requests.parquet side by side, without queries that were rejected.
        rejected: How many queries were rejected.
        batches: batches.parquet and live_batches.parquet side by side; `code` is the number of the subnet.
        log: live_log.parquet.
    """

    run: ExperimentRun
    manifest: dict[str, Any]
    queries: pd.DataFrame
    rejected: int
    batches: pd.DataFrame
    log: pd.DataFrame

    @classmethod
    def read(cls, store: Store, run_id: str) -> StoredLiveRun:
        """Return a stored run.

        Raises:
            StoreError: It is not a live run, it is damaged, or what it was made from has changed since.
            SpecError: Its file can't be read any more.
        """
        location, manifest = str(store.folder / run_id), store.manifest(run_id)
        if manifest is None or LIVE_LOG not in manifest["outputs"]:
            raise StoreError(location, "is not a live run", "", "`ssim run FILE --live` makes one")
        run = _simulated(store, run_id, Path(manifest["circumstances"]["folder"]))
        for key in ("cluster", "latency_table", "policy"):
            if hash_of(run.identity[key]) != hash_of(manifest["identity"][key]):
                raise StoreError(location, "has changed since the run", key, "run it again")
        names = (REQUESTS, LIVE_REQUESTS, BATCHES, LIVE_BATCHES, LIVE_LOG)
        requests, live_requests, batches, live_batches, log = (
            read_output(store, run_id, name).to_pandas() for name in names
        )
        queries = live_requests.assign(
            slo_ns=requests["deadline_ns"] - requests["arrival_ns"], outcome=requests["outcome"]
        )
        live_batches = live_batches.assign(**{name: batches[name] for name in ("start_ns", "worker", "size", "lost")})
        codes = {subnet.id: number for number, subnet in enumerate(run.setup.table.subnets)}
        admitted = queries[queries["place"].notna()].reset_index(drop=True)
        coded = live_batches.assign(code=batches["subnet"].astype(str).map(codes))
        return cls(run, manifest, admitted, len(queries) - len(admitted), coded, log)

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
        columns = (done["start_ns"], done["code"], done["size"], done["expected_ns"], forward)
        start, subnet, size, expected, took = (column.to_numpy(dtype=np.int64) for column in columns)
        overhead = done["finish_ns"].to_numpy(dtype=np.int64) - start - took
        of_query = renumbered(self.queries["batch"].fillna(-1).to_numpy(dtype=np.int64), answered.tolist())
        return MeasuredBatches(start, subnet, size, expected, took, overhead, of_query)

    def replays(self) -> bool:
        """Return whether a scheduler that is fed with the log decides the same again, to the last batch."""
        run, cluster = self.run, self.run.parts.cluster
        receipts = list(zip(self.queries["received_ns"], self.queries["slo_ns"], strict=True))
        slo_ns = self.manifest["circumstances"]["live"]["slo_ns"]
        setup = run.setup
        decisions, queue = replay_log(
            self._instants(), receipts, slo_ns, cluster, setup.table, setup.policy(), run.seed
        )
        found = [(at_ns, start.worker, start.subnet, start.size) for at_ns, start in decisions]
        columns = ("start_ns", "worker", "code", "size")
        stored = list(zip(*(self.batches[name].tolist() for name in columns), strict=True))
        same_queries = np.array_equal(np.maximum(queue.batch_of_query(), -1), self.queries["batch"].fillna(-1))
        return found == stored and same_queries

    def agreement(self) -> Agreement:
        """Return what the run and the simulator agree in."""
        queries, run, measured = self.queries, self.run, self.measured
        is_served = bool(queries["intended_ns"].isna().all())  # clients of others keep their times for themselves
        intended, received = (
            Trace(
                queries[name].to_numpy(np.int64), queries["slo_ns"].to_numpy(np.int64), int(queries[name].iloc[-1]) + 1
            )
            for name in ("received_ns" if is_served else "intended_ns", "received_ns")
        )
        met = queries["outcome"] == "met"
        accuracy = np.array([subnet.accuracy for subnet in run.setup.table.subnets])
        subnets = self.batches["code"].to_numpy()[queries["batch"][met].astype(int)]
        live = RunFigures(
            "live",
            float(met.mean()),
            float(accuracy[subnets].mean()) if len(subnets) else float("nan"),
            float(self.batches["size"].mean()),
        )
        setup, cluster = run.setup, run.parts.cluster
        steps = simulations(intended, received, measured, cluster, setup.table, setup.policy, run.seed)
        low, middle, high = np.quantile(measured.ratio, (0.05, 0.5, 0.95)).tolist()
        met_at_client = queries["client_ns"] - queries["intended_ns"] <= queries["slo_ns"]  # no answer: not met
        client = None if is_served else int(met_at_client.sum()) / (len(queries) + self.rejected)
        return Agreement(live, client, steps, self.replays(), (middle, low, high))

    def _instants(self) -> list[Instant]:
        found: list[Instant] = []
        for at_ns, rows in self.log.groupby("at_ns", sort=True):
            by_event = {event: rows[rows["event"] == event] for event in ("completed", "recovered", "failed")}
            completed = by_event["completed"]
            pairs = zip(completed["worker"].astype(int), completed["batch"].astype(int), strict=True)
            workers = (tuple(by_event[event]["worker"].astype(int)) for event in ("recovered", "failed"))
            found.append(Instant(int(str(at_ns)), tuple(pairs), *workers))
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
