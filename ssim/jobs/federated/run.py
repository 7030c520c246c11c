"""Runs of federated training and what is stored of them: `<results>/<name>/seed<seed>-<run id>/`.

    progress.pt          while it is trained: what all workers remember since the last rest, to go on from
    supernet.pt          the weights in the end; of federations that share nothing, supernet-<worker>.pt for the others
    rounds.parquet       round, worker, time, loss and what else was noted when a round was done
    progress.parquet     round, worker, time, subnet, accuracy on the examples for validation
    traffic.parquet      round, time, channel, messages and bytes since the beginning
    events.parquet       what else happened: who was missing, late, refused, bypassed, and so on
    spans.parquet        of virtual time and not too many workers: how each spent it up to the first rest
    holdings.parquet     how many examples of each class each party holds
    manifest.json        what decided the weights, and what else was there; without it, it is not trained yet
    accuracies.parquet   of the subnets that were calibrated, on the test examples

Training goes from rest to rest: so many rounds, then all workers end, and what they remember is stored. A training that
is not interrupted rests in the same places, so that one that was comes to the same weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from federated.decentralised import mixed
from federated.job import Job
from federated.workshop import Workshop
from sim.base.errors import SpecError, TrainingError
from sim.base.streams import stream
from sim.base.whole_file import told, whole_file
from sim.tables.accuracies import Accuracies
from ssim.jobs.federated.progress import Progress, write_rows
from ssim.jobs.training.run import asked_among
from ssim.jobs.training.stored import StoredTraining
from ssim.results.environment import Stopwatch
from supernet import checkpoint
from supernet.training.evaluation import SubnetEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ssim.jobs.federated.file import FederatedPlan
    from supernet.network import Supernet
    from topology.engine import Engine
    from topology.io import IO
    from topology.parties import Fault

    State = dict[str, torch.Tensor]
    Row = dict[str, Any]

_MOST_SPANS = 200
"""Of more workers than this, how they spent the first rounds is not recorded."""
REAL_PATIENCE_S = 3600.0


@dataclass(frozen=True)
class FederatedRun(StoredTraining):
    """One federated training with one seed.

    Attributes:
        plan: What the file asks for.
        seed: The seed of this repeat.
        results: Where results go.
    """

    plan: FederatedPlan

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the weights, but the code."""
        spec, plan = self.plan.spec, self.plan

        def kind(asked: Mapping[str, Any] | None, plug: Any) -> Any:
            return None if asked is None else {"kind": asked.get("kind"), **asdict(plug)}

        return {
            "schema": "federated-run/1",
            "seed": self.seed,
            "topology": plan.description,
            "engine": spec.engine,
            "data": {"kind": spec.data["kind"], **plan.source.identity()},
            "partition": kind(spec.partition, plan.partition),
            "family": kind(spec.family, plan.family),
            "algorithm": kind(spec.algorithm, plan.algorithm),
            "subnets": kind(spec.subnets, plan.rule),
            "maxnet": kind(spec.maxnet, plan.maxnet),
            "privacy": kind(spec.privacy, plan.privacy),
            "compression": kind(spec.compression, plan.compression),
            "rounds": spec.rounds,
            "checkpoint": spec.checkpoint,
            "gmacs_per_s": spec.gmacs_per_s,
            "evaluation": spec.evaluation.model_dump(),
        }

    @cached_property
    def workshop(self) -> Workshop:
        """Data and networks."""
        plan = self.plan
        datasets = [worker.dataset for worker in plan.topology.plan.workers if worker.dataset is not None]
        return Workshop(plan.source, plan.partition, plan.family, datasets, self.seed, plan.spec.gmacs_per_s)

    @cached_property
    def job(self) -> Job:
        """The training, apart from its topology."""
        plan, roles = self.plan, self.plan.topology.tag.roles
        return Job(
            self.workshop,
            plan.spec.rounds,
            plan.algorithm,
            plan.rule,
            plan.maxnet,
            plan.privacy,
            plan.compression,
            frozenset(role.name for role in roles if role.data),
            plan.watched,
            plan.spec.evaluation.every,
        )

    def engine(self, patience_s: float | None, *, record: bool) -> Engine:
        """Return the engine that the file asks for."""
        if self.plan.spec.engine == "sim":
            from topology.engines.sim import SimEngine

            return SimEngine(record=record) if patience_s is None else SimEngine(patience_s, record)
        if self.plan.spec.engine == "local":
            from topology.engines.local import LocalEngine

            return LocalEngine(patience_s=patience_s or REAL_PATIENCE_S, record=record)
        try:
            from topology.engines.ray import RayEngine
        except ImportError as error:
            raise SpecError("engine", "needs Ray", str(error), "pip install -e '.[ray]'") from error
        return RayEngine(patience_s=patience_s or REAL_PATIENCE_S, record=record)

    def train(self, on_round: Callable[[Row], None]) -> None:
        """Train, from the beginning or from the last rest, and store what comes of it. The caller holds the store.

        Args:
            on_round: Told each round: round, worker, time in seconds, accuracies, bytes, and what else was noted.

        Raises:
            SsimError: Data or progress are damaged, a program failed, or nobody is left to train.
        """
        watch, path = Stopwatch(), self.folder / "progress.pt"
        progress = Progress.read(path, self.id) if path.exists() else Progress()
        resumed = progress.done
        self._write_holdings()
        while progress.done < self.plan.spec.rounds:
            self._segment(progress, on_round)
            progress.write(path, self.id)
        progress.store(self.folder)
        holders = self._models(progress)
        manifest = {
            "schema": "federated-manifest/1",
            "identity": self.identity,
            "summary": {**progress.summary(), **holders},
            "circumstances": {
                **watch.circumstances(),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "resumed_after": resumed,
            },
        }
        with whole_file(self.folder / "manifest.json") as unfinished:
            unfinished.write_text(json.dumps(manifest, indent=1, default=str) + "\n", encoding="utf-8")
        with told(path):
            path.unlink(missing_ok=True)

    def _segment(self, progress: Progress, on_round: Callable[[Row], None]) -> None:
        """Train to the next rest, and take down what happened."""
        spec, plan = self.plan.spec, self.plan.topology.plan
        stop = spec.rounds if spec.checkpoint is None else min(spec.rounds, progress.done + spec.checkpoint)
        heard = 0

        def told_round(io: IO, noted: Row) -> None:
            nonlocal heard
            heard += 1
            on_round(progress.row(io.now_ns, io.worker.id, noted, io.stage.report))

        job = replace(self.job.rested(progress.memory, stop), told=told_round)
        chance = int(stream(self.seed, "segment", progress.segment).integers(2**31))
        faults = [_later(fault, progress.clock_ns / 1e9) for fault in self.plan.topology.faults]
        record = spec.engine == "sim" and not progress.segment and len(plan) <= _MOST_SPANS
        report = self.engine(spec.patience_s, record=record).run(
            plan, job.programs(self.plan.owners), seed=chance, faults=faults
        )
        rounds = [entry for entry in report.log if entry.kind == "round"]
        if not rounds:
            why = ", ".join(sorted({entry.kind for entry in report.log})) or "nothing was noted"
            raise TrainingError(f"round {progress.done + 1}", "no round was done: nobody is left to train", why)
        if not heard:  # they were elsewhere, and it is told only now
            for entry in rounds:
                on_round(progress.row(entry.at_ns, entry.worker, entry.fields, report))
        progress.rest(report, rounds)
        if record:
            write_rows(self.folder / "spans.parquet", [span._asdict() for span in report.spans])

    def _write_holdings(self) -> None:
        rows: list[Row] = []
        for party, shard in self.workshop.shards.items():
            counts = torch.bincount(shard.labels, minlength=int(self.workshop.splits.train.labels.max()) + 1)
            rows += [{"party": party, "label": n, "examples": int(count)} for n, count in enumerate(counts)]
        write_rows(self.folder / "holdings.parquet", rows)

    def _models(self, progress: Progress) -> Row:
        """Store the models of all holders; parties that have one each are taken together."""
        data_roles = self.job.data_roles
        held = {id_: memory["state"] for id_, memory in progress.memory.items() if "state" in memory}
        own = {id_: state for id_, state in held.items() if id_.rpartition("/")[0] in data_roles}
        more: Row = {"holders": sorted(held)}
        if own:
            first = next(iter(own.values()))
            mean = mixed(((1 / len(own), state) for state in own.values()), first)
            apart = max(float((s[name] - part).abs().max()) for s in own.values() for name, part in mean.items())
            more["apart"] = apart  # by how much a weight of a party is off the mean, at most
            held = {"": mean}
        for number, (id_, state) in enumerate(held.items()):
            name = "supernet.pt" if not number else f"supernet-{id_.replace('/', '-')}.pt"
            self._save(self.folder / name, self.workshop.write(state))
        return more

    def _save(self, path: Path, trained: Supernet) -> None:
        size = self.workshop.splits.train.inputs[0].shape[-1]
        checkpoint.save(path, trained, self.plan.family, run=self.id, seed=self.seed, size=size)

    def calibrate(self) -> Accuracies:
        """Calibrate the subnets that the file asks for, measure them on the test examples, and store both.

        Raises:
            SsimError: It has not been trained, or something of it is damaged.
        """
        path, asked = self.folder / "accuracies.parquet", self.plan.spec.calibration
        if path.exists():
            return Accuracies.read(path)
        trained = checkpoint.load(self.folder / "supernet.pt").supernet
        splits = self.workshop.splits
        measuring = SubnetEvaluator(trained, splits.train.first(asked.examples), asked.batch)
        subnets = asked_among(self.plan.family.space, asked.subnets)
        rows = tuple(measuring.evaluate(subnet, splits.test, self.seed) for subnet in subnets)
        self._save(self.folder / "supernet.pt", trained)
        provenance = {
            "supernet": f"{self.plan.spec.name}, run {self.id}",
            "family": self.plan.family.space.family,
            "data": f"{self.plan.spec.data['kind']}, test split",
            "statistics": f"{asked.examples} examples for training of all parties, {asked.batch} at a time",
        }
        found = Accuracies(rows, provenance)
        found.write(path)
        return found


def _later(fault: Fault, seconds: float) -> Fault:
    """Return what befalls a worker as seen from some seconds later."""

    def moved(when: float | None) -> float | None:
        return None if when is None else max(0.0, when - seconds)

    ends = fault.slow_until_s is not None and fault.slow_until_s <= seconds
    return replace(
        fault,
        join_s=max(0.0, fault.join_s - seconds),
        leave_s=moved(fault.leave_s),
        die_s=moved(fault.die_s),
        slow=1.0 if ends else fault.slow,
        slow_from_s=max(0.0, fault.slow_from_s - seconds),
        slow_until_s=moved(fault.slow_until_s),
    )
