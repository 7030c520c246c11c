"""Training runs and what is stored of them: `<results>/<name>/seed<seed>-<run id>/`.

    progress.pt          while it is trained: what is done, to go on from
    supernet.pt          weights, and the running statistics of the subnets that were calibrated
    losses.parquet       the loss of each step
    manifest.json        what decided the weights, and what else was there; without it, it is not trained yet
    accuracies.parquet   of the subnets that were calibrated, on the test examples
    pareto.parquet       of those that a search has found

The run id is a hash of all that decides the weights but the code: an edit of it does not undo hours of training.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from sim.base.errors import DataError, SpecError
from sim.base.whole_file import told, whole_file
from sim.tables.accuracies import Accuracies
from sim.traces.reading import sha256_of
from ssim.jobs.training.stored import StoredTraining
from ssim.results.environment import Stopwatch
from supernet import checkpoint
from supernet.family import build
from supernet.training.checkpoint import TrainingCheckpoint
from supernet.training.evaluation import SubnetEvaluator
from supernet.training.loop import Training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.tables.accuracies import Accuracy
    from ssim.jobs.training.file import TrainingPlan
    from supernet.data.source import Splits
    from supernet.network import Supernet
    from supernet.space import SubnetConfig, SubnetSpace
    from supernet.training.loop import Step

    Tell = Callable[[int], None]

_OF_IMAGES = 4
"""The dimensions of a convolution's weight."""


