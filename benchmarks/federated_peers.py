"""The same federated training by others: a loop written by hand, pfl-research, and Flower's simulation.

All get the same network, the same examples, dealt out to the same clients, and the same settings. Whom they choose in a
round, and in which order a client takes its examples, is each one's own chance. Each tells how long it took, without
set-up and a first round, and the weights it came to.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ssim.jobs.reading import read_job
from supernet.families.cnn import ConvNet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from federated.job import FederatedJob
    from ssim.jobs.federated.run import FederatedRun

State = dict[str, torch.Tensor]
Examples = tuple[torch.Tensor, torch.Tensor]

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "federated" / "digits.yaml"
ON_RAY = 3
"""What has to start Ray is measured in one repeat of so many."""
SETTLING_S = 2.0
"""How long Ray's processes are given to end, so that the next one to be measured has the machine alone."""
PULL_S = 0.002
"""How often Flower's server looks for answers; by default every 0.1 s, and a round takes no less."""


class Outcome(NamedTuple):
    """What came of a training: wall time in seconds from the end of the first round, and the weights."""

    seconds: float
    state: State


@dataclass(frozen=True)
class Task:
    """What all train: scikit-learn's digits in equal parts, by federated averaging.

    Attributes:
        clients: Number of clients.
        chosen: How many of them train in a round.
        rounds: How many rounds are timed, after a first one that is not.
        epochs: How many times a client goes through its examples.
        batch: Examples in a step.
        rate: The learning rate.
        seed: Of the weights, of who gets what, and of all chance that takes one.
    """

    clients: int
    chosen: int
    rounds: int
    epochs: int = 2
    batch: int = 8
    rate: float = 0.1
    seed: int = 7

    @property
    def trainings(self) -> int:
        """How often a client trains, in all."""
        return self.chosen * self.rounds

    @cached_property
    def run(self) -> FederatedRun:
        """The training as `ssim train` does it."""
        config = f"{{epochs: {self.epochs}, batch: {self.batch}, rate: {self.rate}}}"
        everybody = self.chosen == self.clients
        select = "all" if everybody else f"{{use: random, params: {{k: {self.chosen}}}}}"
        settings = (
            f"topology.datasets={{trainer: {{default: {self.clients}}}}}",
            f"topology.roles={{trainer: {{config: {config}}}}}",
            f"topology.channels={{param: {{select: {{aggregator: {select}}}}}}}",
            "data={kind: digits, validation: 37}",  # 1,400 are left to train on
            "partition=iid",
            f"rounds={self.rounds}",
        )
        found: FederatedRun = read_job(EXPERIMENT, (*settings, f"seed={self.seed}", "repeats=1")).runs[0]
        return found

    @cached_property
    def job(self) -> FederatedJob:
        """The same, without measuring accuracies on the way."""
        return replace(self.run.job, evaluated=())

    @cached_property
    def shards(self) -> tuple[Examples, ...]:
        """The examples of each client: images, float32 (examples, 1, 8, 8), and labels, int64 (examples,)."""
        read = (part.read() for part in self.job.context.shards.values())
        return tuple((part.inputs[0], part.labels) for part in read)

    @property
    def initial(self) -> State:
        """The weights that all begin with."""
        return self.job.context.initial_state()

    def network(self) -> ConvNet:
        """Return a plain network with these weights."""
        network = Network(1, 16, 64, 10)
        network.load_state_dict(self.initial)
        return network.train()

    def result(self, state: State) -> tuple[float, float]:
        """Return accuracy in percent and mean loss of weights on the test examples."""
        network, test = self.network().eval(), self.job.context.splits.test.read()
        network.load_state_dict(state)
        with torch.no_grad():
            logits = network(*test.inputs)
            loss = functional.cross_entropy(logits, test.labels)
            return float((logits.argmax(1) == test.labels).double().mean()) * 100, float(loss)


