"""Clients that train as one computation come to the weights that they come to one after the other, up to rounding."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from torch import nn  # noqa: E402 - after torch is known to be there

from federated.aggregation import QFedAvg  # noqa: E402
from federated.algorithms import FedDyn, FedNova, FedProx, Scaffold  # noqa: E402
from federated.assignment import RandomAssignment  # noqa: E402
from federated.compression import TopK  # noqa: E402
from federated.context import TrainingContext  # noqa: E402
from federated.costs import CostModel  # noqa: E402
from federated.job import FederatedJob  # noqa: E402
from federated.local import LocalSettings, train  # noqa: E402
from federated.partition import Dirichlet, Iid  # noqa: E402
from federated.programs import Aggregator, Trainer  # noqa: E402
from federated.vectorized import VectorizedClients, check_vectorized, train_together  # noqa: E402
from sim.base.errors import DataError, SpecError, TrainingError  # noqa: E402
from supernet.data.digits import Digits  # noqa: E402
from supernet.data.source import Examples  # noqa: E402
from supernet.families import CnnSmall, OfaResNetSmall  # noqa: E402
from supernet.families.cnn import ConvNet  # noqa: E402
from supernet.family import build  # noqa: E402
from supernet.training.objective import CROSS_ENTROPY  # noqa: E402
from tests.federated.quadratic import clients, run  # noqa: E402
from tests.topology import cases  # noqa: E402
from topology.expansion import expand  # noqa: E402

PLAN = expand(cases.classical(), clients(1, 1, 1, 1))


def job_of(partition: Any = Iid(), **more: Any) -> FederatedJob:  # noqa: B008 - a value
    datasets = [worker.dataset for worker in PLAN.workers if worker.dataset is not None]
    context = TrainingContext(Digits(train=200), partition, CnnSmall(width=4, hidden=16), datasets, 7)
    return FederatedJob(context, CostModel(context), 3, **more)


def owners(trainer: type[Trainer] = Trainer, **settings: Any) -> dict[str, Any]:
    fields = [(name, Any, value) for name, value in settings.items()]
    return {"trainer": make_dataclass("Client", fields, bases=(trainer,), eq=False), "aggregator": Aggregator}


def model(job: FederatedJob, programs: dict[str, Any]) -> dict[str, Any]:
    report = run(PLAN, programs, job)
    state: dict[str, Any] = report.results["aggregator/0"]["state"]
    losses = [entry.fields["loss"] for entry in report.log if entry.kind == "update"]
    return {**state, "losses": torch.tensor(losses), "ends": torch.tensor(report.end_ns)}


class Watched(VectorizedClients):
    """Notes how many clients trained together."""

    def __init__(self, job: FederatedJob) -> None:
        super().__init__(job.context.network)
        self.counts: list[int] = []

    def train_with(self, wanted: Any) -> None:
        before = len(self._waiting)
        super().train_with(wanted)
        self.counts.append(before - len(self._waiting))


@pytest.mark.parametrize(
    ("job", "programs", "counts"),
    [
        (job_of(), {"epochs": 2, "batch": 16}, {4}),
        (job_of(algorithm=FedProx(pull=0.5)), {"momentum": 0.9, "decay": 0.01, "batch": 7}, {4}),
        (job_of(), {"optimizer": "adamw", "rate": 0.01, "decay": 0.1}, {4}),
        (job_of(algorithm=FedNova()), {"batch": 24}, {4}),
        (job_of(algorithm=FedDyn()), {"batch": 24, "momentum": 0.5}, {4}),
        (job_of(algorithm=FedDyn(), assignment=RandomAssignment()), {"batch": 20}, {1, 2}),
        (job_of(algorithm=Scaffold()), {"decay": 0.01}, {4}),
        (job_of(aggregation=QFedAvg(1.0, 0.1)), {"epochs": 2}, {4}),
        (job_of(assignment=RandomAssignment(), compression=TopK(0.2)), {"batch": 20}, {1, 2}),
        (job_of(Dirichlet(0.5)), {}, {1}),
    ],
)
def test_together_is_as_one_after_the_other(job: FederatedJob, programs: dict[str, Any], counts: set[int]) -> None:
    together = Watched(job)
    apart, at_once = (model(replace(job, pool=pool), owners(**programs)) for pool in (None, together))
    assert set(together.counts) == counts
    assert sum(together.counts) == 4 * 3
    for name, part in apart.items():
        torch.testing.assert_close(at_once[name], part, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_vectorized_is_refused() -> None:
    for loss, is_simulated, is_personal, reason in (
        ("mse_loss", True, False, "only possible with cross entropy"),
        ("cross_entropy", False, False, "only possible in virtual time"),
        ("cross_entropy", True, True, "parameters that stay with each client"),
    ):
        with pytest.raises(SpecError, match=reason):
            check_vectorized(loss, is_simulated, is_personal)


def test_networks_in_which_examples_or_chance_meet_are_refused() -> None:
    with pytest.raises(SpecError, match=r"vectorized: not possible with batch norm \(.*bn"):
        VectorizedClients(build(OfaResNetSmall(), seed=1))
    random: Any = SimpleNamespace(model=nn.Sequential(nn.Dropout(0.1)), assembly=SimpleNamespace(norms={}))
    with pytest.raises(SpecError, match=r"vectorized: not possible with dropout \(0\)"):
        VectorizedClients(random)


@dataclass(eq=False)
class Own(Trainer):
    """A client with a loss of its own."""

    def objective(self, network: nn.Module, batch: Examples) -> torch.Tensor:
        return super().objective(network, batch)


def test_a_loss_of_ones_own_is_refused() -> None:
    job = job_of()
    with pytest.raises(SpecError, match="vectorized: not possible with a loss or a training step of a client's own"):
        run(PLAN, owners(Own), replace(job, pool=VectorizedClients(job.context.network)))


class Texts(nn.Module):
    """Tells the next of as many words as a line has."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(6, 4), nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.words(x).cumsum(1))


