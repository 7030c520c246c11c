"""Trainings of a supernet and what is stored of them: `<results>/<name>/seed<seed>-<hash>/`.

    progress.pt          while it is trained: the state to resume from
    supernet.pt          weights, and the running statistics of the subnets that were calibrated
    losses.parquet       the loss of each step
    manifest.json        what decided the weights, and what else was there; without it, training has not ended
    accuracies.parquet   of the subnets that were calibrated, on the test examples
    pareto.parquet       of those that a search has found

The identity has a user's own code in it, and not the toolkit's: an update of the toolkit does not undo hours of
training.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from sim.base.errors import DataError, SpecError
from sim.base.whole_file import translate_os_errors, whole_file
from sim.tables.accuracies import Accuracies
from ssim.files.families import code_of_family
from ssim.jobs.identity import described, own_code, sha256
from ssim.jobs.job import Completion, Parts, Run, Spec
from ssim.jobs.training.objective import check_spread
from ssim.jobs.training.parts import TrainingParts
from ssim.jobs.training.spec import CalibrationSpec, TrainingSpec
from ssim.results.environment import Stopwatch
from supernet import checkpoint
from supernet.family import build
from supernet.training.checkpoint import TrainingCheckpoint
from supernet.training.evaluation import SubnetEvaluator
from supernet.training.loop import Training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from sim.tables.accuracies import Accuracy
    from ssim.jobs.job import ExecutionOptions, Watch
    from ssim.results.store import Store
    from supernet.data.source import Splits
    from supernet.network import Supernet
    from supernet.space import SubnetConfig, SubnetSpace
    from supernet.training.loop import Step
    from supernet.training.objective import Metric

    OnSubnet = Callable[[], None]

_OF_IMAGES = 4
"""The dimensions of a convolution's weight."""