class Network(ConvNet):
    """The network with the two methods that pfl wants; as plain as before."""

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch."""
        return functional.cross_entropy(self(images), labels)

    def metrics(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        """Return nothing: nothing is measured on the way."""
        return {}


def perceptron(hidden: int) -> nn.Module:
    """Return a network with one hidden layer, for images of digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def _steps(network: ConvNet, examples: Examples, task: Task) -> None:
    """Train in place for as many epochs."""
    optimizer = torch.optim.SGD(network.parameters(), lr=task.rate)
    images, labels = examples
    for _ in range(task.epochs):
        order = torch.randperm(len(labels))
        for which in order.split(task.batch):
            optimizer.zero_grad()
            functional.cross_entropy(network(images[which]), labels[which]).backward()
            optimizer.step()


def plain_loop(task: Task) -> Outcome:
    """Train without any framework."""
    torch.manual_seed(task.seed)
    rng = np.random.default_rng(task.seed)
    network, state, shards = task.network(), task.initial, task.shards
    begin = 0.0
    for done in range(task.rounds + 1):
        begin = perf_counter() if done == 1 else begin
        chosen = rng.choice(task.clients, task.chosen, replace=False)
        weight = sum(len(shards[client][1]) for client in chosen)
        mean = {name: torch.zeros_like(part) for name, part in state.items()}
        for client in chosen:
            network.load_state_dict(state)
            _steps(network, shards[client], task)
            for name, part in network.state_dict().items():
                mean[name].add_(part, alpha=len(shards[client][1]) / weight)
        state = mean
    return Outcome(perf_counter() - begin, state)


def pfl_shuffled(task: Task) -> Outcome:
    """Train with pfl-research, its examples shuffled in each epoch as those of all others are."""
    return pfl(task, shuffled=True)


def pfl(task: Task, *, shuffled: bool = False) -> Outcome:
    """Train with pfl-research's simulation: one process, clients one after the other.

    By itself it does not shuffle a client's examples, but cuts them into batches once.
    """
    names = ("pytorch", "simulate", "weighting", "federated_averaging", "dataset", "federated_dataset", "sampling")
    rooms = ("model", "aggregate", "aggregate", "algorithm", "data", "data", "data")
    peer = {name: import_module(f"pfl.{room}.{name}") for name, room in zip(names, rooms, strict=True)}
    hyper, base = import_module("pfl.hyperparam"), import_module("pfl.algorithm.base")
    np.random.seed(task.seed)  # noqa: NPY002 - the only one that it takes
    torch.manual_seed(task.seed)

    class Shuffled(peer["dataset"].Dataset):  # type: ignore[misc]
        def iter(self, batch_size: int) -> Iterator[Any]:
            images, labels = self.raw_data
            for which in torch.randperm(len(labels)).split(batch_size):
                yield images[which], labels[which]

    dataset = Shuffled if shuffled else peer["dataset"].Dataset
    datasets = [dataset(shard, user_id=client) for client, shard in enumerate(task.shards)]
    sampler = peer["sampling"].get_user_sampler("minimize_reuse", range(task.clients))
    backend = peer["simulate"].SimulatedBackend(
        training_data=peer["federated_dataset"].FederatedDataset(datasets.__getitem__, sampler),
        val_data=None,
        postprocessors=[peer["weighting"].WeightByDatapoints()],
    )
    network = task.network()
    central = torch.optim.SGD(network.parameters(), lr=1.0)
    model = peer["pytorch"].PyTorchModel(network, torch.optim.SGD, central)
    begin = [0.0]

    class Clock(import_module("pfl.callback.base").TrainingProcessCallback):  # type: ignore[misc]
        def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> Any:
            if central_iteration == 0:
                begin[0] = perf_counter()
            return False, import_module("pfl.metrics").Metrics()

    rounds = task.rounds + 1
    peer["federated_averaging"].FederatedAveraging().run(
        base.NNAlgorithmParams(rounds, rounds + 1, task.chosen, None),
        backend,
        model,
        hyper.NNTrainHyperParams(
            local_num_epochs=task.epochs, local_learning_rate=task.rate, local_batch_size=task.batch
        ),
        callbacks=[Clock()],
        send_metrics_to_platform=False,
    )
    return Outcome(perf_counter() - begin[0], network.state_dict())


