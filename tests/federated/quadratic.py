"""Parties whose loss is a parabola, in float64: what federated training makes of them can be worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from federated.averaging import Update, split
from federated.extents import Extents
from federated.job import Job
from ssim.files.topology_file import programs_of, read_topology
from supernet.families import CnnSmall
from topology.deployment import Dataset
from topology.engines.sim import SimEngine

if TYPE_CHECKING:
    from federated.averaging import State
    from topology.engine import Engine
    from topology.plan import Plan
    from topology.program import Program
    from topology.report import RunReport

FOLDER = Path(__file__).parents[2] / "topologies"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "serving")
SHAPES = {"w": (7,), "b": (2, 3)}
STEPS = 3


@dataclass
class Parabolas:
    """Stands for a workshop; the party of the n-th dataset has its optimum at n-th random weights."""

    datasets: list[Dataset]
    seed: int = 7
    space: Any = field(default_factory=lambda: CnnSmall().space)

    @property
    def extents(self) -> Extents:
        return Extents(SHAPES, {self.space.largest.id: SHAPES})

    @property
    def shards(self) -> dict[str, range]:
        return {dataset.id: range(dataset.size) for dataset in self.datasets}

    def initial(self) -> State:
        return {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}

    def optimum(self, id_: str) -> State:
        number = sorted(dataset.id for dataset in self.datasets).index(id_)
        chance = torch.Generator().manual_seed(number)
        return {name: torch.randn(shape, generator=chance, dtype=torch.float64) for name, shape in SHAPES.items()}

    def curvature(self, id_: str) -> float:
        return 1.0 + sorted(dataset.id for dataset in self.datasets).index(id_) % 3

    def seconds(self, subnet: str, examples: int) -> float:
        return 0.01 * examples

    def averaging_seconds(self, updates: int) -> float:
        return 0.001

    def accuracies(self, state: State, subnets: Any) -> dict[str, float]:
        return {}


@dataclass(frozen=True, eq=False)
class Quadratic(Job):
    """A job whose parties do plain gradient steps on their parabolas.

    Attributes:
        broken: What some parties send instead, by the id of their dataset.
    """

    broken: dict[str, Any] = field(default_factory=dict)

    def train(self, dataset: Dataset, task: Any, memory: dict[str, Any], settings: Any) -> Update:
        weights, sent = split(task.state)
        own = memory.setdefault("algorithm", {})
        memory["trained"] = memory.get("trained", 0) + 1
        shift, change = self.algorithm.shift(own, sent), {}
        for name, begin in weights.items():
            w = begin.clone()
            for _ in range(STEPS):
                gradient = self.workshop.curvature(dataset.id) * (w - self.workshop.optimum(dataset.id)[name])
                w = w - settings.rate * (gradient + self.algorithm.pull * (w - begin) + shift.get(name, 0.0))
            change[name] = w - begin
        if dataset.id in self.broken:
            change = self.broken[dataset.id](change)
        beside = self.algorithm.trained(own, sent, change, STEPS * settings.rate)
        loss = float(len(memory))
        return Update(
            {**change, **beside}, {task.subnet: self.weight(dataset)}, loss=loss, energy=1.0, base=task.version
        )


def parties(*sizes: int, group: str = "default", first: int = 0) -> list[Dataset]:
    return [Dataset(f"d{first + n:02}", "trainer", group, size) for n, size in enumerate(sizes)]


def job_of(plan: Plan, rounds: int = 3, **more: Any) -> Quadratic:
    held = [worker.dataset for worker in plan.workers if worker.dataset is not None]
    return Quadratic(Parabolas(held), rounds, **more)  # type: ignore[arg-type]  # it is all that these programs need


def run(plan: Plan, owners: dict[str, type[Program]], job: Job, engine: Engine | None = None, **more: Any) -> RunReport:
    return (engine or SimEngine()).run(plan, job.programs(owners), **more)


def shipped(name: str) -> tuple[Plan, dict[str, type[Program]]]:
    """A shipped topology: who there is, and the class of each role."""
    found = read_topology(FOLDER / f"{name}.yaml")
    return found.plan, programs_of(FOLDER / f"{name}.yaml", found)


def state_of(report: RunReport, worker: str) -> State:
    state: State = report.results[worker]["state"]
    return state


def far(one: State, other: State) -> float:
    """By how much two states differ at most."""
    assert set(one) == set(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one)
