"""What a process needs to train for parties: the data, and a network for each thread, both made when first asked for.

Networks are trained in place: weights are written into them before each training. Of all this only the description
travels to other processes, which make their own.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch

from federated.extents import Extents, extents_of, leading
from supernet.costs import Costs
from supernet.family import build
from supernet.statistics import calibrate
from supernet.training.evaluation import accuracy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from federated.averaging import State
    from federated.partition import Partition
    from supernet.data.source import Examples, Source, Splits
    from supernet.family import Family
    from supernet.network import Supernet
    from supernet.space import SubNetSpace
    from topology.deployment import Dataset

_CALIBRATED = 1024
"""Running statistics for an evaluation on the way are taken from as many examples for training, in batches of ..."""
_BATCH = 128

_BUILDING = threading.RLock()
"""Networks are built one after the other: torch's random numbers are the process's."""


@dataclass(eq=False)
class Workshop:
    """Data, networks and costs.

    Attributes:
        source: Where the examples come from.
        partition: How they are dealt out.
        family: The family of supernets.
        datasets: The parties' data, as the topology has them; in the order of their ids they are dealt out to.
        seed: Of the weights, and of who gets what.
        gmacs_per_s: Thousand million multiply-accumulate operations that a machine of speed 1 does in a second.
    """

    source: Source
    partition: Partition
    family: Family
    datasets: Sequence[Dataset]
    seed: int
    gmacs_per_s: float = 1.0
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _threads: threading.local = field(default_factory=threading.local, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the description alone."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _made={}, _threads=threading.local())

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            with _BUILDING:
                if name not in self._made:
                    self._made[name] = make()
        return self._made[name]

    @property
    def splits(self) -> Splits:
        """The examples, whosesoever they are.

        Raises:
            SsimError: They are not there, or are damaged.
        """
        found: Splits = self._once("splits", partial(self.source.splits, self.seed))
        return found

    @property
    def shards(self) -> dict[str, Examples]:
        """The examples of each party, by the id of its dataset.

        Raises:
            SsimError: There are none, or some party would get none.
        """
        found: dict[str, Examples] = self._once("shards", self._dealt)
        return found

    def _dealt(self) -> dict[str, Examples]:
        ordered = sorted(self.datasets, key=lambda dataset: dataset.id)
        train = self.splits.train
        parts = self.partition.deal(train.labels.numpy(), [dataset.size for dataset in ordered], self.seed)
        return {d.id: train.take(torch.from_numpy(part)) for d, part in zip(ordered, parts, strict=True)}

    @property
    def space(self) -> SubNetSpace:
        """The subnets."""
        return self.family.space

    @property
    def network(self) -> Supernet:
        """This thread's own network, in training mode; whoever uses it writes its weights first."""
        found: Supernet | None = getattr(self._threads, "network", None)
        if found is None:
            with _BUILDING:
                found = self._threads.network = build(self.family, seed=self.seed).train()
        return found

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The weights of this thread's own network, by name: to look them up costs as much as a small layer."""
        found: dict[str, nn.Parameter] | None = getattr(self._threads, "parameters", None)
        if found is None:
            found = self._threads.parameters = dict(self.network.model.named_parameters())
        return found

    @property
    def extents(self) -> Extents:
        """Which part of each parameter a subnet uses."""
        found: Extents = self._once("extents", lambda: extents_of(build(self.family, seed=self.seed).train()))
        return found

    def initial(self) -> State:
        """Return the weights that all begin with."""
        with _BUILDING:
            fresh = build(self.family, seed=self.seed)
        return {name: parameter.detach().clone() for name, parameter in fresh.model.named_parameters()}

    def seconds(self, subnet: str, examples: int) -> float:
        """Return what training on so many examples costs on a machine of speed 1: three forward passes for each."""
        macs: int = self._once(f"macs of {subnet}", lambda: self._costs.macs(subnet))
        return 3 * macs * examples / (self.gmacs_per_s * 1e9)

    @property
    def _costs(self) -> Costs:
        found: Costs = self._once("costs", lambda: Costs(build(self.family), self.splits.train.first(1).inputs))
        return found

    def averaging_seconds(self, updates: int) -> float:
        """Return what it costs to add up so many updates: one operation a parameter."""
        elements = sum(torch.Size(shape).numel() for shape in self.extents.shapes.values())
        return elements * updates / (self.gmacs_per_s * 1e9)

    def write(self, state: State) -> Supernet:
        """Return this thread's network with some weights, those of a subnet in their leading parts."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                part = state.get(name)
                if part is not None:
                    leading(parameter, part.shape).copy_(part)
        return self.network

    def accuracies(self, state: State, subnets: Sequence[str]) -> dict[str, float]:
        """Return how accurate subnets are on the examples for validation, in percent, with statistics of their own."""
        network, splits = self.write(state), self.splits
        found = {}
        for subnet in subnets:
            if network.assembly.norms:
                batches = splits.train.first(_CALIBRATED).batches(_BATCH)
                calibrate(network, subnet, (batch.inputs for batch in batches if len(batch) > 1))
            found[subnet] = accuracy(network, subnet, splits.validation)
        return found


def number_of(id_: str) -> int:
    """Return a number that stands for an id, the same in all processes."""
    return crc32(id_.encode())