@cache
def _own_network(task: Task) -> tuple[ConvNet, tuple[Examples, ...]]:
    """Return what a process keeps from one client to the next."""
    torch.set_num_threads(1)
    torch.manual_seed(task.seed + os.getpid())
    return task.network(), task.shards


def _flower_train(message: Any, context: Any) -> Any:
    """Train a client of Flower's."""
    app = import_module("flwr.app")
    config = dict(message.content["config"])
    task = Task(**{name: config[name] for name in Task.__dataclass_fields__})
    network, shards = _own_network(task)
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    examples = shards[int(context.node_config["partition-id"])]
    _steps(network, examples, task)
    arrays, metrics = app.ArrayRecord(network.state_dict()), app.MetricRecord({"num-examples": len(examples[1])})
    return app.Message(content=app.RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def flower(task: Task) -> Outcome:
    """Train with Flower's simulation: as many Ray actors as there are cores, each with one thread.

    An actor keeps network and examples, which it fetches in the first round.
    """
    os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    app, client, server = (import_module(f"flwr.{name}") for name in ("app", "clientapp", "serverapp"))
    strategy = import_module("flwr.serverapp.strategy").FedAvg(
        fraction_train=task.chosen / task.clients,
        fraction_evaluate=0.0,
        min_train_nodes=task.chosen,
        min_available_nodes=task.clients,
    )
    logging.getLogger("flwr").setLevel(logging.ERROR)
    client_app, server_app, found = client.ClientApp(), server.ServerApp(), list[Outcome]()
    client_app.train()(_flower_train)
    settings = app.ConfigRecord({name: getattr(task, name) for name in Task.__dataclass_fields__})

    @server_app.main()  # type: ignore[untyped-decorator]
    def _main(grid: Any, _context: Any) -> None:
        grid.pull_interval = PULL_S
        arrays, config = app.ArrayRecord(task.initial), copy.deepcopy(settings)
        first = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=1, train_config=config)
        begin = perf_counter()
        done = strategy.start(grid=grid, initial_arrays=first.arrays, num_rounds=task.rounds, train_config=settings)
        found.append(Outcome(perf_counter() - begin, done.arrays.to_torch_state_dict()))

    import_module("flwr.simulation").run_simulation(
        server_app,
        client_app,
        num_supernodes=task.clients,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"address": "local", "log_to_driver": False, "logging_level": "ERROR"},
        },
    )
    sleep(SETTLING_S)
    return found[0]


class Peer(NamedTuple):
    """Somebody who can be measured, in one repeat of `every`; `package` has to be installed, as `asked` says."""

    name: str
    train: Callable[[Task], Outcome]
    package: str = ""
    asked: str = ""
    every: int = 1


PEERS = (
    Peer("plain loop", plain_loop),
    Peer("pfl-research", pfl, "pfl", "pfl[pytorch]"),
    Peer("pfl-research, shuffled", pfl_shuffled, "pfl", "pfl[pytorch]"),
    Peer("Flower", flower, "flwr", "flwr[simulation]", ON_RAY),
)


def here() -> Iterator[Peer]:
    """Yield those who are installed, with their versions; say of the others how to get them."""
    for peer in PEERS:
        if not peer.package:
            yield peer
        elif find_spec(peer.package) is None or (peer.package == "flwr" and find_spec("ray") is None):
            print(f"without {peer.name}: pip install '{peer.asked}'", file=sys.stderr)
        else:
            also = f", Ray {version('ray')}" if peer.package == "flwr" else ""
            yield peer._replace(name=f"{peer.name} ({version(peer.package)}{also})")
