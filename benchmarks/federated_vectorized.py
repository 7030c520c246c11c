"""Clients that train as one computation, beside the same clients one after the other: for which networks it pays.

Networks of several sizes on scikit-learn's digits, in equal parts; two epochs of SGD. Processor time on one thread,
medians over a few repeats, in which the two are done in turn. The last column is the largest difference of a weight.

    python -m benchmarks.federated_vectorized
"""

from __future__ import annotations

import statistics
from time import process_time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.federated_peers import perceptron
from benchmarks.peers import aligned
from federated.context import TrainingContext
from federated.costs import CostModel
from federated.job import FederatedJob, TrainingTask
from federated.local import LocalSettings
from federated.partition import Iid
from federated.pool import LocalTraining
from supernet.data.digits import Digits
from supernet.families import CnnSmall
from supernet.network_family import InsertionOptions, NetworkFamily
from topology.deployment import Dataset

if TYPE_CHECKING:
    from federated.averaging import Update

REPEATS = 3
EXAMPLES = 1_400
CLIENTS = (10, 100)
BATCHES = (8, 32)


def perceptron_family(hidden: int) -> NetworkFamily:
    """Return the family of a network with one hidden layer."""
    return NetworkFamily(perceptron, {"hidden": hidden}, (1, 8, 8), InsertionOptions(widths=(0.5, 1.0)))


FAMILIES: dict[str, Any] = {  # mypy takes a property for no attribute of a protocol
    "32 hidden neurons": perceptron_family(32),
    "256 hidden neurons": perceptron_family(256),
    "1,024 hidden neurons": perceptron_family(1024),
    "CNN, 4 and 8 channels": CnnSmall(width=4, hidden=16),
    "CNN, 16 and 32 channels": CnnSmall(width=16, hidden=64),
    "CNN, 32 and 64 channels": CnnSmall(width=32, hidden=128),
}


def row(name: str, family: Any, clients: int, batch: int) -> list[str]:
    """Measure one network, number of clients and size of batch."""
    datasets = [Dataset(f"{number:03}", "client") for number in range(clients)]
    context = TrainingContext(Digits(train=EXAMPLES, validation=37), Iid(), family, datasets, 7)
    job, settings = FederatedJob(context, CostModel(context), 1), LocalSettings(epochs=2, batch=batch)
    task = TrainingTask(0, context.space.largest.id, context.initial_state())

    def trainings() -> list[LocalTraining]:
        return [LocalTraining(dataset, task, {}, settings) for dataset in datasets]

    def apart() -> list[Update]:
        return [job.train(*training) for training in trainings()]

    def together() -> list[Update]:
        return job.train_together(trainings())

    seconds: tuple[list[float], list[float]] = [], []
    updates: list[list[Update]] = [[], []]
    for _ in range(REPEATS + 1):  # the first one warms up
        for which, way in enumerate((apart, together)):
            begin = process_time()
            updates[which] = way()
            seconds[which].append(process_time() - begin)
    times = [1e3 * statistics.median(measured[1:]) / clients for measured in seconds]
    far = max(
        float((one.delta[key] - other.delta[key]).abs().max())
        for one, other in zip(*updates, strict=True)
        for key in one.delta
    )
    job_name = f"{clients} clients of {EXAMPLES // clients} examples, batches of {batch}"
    return [name, job_name, *(f"{time:.2f}" for time in times), f"{times[0] / times[1]:.1f}x", f"{far:.0e}"]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for name, family in FAMILIES.items():
        rows = [row(name, family, clients, batch) for clients in CLIENTS for batch in BATCHES]
        print(aligned([["network", "job", "ms a training", "vectorized", "gain", "difference"], *rows]), flush=True)


if __name__ == "__main__":
    main()
