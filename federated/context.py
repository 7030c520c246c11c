"""Data and networks of a federated training, both created on first use.

Networks are trained in place: each thread has one, and weights are written into it before each training. Only the
description is sent to other processes, which create their own data and networks.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch

from federated.state import State, prefix_slice
from federated.subnet_shapes import SubnetShapes
from supernet.family import build
from supernet.statistics import calibrate
from supernet.training.evaluation import accuracy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from federated.partition import Partition
    from supernet.data.source import ExampleSet, Source, Splits
    from supernet.family import Family
    from supernet.network import Supernet
    from supernet.space import SubnetSpace
    from topology.deployment import Dataset

_CALIBRATION_EXAMPLES = 1024
_CALIBRATION_BATCH = 128
"""Training examples from which an evaluation during training takes running statistics."""

_BUILDING = threading.RLock()
"""Networks are built one at a time: torch's random numbers are global to the process."""


@dataclass(eq=False)
class TrainingContext:
    """Data and networks.

    Attributes:
        source: Source of the examples.
        partition: How examples are split among the clients.
        family: Family of supernets.
        datasets: The clients' data as the topology describes it; the order of their ids is that of the split.
        seed: Seed of the initial weights and of the split.
    """

    source: Source
    partition: Partition
    family: Family
    datasets: Sequence[Dataset]
    seed: int
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _threads: threading.local = field(default_factory=threading.local, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the description without data and networks."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _cache={}, _threads=threading.local())

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return a value that is computed once in a process."""
        if name not in self._cache:
            with _BUILDING:
                if name not in self._cache:
                    self._cache[name] = make()
        return self._cache[name]

    @property
    def splits(self) -> Splits:
        """The examples of all clients, and those for validation and test.

        Raises:
            SsimError: The data is missing or damaged.
        """
        splits: Splits = self.once("splits", partial(self.source.splits, self.seed))
        return splits

    @property
    def shards(self) -> dict[str, ExampleSet]:
        """The training examples of each client, by the id of its dataset.

        Raises:
            SsimError: The data is missing or damaged, or a client would get no examples.
        """
        shards: dict[str, ExampleSet] = self.once("shards", self._split)
        return shards

    def _split(self) -> dict[str, ExampleSet]:
        ordered = sorted(self.datasets, key=lambda dataset: dataset.id)
        train = self.splits.train
        parts = self.partition.split(train.labels.numpy(), [dataset.size for dataset in ordered], self.seed)
        return {d.id: train.select(torch.from_numpy(part)) for d, part in zip(ordered, parts, strict=True)}

    @property
    def data_roles(self) -> frozenset[str]:
        """The roles whose workers hold data."""
        return frozenset(dataset.role for dataset in self.datasets)

    @property
    def space(self) -> SubnetSpace:
        """The space of subnets."""
        return self.family.space

    @property
    def network(self) -> Supernet:
        """This thread's network, in training mode; callers load weights first."""
        network: Supernet | None = getattr(self._threads, "network", None)
        if network is None:
            network = self._threads.network = self._build()
        return network

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of this thread's network, by name; cached, since a look-up costs as much as a small layer."""
        parameters: dict[str, nn.Parameter] | None = getattr(self._threads, "parameters", None)
        if parameters is None:
            parameters = self._threads.parameters = dict(self.network.model.named_parameters())
        return parameters

    @property
    def subnet_shapes(self) -> SubnetShapes:
        """The prefix slices that subnets use."""
        shapes: SubnetShapes = self.once("shapes", lambda: SubnetShapes.from_network(self._build()))
        return shapes

    def _build(self) -> Supernet:
        with _BUILDING:
            return build(self.family, seed=self.seed).train()

    def initial_state(self) -> State:
        """Return the initial weights."""
        return {name: parameter.detach().clone() for name, parameter in self._build().model.named_parameters()}

    def load_state(self, state: State) -> Supernet:
        """Return this thread's network after loading weights, those of a subnet into their prefix slices."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                part = state.get(name)
                if part is not None:
                    prefix_slice(parameter, part.shape).copy_(part)
        return self.network

    def accuracies(self, state: State, subnets: Sequence[str]) -> dict[str, float]:
        """Return the accuracy of subnets on the validation examples in percent, each with its own statistics."""
        network, splits = self.load_state(state), self.splits
        accuracies = {}
        for subnet in subnets:
            if network.assembly.norms:
                batches = splits.train.first(_CALIBRATION_EXAMPLES).batches(_CALIBRATION_BATCH)
                calibrate(network, subnet, (batch.inputs for batch in batches if len(batch) > 1))
            accuracies[subnet] = accuracy(network, subnet, splits.validation)
        return accuracies


def number_of(id_: str) -> int:
    """Return a number for an id, the same in all processes."""
    return crc32(id_.encode())