@dataclass(frozen=True)
class TrainingRun(StoredTraining):
    """The training of one supernet with one seed.

    Attributes:
        plan: What the file asks for.
        seed: The seed of this repeat.
        results: Where results go.
        device: Where it is trained; decides nothing but what rounding does.
    """

    plan: TrainingPlan
    device: str = "cpu"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the weights, files by their hashes.

        Raises:
            DataError: The weights to begin with are not those that the file asks for.
        """
        spec, recipe, start = self.plan.spec, self.plan.recipe, None
        if self.plan.start is not None and spec.start is not None:
            start, wanted = {"sha256": sha256_of(self.plan.start), "fresh": spec.start.fresh}, spec.start.sha256
            if wanted not in {None, start["sha256"]}:
                raise DataError(str(self.plan.start), "has another sha256", str(start["sha256"]), str(wanted))
        phases = zip(spec.phases, recipe.phases, strict=True)
        return {
            "schema": "training-run/1",
            "seed": self.seed,
            "data": {"kind": spec.data["kind"], **self.plan.source.identity()},
            "family": _plug(spec.family, self.plan.family),
            "start": start,
            "recipe": {
                **dataclasses.asdict(recipe),
                "optimizer": _plug(spec.optimizer, recipe.optimizer),
                "phases": [
                    {**dataclasses.asdict(phase), "subnets": _plug(asked.subnets, phase.subnets)}
                    for asked, phase in phases
                ],
            },
        }

    @cached_property
    def splits(self) -> Splits:
        """The examples.

        Raises:
            SsimError: They are not there, or are damaged.
        """
        found = self.plan.source.splits(self.seed)
        parts = (part.to(self.device) for part in (found.train, found.validation, found.test))
        return type(found)(*parts)

    def train(self, on_step: Callable[[Step], None], every_s: float) -> None:
        """Train, from the beginning or from where it was, and store the supernet. The caller holds the store.

        Args:
            on_step: Told each step.
            every_s: What is done is stored as often, in seconds, and at the end of each phase.

        Raises:
            SsimError: Data, weights or progress are not there, damaged or of another layout, or training can't go on.
        """
        watch, path = Stopwatch(), self.folder / "progress.pt"
        training = Training(self._untrained(), self.splits.train, self.plan.recipe, self.seed, self.id)
        start = TrainingCheckpoint.read(path, self.id) if path.exists() else None
        steps = self.plan.recipe.steps(len(self.splits.train))
        stored = time.monotonic()

        def told_step(step: Step) -> None:
            nonlocal stored
            if time.monotonic() - stored >= every_s or step.number + 1 == steps[step.phase]:
                step.checkpoint().write(path)
                stored = time.monotonic()
            on_step(step)

        losses = training.run(told_step, start)
        with whole_file(self.folder / "losses.parquet") as unfinished:
            phases = [phase for phase, count in enumerate(steps) for _ in range(count)]
            pq.write_table(pa.table({"phase": phases, "loss": losses}), unfinished)
        self._save(training.supernet)
        manifest = {
            "schema": "training-manifest/1",
            "identity": self.identity,
            "circumstances": {
                **watch.circumstances(),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "device": self.device,
                "resumed": start is not None,
            },
        }
        with whole_file(self.folder / "manifest.json") as unfinished:
            unfinished.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        with told(path):
            path.unlink(missing_ok=True)

    def check_trained(self) -> None:
        """Pass if there is a trained supernet.

        Raises:
            SpecError: There is none.
        """
        if not self.is_trained:
            right = "train it first: ssim supernet train FILE"
            raise SpecError(self.plan.spec.name, "has not been trained with this seed", str(self.seed), right)

    def load(self) -> Supernet:
        """Return the trained supernet.

        Raises:
            SpecError: It has not been trained.
            DataError: The file is damaged.
        """
        self.check_trained()
        return checkpoint.load(self.folder / "supernet.pt").supernet.to(self.device)

    def measuring(self, trained: Supernet) -> SubnetEvaluator:
        """Return what calibrates and measures subnets, as the file says."""
        asked = self.plan.spec.calibration
        return SubnetEvaluator(trained, self.splits.train.first(asked.examples), asked.batch)

    def calibrate(self, subnets: Sequence[SubnetConfig] = (), tell: Tell = lambda _more: None) -> Accuracies:
        """Calibrate subnets, measure them on the test examples, and store both. The caller holds the store.

        Args:
            subnets: Which; none for those that the file asks for. What is stored already is not done again.
            tell: Told of each that has been done: 1 more.

        Raises:
            SsimError: It has not been trained, or something of it is damaged.
        """
        wanted, path = subnets or asked_subnets(self.plan), self.folder / "accuracies.parquet"
        known = Accuracies.read(path) if path.exists() else Accuracies((), {})
        is_anew = known.provenance != self.provenance
        known = Accuracies(() if is_anew else known.rows, self.provenance)
        left = [subnet for subnet in wanted if subnet.id not in {row.subnet for row in known.rows}]
        if left:
            trained = self.load()
            if is_anew:
                trained.forget_statistics()
            rows = self.measured(trained, left, tell)
            self._save(trained)
            known = known.merged(rows)
            known.write(path)
        ids = {subnet.id for subnet in wanted}
        return Accuracies(tuple(row for row in known.rows if row.subnet in ids), known.provenance)

    def measured(self, trained: Supernet, subnets: Sequence[SubnetConfig], tell: Tell) -> list[Accuracy]:
        """Return how accurate subnets are on the test examples; they are calibrated then."""
        measuring, rows = self.measuring(trained), list["Accuracy"]()
        for subnet in subnets:
            rows.append(measuring.evaluate(subnet, self.splits.test, self.seed))
            tell(1)
        return rows

    @property
    def provenance(self) -> dict[str, str]:
        """Where the accuracies come from."""
        asked = self.plan.spec.calibration
        return {
            "supernet": f"{self.plan.spec.name}, run {self.id}",
            "family": self.plan.family.space.family,
            "data": f"{self.plan.spec.data['kind']}, test split",
            "statistics": f"{asked.examples} examples for training, {asked.batch} at a time",
        }

    def save_found(self, trained: Supernet, found: Accuracies) -> None:
        """Store what a search has found, and the supernet with the statistics of it.

        Raises:
            StoreError: It can't be written.
        """
        self._save(trained)
        found.write(self.folder / "pareto.parquet")

    def _save(self, trained: Supernet) -> None:
        size = self.splits.train.inputs[0].shape[-1]  # the side of images, or the length of texts
        checkpoint.save(self.folder / "supernet.pt", trained, self.plan.family, run=self.id, seed=self.seed, size=size)

    def _untrained(self) -> Supernet:
        untrained = self._begun().to(self.device)
        for weight in untrained.model.parameters():
            if weight.dim() == _OF_IMAGES:  # a quarter faster on a CPU
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return untrained

    def _begun(self) -> Supernet:
        plan = self.plan
        if plan.start is None or plan.spec.start is None:
            return build(plan.family, seed=self.seed)
        if plan.start.suffix != ".safetensors" and checkpoint.read(plan.start).get("schema") == checkpoint.SCHEMA:
            found = checkpoint.load(plan.start)
            if found.family != plan.family:
                raise DataError(str(plan.start), "is of another family", str(found.family), str(plan.family))
            return found.supernet
        return checkpoint.import_weights(plan.family, plan.start, plan.spec.start.fresh, seed=self.seed)


def _plug(asked: dict[str, Any], plug: Any) -> dict[str, Any]:
    """Return what names an object and all its parameters, those that were not given included."""
    return {"kind": asked["kind"], **dataclasses.asdict(plug)}


def asked_subnets(plan: TrainingPlan) -> list[SubnetConfig]:
    """Return the subnets that a file wants to be calibrated."""
    return asked_among(plan.family.space, plan.spec.calibration.subnets)


def asked_among(space: SubnetSpace, asked: int | tuple[str, ...]) -> list[SubnetConfig]:
    """Return so many subnets of a space, from the smallest to the largest, or those that are named."""
    if isinstance(asked, int):
        return list(space.enumerate()) if space.size <= asked else space.linspace(asked)
    return [space.find(subnet) for subnet in asked]