@dataclass(frozen=True)
class Trained(Run[Spec, Parts]):
    """A run that trains a supernet: what both kinds of training share."""

    command: ClassVar[str] = "ssim run FILE"

    @property
    def label(self) -> str:
        """The name of the job."""
        return self.name

    @property
    def metric(self) -> Metric | None:
        """What subnets are scored by, in place of the accuracy."""
        return None

    @property
    def calibration(self) -> CalibrationSpec:
        """What is calibrated after training."""
        found: CalibrationSpec = self.point.spec.calibration
        return found

    def own(self, plugs: Iterable[Any]) -> dict[str, list[str]]:
        """Return the hashes of a user's own code that plug-ins are made of."""
        return {"own": sorted(sha256(path) for path in own_code(plugs, self.point.folder))}

    def is_trained(self, store: Store) -> bool:
        """Return whether training has ended."""
        return store.has(self.id)

    def is_stored(self, store: Store) -> bool:
        """Return whether training has ended, and the accuracies that the file asks for are there."""
        if not self.is_trained(store):
            return False
        known = self._accuracies(store)
        wanted = {subnet.id for subnet in asked_among(self.point.parts.family.space, self.calibration.subnets)}
        return known.provenance == self.provenance and wanted <= {row.subnet for row in known.rows}

    def _accuracies(self, store: Store) -> Accuracies:
        """Return the stored accuracies; none where they are damaged, or are not stored yet."""
        try:
            return Accuracies.read(store.folder / self.id / "accuracies.parquet")
        except (OSError, DataError):
            return Accuracies((), {})

    def forget(self, store: Store) -> None:
        """Delete what is stored of the run: it would be resumed.

        Raises:
            StoreError: A file can't be deleted.
        """
        store.forget(self.id)

    def check_trained(self, store: Store) -> None:
        """Check that training has ended.

        Raises:
            SpecError: It has not.
        """
        if not self.is_trained(store):
            raise SpecError(
                self.name, "has not been trained with this seed", str(self.seed), f"train it first: {self.command}"
            )

    def is_subnet_trained(self, subnet: str) -> bool:
        """Return whether steps of the training may have trained the subnet of an id."""
        del subnet
        return True

    @property
    def provenance(self) -> dict[str, str]:
        """Where the accuracies come from."""
        asked = self.calibration
        return {
            "supernet": f"{self.name}, run {self.id}",
            "family": self.point.parts.family.space.family,
            "data": f"{self.point.spec.data['kind']}, test split",
            "statistics": f"{asked.examples} examples for training, {asked.batch} at a time",
        }

    def load(self, store: Store) -> Supernet:
        """Return the trained supernet, on the CPU.

        Raises:
            SpecError: It has not been trained.
            DataError: The file is damaged.
        """
        self.check_trained(store)
        return checkpoint.load(store.folder / self.id / "supernet.pt", self.point.parts.family).supernet

    def save(self, folder: Path, trained: Supernet, splits: Splits, name: str = "supernet.pt") -> None:
        """Store a supernet.

        Raises:
            StoreError: It can't be written.
        """
        size = splits.train.first(1).read().inputs[0].shape[-1]  # the side of images, or the length of texts
        family = self.point.parts.family
        own = code_of_family(family, self.point.folder)
        code = {"code": own} if own else {}
        checkpoint.save(folder / name, trained, family, run=self.id, seed=self.seed, size=size, **code)

    def splits_on(self, device: str) -> Splits:
        """Return the examples on a device.

        Raises:
            SsimError: They are not there, or are damaged.
        """
        found: Splits = self.point.parts.source.splits(self.seed)
        if device == "cpu":
            return found
        return dataclasses.replace(
            found, **{name: getattr(found, name).to(device) for name in ("train", "validation", "test")}
        )

    def calibrate(
        self,
        store: Store,
        options: ExecutionOptions,
        subnets: Sequence[SubnetConfig] = (),
        on_subnet: OnSubnet = lambda: None,
        splits: Splits | None = None,
    ) -> Accuracies:
        """Calibrate subnets, measure them on the test examples, and store both. The caller holds the store.

        Args:
            store: The results of the job.
            options: Where it is computed.
            subnets: Which; none for those that the file asks for. What is stored already is not done again.
            on_subnet: Called after each subnet.
            splits: The examples, where they are at hand.

        Raises:
            SsimError: It has not been trained, or something of it is damaged.
        """
        self.check_trained(store)
        folder = store.folder / self.id
        wanted = subnets or asked_among(self.point.parts.family.space, self.calibration.subnets)
        known = self._accuracies(store)
        is_anew = known.provenance != self.provenance
        known = Accuracies(() if is_anew else known.rows, self.provenance)
        left = [subnet for subnet in wanted if subnet.id not in {row.subnet for row in known.rows}]
        if left:
            splits = splits or self.splits_on(options.device)
            trained = self.load(store).to(options.device)
            if is_anew:
                trained.forget_statistics()
            rows = self.measured(trained, splits, left, on_subnet)
            self.save(folder, trained, splits)
            known = known.merged(rows)
            known.write(folder / "accuracies.parquet")
        ids = {subnet.id for subnet in wanted}
        return Accuracies(tuple(row for row in known.rows if row.subnet in ids), known.provenance)

    def measuring(self, trained: Supernet, splits: Splits) -> SubnetEvaluator:
        """Return what calibrates and measures subnets, as the file says."""
        asked = self.calibration
        return SubnetEvaluator(trained, splits.train.first(asked.examples), asked.batch, self.metric)

    def measured(
        self, trained: Supernet, splits: Splits, subnets: Sequence[SubnetConfig], on_subnet: OnSubnet
    ) -> list[Accuracy]:
        """Return how accurate subnets are on the test examples; they are calibrated then."""
        measuring, rows = self.measuring(trained, splits), list["Accuracy"]()
        for subnet in subnets:
            rows.append(measuring.evaluate(subnet, splits.test, self.seed))
            on_subnet()
        return rows


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step of a training, for who watches.

    Attributes:
        done: Number of steps so far, over all phases.
        total: Number of all steps.
        phase: Index of its phase.
        phases: Number of phases.
        loss: Mean loss of the step.
    """

    done: int
    total: int
    phase: int
    phases: int
    loss: float


@dataclass(frozen=True)
class TrainingRun(Trained[TrainingSpec, TrainingParts]):
    """The training of one supernet with one seed."""

    command: ClassVar[str] = "ssim supernet train FILE"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the weights, files and own code by their hashes.

        Raises:
            DataError: The weights to begin with are not those that the file asks for.
        """
        parts, start = self.parts, None
        if parts.start is not None and self.spec.start is not None:
            start, wanted = {"sha256": sha256(parts.start), "fresh": self.spec.start.fresh}, self.spec.start.sha256
            if wanted not in {None, start["sha256"]}:
                raise DataError(str(parts.start), "SHA-256 mismatch", str(start["sha256"]), str(wanted))
        phases = [{**dataclasses.asdict(phase), "subnets": described(phase.subnets)} for phase in parts.recipe.phases]
        recipe = dataclasses.asdict(parts.recipe) | {"optimizer": described(parts.recipe.optimizer), "phases": phases}
        objective = {"loss": self.spec.loss, "metric": parts.metric_name}
        is_usual = objective == {"loss": "cross_entropy", "metric": "accuracy"}
        return {
            "schema": "training-run/1",
            "seed": self.seed,
            "data": {**described(parts.source), "params": parts.source.identity()},
            "family": described(parts.family),
            "start": start,
            "recipe": recipe,
            "code": self.own(parts.code),
            **({} if is_usual else {"objective": objective}),
        }

    def is_subnet_trained(self, subnet: str) -> bool:
        """Return whether the subnet of an id is open in a phase."""
        space = self.parts.family.space
        found = space.find(subnet)
        return any(found in phase.subspace(space) for phase in self.parts.recipe.phases)

    def files(self) -> set[Path]:
        """Return the files that it is made from and that lie below its folder."""
        parts, folder = self.parts, self.point.folder
        own = own_code(parts.code, folder)
        return own | ({parts.start} if parts.start is not None and parts.start.is_relative_to(folder) else set())

    def execute(self, store: Store, how: Any, watch: Watch | None) -> Completion:
        """Train, from the beginning or from where it was, calibrate, and store both. The caller holds the store.

        Args:
            store: The results of the job.
            how: The `ExecutionOptions`.
            watch: Called with each step as `Stepped`, and with None for each subnet that was calibrated.

        Raises:
            SsimError: Data, weights or progress are not there, damaged or of another layout, or training can't go on.
        """
        options: ExecutionOptions = how
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        splits = self.splits_on(options.device)
        if not self.is_trained(store):
            self._train(store, options, splits, watch)
        self.calibrate(store, options, on_subnet=lambda: watch(self, None) if watch else None, splits=splits)
        return Completion()

    def _train(self, store: Store, options: ExecutionOptions, splits: Splits, watch: Watch | None) -> None:
        stopwatch, folder = Stopwatch(), store.folder / self.id
        path = folder / "progress.pt"
        with translate_os_errors(folder):
            folder.mkdir(exist_ok=True)
        parts, untrained = self.parts, self._untrained(options.device)
        check_spread(parts.source, parts.metric, splits)
        training = Training(untrained, splits.train, parts.recipe, self.seed, self.id, parts.loss, parts.metric)
        start = TrainingCheckpoint.read(path, self.id) if path.exists() else None
        steps = self.parts.recipe.steps(len(splits.train))
        stored = time.monotonic()

        def on_step(step: Step) -> None:
            nonlocal stored
            if time.monotonic() - stored >= options.every_s or step.number + 1 == steps[step.phase]:
                step.checkpoint().write(path)
                stored = time.monotonic()
            if watch:
                done = sum(steps[: step.phase]) + step.number + 1
                watch(self, Stepped(done, sum(steps), step.phase, len(steps), step.loss))

        losses = training.run(on_step, start)
        with whole_file(folder / "losses.parquet") as unfinished:
            phases = [phase for phase, count in enumerate(steps) for _ in range(count)]
            pq.write_table(pa.table({"phase": phases, "loss": losses}), unfinished)
        self.save(folder, training.supernet, splits)
        circumstances = {
            **stopwatch.circumstances(),
            **torch_facts(),
            "device": options.device,
            "resumed": start is not None,
        }
        summary = {"steps": len(losses), "loss": float(losses[-1]) if len(losses) else None}
        store.finish(self.id, self.identity, summary, ["losses.parquet"], ["supernet.pt"], circumstances)
        with translate_os_errors(path):
            path.unlink(missing_ok=True)

    @property
    def metric(self) -> Metric | None:
        """What subnets are scored by, in place of the accuracy."""
        return self.parts.metric

    @property
    def provenance(self) -> dict[str, str]:
        """Where the accuracies come from, and the metric, if they are not accuracies."""
        name = self.parts.metric_name
        return super().provenance | ({} if name == "accuracy" else {"metric": name})

    def save_found(self, store: Store, trained: Supernet, splits: Splits, found: Accuracies) -> None:
        """Store what a search has found, and the supernet with the statistics of it.

        Raises:
            StoreError: It can't be written.
        """
        self.save(store.folder / self.id, trained, splits)
        found.write(store.folder / self.id / "pareto.parquet")

    def _untrained(self, device: str) -> Supernet:
        untrained = self._begun().to(device)
        for weight in untrained.model.parameters():
            if weight.dim() == _OF_IMAGES:  # a quarter faster on a CPU
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return untrained

    def _begun(self) -> Supernet:
        start, family = self.parts.start, self.parts.family
        if start is None or self.spec.start is None:
            return build(family, seed=self.seed)
        if start.suffix != ".safetensors" and checkpoint.read(start).get("schema") == checkpoint.SCHEMA:
            found = checkpoint.load(start, family)
            return found.supernet
        return checkpoint.import_weights(family, start, self.spec.start.fresh, seed=self.seed)


def torch_facts() -> dict[str, Any]:
    """Return what torch adds to the circumstances of a run."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}


def asked_among(space: SubnetSpace, asked: int | tuple[str, ...]) -> list[SubnetConfig]:
    """Return so many subnets of a space, from the smallest to the largest, or those that are named."""
    if isinstance(asked, int):
        return list(space.enumerate()) if space.size <= asked else space.linspace(asked)
    return [space.find(subnet) for subnet in asked]
