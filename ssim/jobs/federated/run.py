"""Federated trainings and what is stored of them: `<results>/<name>/seed<seed>-<hash>/`.

    progress.pt          during training: the run in mid-flight, and its rounds so far
    supernet.pt          the final weights; of independent groups, supernet-<worker>.pt for all but the first
    rounds.parquet       round, worker, time, loss and further statistics of each round
    progress.parquet     round, worker, time, subnet, accuracy on the validation examples
    traffic.parquet      round, time, channel, messages and bytes since the beginning
    parties.parquet      round, aggregator, who was selected; loss, weight, seconds and bytes of its update
    events.parquet       other events: missing, late, refused, bypassed, ...
    spans.parquet        the time line of each worker in the first rounds, for few workers
    clients.parquet      accuracy of each client on its own held-out examples, if it is measured
    personal.pt          the parameters that stayed with each client, if any
    holdings.parquet     examples of each class and client
    manifest.json        identity, summary and environment; a training without it is incomplete
    accuracies.parquet   test accuracy of the calibrated subnets

In virtual time a run is stored in mid-flight every few rounds (`checkpoint`), with all messages and computations that
are under way, so that nothing depends on when it was stored. In real time it is stored as it was after a round.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from federated.assignment import LargestAssignment
from federated.context import TrainingContext, examples_by_class
from federated.costs import CostModel
from federated.job import FederatedJob
from federated.pool import TrainingPool
from federated.state import weighted_sum
from federated.vectorized import VectorizedClients
from sim.base.errors import SsimError
from sim.base.streams import stream
from sim.base.whole_file import translate_os_errors, whole_file
from ssim.extras import require
from ssim.files.deployment_file import read_deployment
from ssim.files.topology_file import tables_of
from ssim.jobs.federated.parts import FederatedParts, described_own, described_source
from ssim.jobs.federated.progress import FederatedProgress, check_complete, diverged_workers, holding_rows, write_rows
from ssim.jobs.federated.spec import FederatedSpec
from ssim.jobs.identity import described, own_code
from ssim.jobs.job import Completion
from ssim.jobs.training.run import Trained, torch_facts
from ssim.results.environment import Stopwatch
from topology.rests import unrestable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssim.jobs.job import ExecutionOptions, Watch
    from ssim.results.store import Store
    from supernet.training.objective import Metric
    from topology.checkpoints import Checkpoints
    from topology.engine import Engine
    from topology.report import RunReport

    Row = dict[str, Any]

_PLUGS = ("partition", "family", "algorithm", "assignment", "maxnet", "privacy", "compression", "aggregation")

_MAX_SPANS = 200
"""With more workers than this, no time line is recorded."""
RECORDED = 10
"""After so many rounds no more is added to the time line."""
REAL_PATIENCE_S = 3600.0
RESUMES = "the same command resumes after round {}"
KILLED = "a process in which clients trained was killed (out of memory?); from then on they trained one by one"


@dataclass(frozen=True)
class FederatedRun(Trained[FederatedSpec, FederatedParts]):
    """One federated training with one seed."""

    command: ClassVar[str] = "ssim train FILE"

    @property
    def watched(self) -> tuple[str, ...]:
        """The subnets whose accuracy is measured during training."""
        space, count = self.parts.family.space, self.spec.evaluation.subnets
        return tuple(subnet.id for subnet in ([space.largest] if count == 1 else space.linspace(count)))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the weights, own code by its hashes."""
        spec, parts = self.spec, self.parts
        plugs = {name: getattr(parts, name) for name in _PLUGS}
        return {
            "schema": "federated-run/2",
            "seed": self.seed,
            "topology": parts.canonical,
            "engine": spec.engine,
            "data": described_source(parts.source),
            **{name: None if plug is None else described(plug) for name, plug in plugs.items()},
            "rounds": spec.rounds,
            "gmacs_per_s": spec.gmacs_per_s,
            "evaluation": spec.evaluation.model_dump(exclude={"held_out"}),
            **({"held_out": spec.evaluation.held_out} if spec.evaluation.held_out else {}),
            **({"personal": spec.personal} if spec.personal else {}),
            **({"own": {id_: described_own(own) for id_, own in parts.own.items()}} if parts.own else {}),
            **({"vectorized": True} if spec.vectorized else {}),
            **({} if spec.loss == "cross_entropy" else {"loss": spec.loss}),
            **({} if parts.metric_name == "accuracy" else {"metric": parts.metric_name}),
            "code": self.own(self._plugs),
        }

    def is_subnet_trained(self, subnet: str) -> bool:
        """Return whether clients may have trained the subnet of an id."""
        largest = self.parts.family.space.largest.id
        return subnet == largest or not isinstance(self.parts.assignment, LargestAssignment)

    @property
    def _plugs(self) -> list[Any]:
        parts = self.parts
        rules = [rule for rule in (parts.loss, parts.metric) if callable(rule)]
        plugs = [*(getattr(parts, name) for name in _PLUGS), *parts.owners.values(), *rules]
        return [parts.source, *parts.own.values(), *plugs]

    @property
    def metric(self) -> Metric | None:
        """What models are scored by, in place of the accuracy."""
        return self.parts.metric

    @property
    def provenance(self) -> dict[str, str]:
        """Where the accuracies come from, and the metric, if they are not accuracies."""
        name = self.parts.metric_name
        return super().provenance | ({} if name == "accuracy" else {"metric": name})

    def files(self) -> set[Path]:
        """Return the files that it is made from and that lie below its folder, or are named relative to it."""
        folder, use = self.point.folder, self.spec.topology.use
        own = own_code(self._plugs, folder)
        paths = {folder / name for _, _, name in tables_of(self.spec.topology.model_dump())}
        if (folder / use).is_file() and not Path(use).is_absolute():
            paths.add(folder / use)
        return own | {Path(os.path.normpath(path)) for path in paths}

    @cached_property
    def context(self) -> TrainingContext:
        """Data and networks."""
        parts = self.parts
        datasets = [worker.dataset for worker in parts.topology.plan.workers if worker.dataset is not None]
        return TrainingContext(
            parts.source,
            parts.partition,
            parts.family,
            datasets,
            self.seed,
            parts.own,
            self.spec.evaluation.held_out,
            self.spec.personal,
            parts.loss,
            parts.metric,
        )

    @cached_property
    def job(self) -> FederatedJob:
        """The training, apart from its topology."""
        parts = self.parts
        return FederatedJob(
            self.context,
            CostModel(self.context, self.spec.gmacs_per_s),
            self.spec.rounds,
            parts.algorithm,
            parts.assignment,
            parts.maxnet,
            parts.privacy,
            parts.compression,
            self.watched,
            self.spec.evaluation.every,
            parts.aggregation,
        )

    def engine(self, patience_s: float | None, options: ExecutionOptions, *, record: bool) -> Engine:
        """Return the engine that the file asks for."""
        if self.spec.engine == "sim":
            from topology.engines.sim import SimEngine

            return SimEngine(record=record) if patience_s is None else SimEngine(patience_s, record)
        if self.spec.engine == "local":
            from topology.engines.local import LocalEngine

            return LocalEngine(default_timeout_s=patience_s or REAL_PATIENCE_S, record=record)
        require("ray")
        from topology.engines.ray import RayEngine

        path, plan = options.deployment, self.parts.topology.plan
        sites = () if path is None else read_deployment(path, plan)[0]
        timeout_s = patience_s or REAL_PATIENCE_S
        terms: Any = {"address": options.address, "sites": sites, "files": self.needed_files}
        return RayEngine(default_timeout_s=timeout_s, record=record, **terms)

    @property
    def needed_files(self) -> tuple[Path, ...]:
        """The files that each process of a cluster needs: the user's own code, and the file of `data`."""
        data = Path(getattr(self.parts.source, "path", ""))
        read = own_code(self._plugs, self.point.folder) | ({data} if data.is_file() else set())
        return tuple(sorted(path.resolve() for path in read))

    @property
    def why_not_stored(self) -> str:
        """Why it can't be stored while it runs, or ""."""
        if self.spec.engine == "sim":
            return ""
        return unrestable(self.parts.owners, self.parts.topology.faults)

    def execute(self, store: Store, how: Any, watch: Watch | None) -> Completion:
        """Train, from the beginning or from the last checkpoint, calibrate, and store both. The caller holds the store.

        Args:
            store: The results of the job.
            how: The `ExecutionOptions`.
            watch: Called with each round, as a mapping: round, worker, time in seconds, accuracies, bytes, and more.

        Raises:
            SsimError: Data or progress are damaged, a program failed, or no client is left to train.
        """
        options: ExecutionOptions = how
        torch.set_num_threads(options.threads or 1)  # with one, a training comes out the same in every process
        warning = "" if self.is_trained(store) else self._train(store, watch, options)
        self.calibrate(store, options, splits=self.context.splits)
        return Completion(warning=warning)

    def _train(self, store: Store, watch: Watch | None, options: ExecutionOptions) -> str:
        """Train, and store all but the accuracies; return a warning for the user, or ""."""
        pool, stopwatch, folder = self._pool(options), Stopwatch(), store.folder / self.id
        path = folder / "progress.pt"
        progress = FederatedProgress.read(path, self.id) if path.exists() else FederatedProgress()
        resumed = progress.done
        # What a client has of its own is opened where it runs.
        held = {} if self.parts.own else {id_: examples_by_class(of.labels) for id_, of in self.context.shards.items()}
        try:
            report, refused = self._run(progress, path, watch, options, pool)
            check_complete(report, self.spec.rounds)
        except SsimError as error:
            if progress.stored and self.spec.engine != "sim":
                error.hint = "; ".join(filter(None, (error.hint, RESUMES.format(progress.stored))))
                error.args = (*error.args[:3], error.hint)
            raise
        with translate_os_errors(folder):
            folder.mkdir(exist_ok=True)
        diverged = diverged_workers(report, self.context.initial_state())
        progress.store(folder, report)
        if self.parts.own:
            held = {e.fields["party"]: e.fields["examples"] for e in report.log if e.kind == "holds"}
            held = dict(sorted(held.items()))
        write_rows(folder / "holdings.parquet", holding_rows(held))
        if report.spans:
            write_rows(folder / "spans.parquet", [span._asdict() for span in report.spans])
        holders = self._models(folder, report, diverged)
        self._personal(folder, report)
        fixed = sorted(file.name for file in folder.glob("*.parquet") if file.name != "accuracies.parquet")
        growing = sorted(file.name for file in folder.glob("*.pt") if file != path)
        facts: dict[str, Any] = {"resumed_after": resumed, **({"no_checkpoints": refused} if refused else {})}
        if isinstance(pool, TrainingPool):
            facts["processes"] = options.processes
        if options.deployment is not None:
            facts["deployment"] = options.deployment.read_text(encoding="utf-8")
        circumstances = {**stopwatch.circumstances(), **torch_facts(), **facts}
        store.finish(self.id, self.identity, {**progress.summary(report), **holders}, fixed, growing, circumstances)
        with translate_os_errors(path):
            path.unlink(missing_ok=True)
        return KILLED if isinstance(pool, TrainingPool) and pool.is_broken else ""

    def _pool(self, options: ExecutionOptions) -> TrainingPool | VectorizedClients | None:
        """Return how clients train at once; None for one after the other.

        Raises:
            SpecError: The network can't be vectorized.
        """
        if self.spec.vectorized:
            return VectorizedClients(self.context.network)
        is_parallel = self.spec.engine == "sim" and options.processes > 1
        return TrainingPool(self.job, options.processes) if is_parallel else None

    def _run(
        self,
        progress: FederatedProgress,
        path: Path,
        watch: Watch | None,
        options: ExecutionOptions,
        pool: TrainingPool | VectorizedClients | None,
    ) -> tuple[RunReport, str]:
        """Run the workers, from the beginning or from the last checkpoint.

        Returns:
            Their report, and why no checkpoints could be stored, or "".
        """
        spec, topology, job = self.spec, self.parts.topology, replace(self.job, pool=pool)
        is_new = progress.run is None or spec.engine == "sim"  # spans of real time are not stored
        record_spans = is_new and len(topology.plan) <= _MAX_SPANS
        engine = self.engine(spec.patience_s, options, record=record_spans)

        def store(run: bytes) -> None:
            progress.run = run
            progress.stored = checkpoints.rounds if engine.is_real_time and checkpoints else progress.done
            with translate_os_errors(path):
                path.parent.mkdir(exist_ok=True)
            stored = progress.until(progress.stored) if engine.is_real_time else progress
            stored.write(path, self.id)

        stores = spec.checkpoint is not None and not self.why_not_stored
        checkpoints = job.checkpoints(store, progress.run, spec.checkpoint or 1) if stores else None

        observe = self._observer(progress, checkpoints, watch, is_real_time=engine.is_real_time)
        with pool if isinstance(pool, TrainingPool) else nullcontext():
            report = engine.run(
                topology.plan,
                job.programs(self.parts.owners),
                seed=int(stream(self.seed, "segment", 0).integers(2**31)),
                faults=topology.faults,
                watch=observe,
                checkpoints=checkpoints,
            )
        progress.put_spare()
        if spec.engine == "ray":
            progress.add_traffic(report.by_round, report.traffic)
            last_ns = max(1e9 * row["time_s"] for row in progress.rounds if row["round"] <= RECORDED)
            report.spans = [span for span in report.spans if span.end_ns <= last_ns]  # other processes stop it later
        if checkpoints is not None:
            return report, checkpoints.refused
        return report, self.why_not_stored if spec.checkpoint is not None else ""

    def _observer(
        self, progress: FederatedProgress, checkpoints: Checkpoints | None, watch: Watch | None, *, is_real_time: bool
    ) -> Callable[[RunReport], None]:
        """Return what is called with each event: it records rounds, and says when the training is stored."""
        is_scattered = self.spec.engine == "ray"  # what other processes have sent is known some time later
        every, rounds = self.spec.checkpoint or 1, self.spec.rounds

        def observe(report: RunReport) -> None:
            entry, traffic = report.log[-1], None if is_scattered else report.traffic
            if entry.kind == "round":
                row = progress.add_round(entry, traffic)
                if watch:
                    watch(self, row)
            elif entry.kind == "completed":
                progress.add_completed(entry, traffic)
            report.recording &= progress.done < RECORDED
            if checkpoints is None:
                return
            if not is_real_time:
                checkpoints.due |= progress.done >= progress.stored + every
            elif entry.kind == "round" and progress.done % every == 0 and progress.done < rounds:
                checkpoints.wanted = progress.done

        return observe

    def _personal(self, folder: Path, report: RunReport) -> None:
        """Store the parameters that stayed with each client, by its worker and their name."""
        own = {id_: memory["personal"] for id_, memory in report.results.items() if "personal" in memory}
        if own:
            with whole_file(folder / "personal.pt") as unfinished:
                torch.save(own, unfinished)

    def _models(self, folder: Path, report: RunReport, diverged: list[str]) -> Row:
        """Store the models of all servers; of clients that have one each, their mean; without those that diverged."""
        data_roles, results = self.context.data_roles, report.results
        models = {id_: results[id_]["state"] for id_ in results if "state" in results[id_] and id_ not in diverged}
        own = {id_: state for id_, state in models.items() if id_.rpartition("/")[0] in data_roles}
        summary: Row = {"holders": sorted(models), **({"diverged": diverged} if diverged else {})}
        if own:
            first = next(iter(own.values()))
            mean = weighted_sum(((1 / len(own), state) for state in own.values()), first)
            apart = max(float((s[name] - part).abs().max()) for s in own.values() for name, part in mean.items())
            summary["apart"] = apart  # largest deviation of a client's weight from the mean
            models = {"": mean}
        for number, (id_, state) in enumerate(models.items()):
            name = "supernet.pt" if not number else f"supernet-{id_.replace('/', '-')}.pt"
            self.save(folder, self.context.load_state(state), self.context.splits, name)
        return summary