def test_texts_are_trained_as_texts_and_padding_does_not_count() -> None:
    network: Any = SimpleNamespace(model=Texts())
    network.actuate = lambda _subnet: network.model
    parameters = dict(network.model.named_parameters())
    initial, shapes = copied(parameters), {name: tuple(part.shape) for name, part in parameters.items()}
    lines = torch.randint(6, (3, 5, 7), generator=torch.Generator().manual_seed(1))
    padded = lines[:, :, 1:].masked_fill(torch.arange(6) > 1 + torch.arange(15).reshape(3, 5, 1) % 5, -100)
    shards = [Examples((own,), labels) for own, labels in zip(lines[:, :, :-1], padded, strict=True)]
    settings, seeds = LocalSettings(epochs=2, batch=2), [(1, 2, number) for number in range(3)]
    objective = SimpleNamespace(losses=CROSS_ENTROPY)
    own = replace(settings, objective=lambda net, batch: Trainer.objective(cast("Trainer", objective), net, batch))
    together = train_together(network, "", parameters, shards, settings, 0.0, [{}] * 3, seeds)
    for shard, seed, found in zip(shards, seeds, together, strict=True):
        for chosen in (settings, own):  # a loss of each token is the same
            for name, part in parameters.items():
                part.data.copy_(initial[name])
            alone = train(network, "", parameters, shapes, shard, chosen, 0.0, {}, seed)
            torch.testing.assert_close(found.delta, alone.delta, rtol=1e-5, atol=1e-6)
            assert (found.loss, found.squared_loss) == pytest.approx((alone.loss, alone.squared_loss))


def copied(parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: part.detach().clone() for name, part in parameters.items()}


def trained(job: FederatedJob, labels: list[int]) -> None:
    context, subnet = job.context, job.context.space.largest.id
    shards = [Examples((torch.rand(4, 1, 8, 8),), torch.tensor(own)) for own in ([0, 1, 2, 3], labels)]
    seeds = [(1, 2, 3), (1, 2, 4)]
    train_together(context.network, subnet, context.parameters, shards, LocalSettings(), 0.0, [{}, {}], seeds)


@pytest.mark.parametrize("label", [10, -1, -100])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=f"label out of range \\({label}\\)"):
        trained(job_of(), [0, 1, label, 3])


def test_a_network_that_looks_at_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = ConvNet.forward
    monkeypatch.setattr(ConvNet, "forward", lambda own, x: forward(own, x if x.sum() > 0 else -x))
    with pytest.raises(TrainingError, match="vectorized: not possible with this network"):
        trained(job_of(), [0, 1, 2, 3])
