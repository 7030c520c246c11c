"""Clients with a quadratic loss, in float64, whose federated training has a closed form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from federated.averaging import Update
from federated.job import FederatedJob
from federated.state import split_controls
from federated.subnet_shapes import SubnetShapes
from ssim.files.topology_file import programs_of, read_topology
from supernet.families import CnnSmall
from topology.deployment import Dataset
from topology.engines.sim import SimEngine

if TYPE_CHECKING:
    from federated.state import State
    from topology.engine import Engine
    from topology.plan import Plan
    from topology.program import Program
    from topology.report import RunReport

FOLDER = Path(__file__).parents[2] / "topologies"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "serving")
SHAPES = {"w": (7,), "b": (2, 3)}
STEPS = 3


@dataclass
class QuadraticContext:
    """A stub of the training context; the optimum of the client of the n-th dataset is at the n-th random weights."""

    datasets: list[Dataset]
    seed: int = 7
    space: Any = field(default_factory=lambda: CnnSmall().space)
    personal: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    loss: str = "cross_entropy"
    has_numbers: bool = False

    @property
    def subnet_shapes(self) -> SubnetShapes:
        return SubnetShapes(SHAPES, {self.space.largest.id: SHAPES})

    @property
    def data_roles(self) -> frozenset[str]:
        return frozenset(dataset.role for dataset in self.datasets)

    @property
    def shards(self) -> dict[str, range]:
        return {dataset.id: range(dataset.size) for dataset in self.datasets}

    def initial_state(self) -> State:
        return {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}

    def optimum(self, id_: str) -> State:
        number = sorted(dataset.id for dataset in self.datasets).index(id_)
        chance = torch.Generator().manual_seed(number)
        return {name: torch.randn(shape, generator=chance, dtype=torch.float64) for name, shape in SHAPES.items()}

    def curvature(self, id_: str) -> float:
        return 1.0 + sorted(dataset.id for dataset in self.datasets).index(id_) % 3

    def accuracies(self, state: State, subnets: Any) -> dict[str, float]:
        return {}


class FixedCosts:
    """A stub of the cost model."""

    def training_s(self, subnet: str, examples: int) -> float:
        return 0.01 * examples

    def averaging_s(self, updates: int) -> float:
        return 0.001


@dataclass(frozen=True, eq=False)
class Quadratic(FederatedJob):
    """A job whose clients do plain gradient steps on their quadratic losses.

    Attributes:
        broken: What some clients send instead, by the id of their dataset.
        local_steps: How many steps some clients take, by the id of their dataset.
    """

    broken: dict[str, Any] = field(default_factory=dict)
    local_steps: dict[str, int] = field(default_factory=dict)

    def train(self, dataset: Dataset, task: Any, memory: dict[str, Any], settings: Any) -> Update:
        weights, received = split_controls(task.state)
        own = memory.setdefault("algorithm", {})
        memory["trained"] = memory.get("trained", 0) + 1
        correction, delta = self.algorithm.gradient_correction(own, received), {}
        for name, begin in weights.items():
            w = begin.clone()
            for _ in range(self.local_steps.get(dataset.id, STEPS)):
                gradient = self.context.curvature(dataset.id) * (w - self.context.optimum(dataset.id)[name])
                w = w - settings.rate * (
                    gradient + self.algorithm.proximal_mu * (w - begin) + correction.get(name, 0.0)
                )
            delta[name] = w - begin
        if dataset.id in self.broken:
            delta = self.broken[dataset.id](delta)
        steps = float("nan")
        if self.algorithm.normalizes_steps:
            steps = self.local_steps.get(dataset.id, STEPS)
            delta = {name: part / steps for name, part in delta.items()}
        extra = self.algorithm.after_training(own, received, delta, STEPS * settings.rate)
        loss = float(len(memory))
        weights_by_subnet = {task.subnet: self.weight(dataset)}
        facts = {"loss": loss, "squared_loss": 1.0, "base": task.version, "steps": steps}
        return Update({**delta, **extra}, weights_by_subnet, **facts)


def clients(*sizes: int, group: str = "default", first: int = 0) -> list[Dataset]:
    return [Dataset(f"d{first + n:02}", "trainer", group, size) for n, size in enumerate(sizes)]


def job_of(plan: Plan, rounds: int = 3, **more: Any) -> Quadratic:
    datasets = [worker.dataset for worker in plan.workers if worker.dataset is not None]
    stubs: Any = (QuadraticContext(datasets), FixedCosts())
    return Quadratic(*stubs, rounds, **more)


def run(plan: Plan, owners: dict[str, type[Program]], job: Any, engine: Engine | None = None, **more: Any) -> RunReport:
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
