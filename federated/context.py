"""Data and networks of a federated training, both created on first use.

Networks are trained in place: each thread has one, and weights are written into it before each training. Only the
description is sent to other processes, which create their own data and networks.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch

from federated.partition import Clients, divided, divides_classes
from federated.state import State, prefix_slice
from federated.subnet_shapes import SubnetShapes
from sim.base.errors import DataError, SpecError, did_you_mean
from supernet.calls import logits_of
from supernet.family import build
from supernet.statistics import calibrate
from supernet.training.evaluation import accuracy
from supernet.training.scoring import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from federated.partition import Indices, Partition
    from supernet.data.source import ExampleSet, Source, Splits
    from supernet.family import Family
    from supernet.network import Supernet
    from supernet.space import SubnetSpace
    from supernet.training.objective import Loss, Metric
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
        own: The data sources of clients with data of their own, by the id of the dataset; without, `partition` counts.
        held_out: Share of a part's examples that is kept for the client's own accuracy.
        personal: Patterns of the names of parameters that stay with each client.
        loss: What clients minimize, by its name or as a function.
        metric: What models are scored by, in place of the accuracy; of labels that are numbers, R² if there is none.
    """

    source: Source
    partition: Partition
    family: Family
    datasets: Sequence[Dataset]
    seed: int
    own: Mapping[str, Source] = field(default_factory=dict)
    held_out: float = 0.0
    personal: tuple[str, ...] = ()
    loss: str | Loss = "cross_entropy"
    metric: Metric | None = None
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
    def shards(self) -> Mapping[str, ExampleSet]:
        """The training examples of each client, by the id of its dataset; those of its own are opened on first use.

        Raises:
            SsimError: The data is missing or damaged, or a client would get no examples.
        """
        return OwnExamples(self, "train") if self.own else self.once("shards", self._split)[0]

    @property
    def held(self) -> Mapping[str, ExampleSet]:
        """The examples on which the accuracy of each client is measured, by the id of its dataset; or none."""
        if self.own:
            return OwnExamples(self, "test")
        held: Mapping[str, ExampleSet] = self.once("shards", self._split)[1]
        return held

    def _split(self) -> tuple[dict[str, ExampleSet], dict[str, ExampleSet]]:
        ordered = sorted(self.datasets, key=lambda dataset: dataset.id)
        train = self.splits.train
        parts = self._parts(ordered)
        shards, held = {}, {}
        for dataset, part in zip(ordered, parts, strict=True):
            indices = torch.from_numpy(part)
            count = round(self.held_out * len(part))
            if count == len(part):
                value, hint = f"{self.held_out:g} of {count} of {dataset.id}", "a smaller share, or more examples"
                raise SpecError("evaluation.held_out", "leaves a client no examples to train on", value, hint)
            shards[dataset.id] = train.select(indices[: len(part) - count])
            if count:
                held[dataset.id] = train.select(indices[len(part) - count :])
        return shards, held

    @property
    def has_numbers(self) -> bool:
        """Whether labels are numbers, not classes."""
        return bool(getattr(self.source, "regression", False))

    def _parts(self, ordered: Sequence[Dataset]) -> list[Indices]:
        """Return the indices of each client's training examples."""
        train, uses_labels = self.splits.train, getattr(self.partition, "uses_labels", True)
        labels = train.labels if uses_labels else torch.zeros(len(train), dtype=torch.int64)
        if labels.dim() > 1 and divides_classes(self.partition):
            value, hint = type(self.partition).__name__, "iid, quantity or natural"
            raise SpecError("partition", "divides classes, and an example has several labels", value, hint)
        clients = Clients([dataset.id for dataset in ordered], self.splits.clients)
        return divided(self.partition, labels.numpy(), [dataset.size for dataset in ordered], self.seed, clients)

    def opened(self, id_: str) -> Splits:
        """Return the data of a client that has its own, after checks.

        Raises:
            SsimError: It is missing, damaged or empty, or fits neither the network nor the description.
        """
        splits: Splits = self.once(f"data of {id_}", lambda: self._open(id_))
        return splits

    def _open(self, id_: str) -> Splits:
        place = f"the data of {id_}"
        splits, like = self.own[id_].splits(self.seed), self.splits.validation
        for name in ("train", "test"):
            part: ExampleSet = getattr(splits, name)
            if not len(part):
                raise DataError(place, f"has no {name} examples", "", "give it some, or leave this client out")
            firsts = (examples.first(1).read() for examples in (part, like))
            shapes = [[tuple(tensor.shape[1:]) for tensor in first.inputs] for first in firsts]
            if shapes[0] != shapes[1]:
                raise DataError(place, "has another shape than `data`", str(shapes[0]), f"expected {shapes[1]}")
            labels, classes = part.labels, self._classes
            if labels.is_floating_point() != like.labels.is_floating_point():
                value, hint = str(labels.dtype), f"{like.labels.dtype}, as those of `data`"
                raise DataError(place, "labels of another type than those of `data`", value, hint)
            counted = labels[labels != IGNORED]
            lowest, highest = (int(label) for label in counted.aminmax()) if len(counted) else (0, 0)
            if not labels.is_floating_point() and (lowest < 0 or highest >= classes):
                value = str(lowest if lowest < 0 else highest)
                raise DataError(place, "label out of range", value, f"0 to {classes - 1}, the classes of the network")
        size = next(dataset.size for dataset in self.datasets if dataset.id == id_)
        if size not in {1, len(splits.train)}:
            hint = f"it has {len(splits.train)} training examples; leave size out"
            raise DataError(place, "its size is another one than the description says", str(size), hint)
        return splits

    @property
    def _classes(self) -> int:
        """The number of classes of the network."""

        def count() -> int:
            network, inputs = self._build(), self.splits.validation.first(2).read().inputs
            with torch.no_grad():
                return int(logits_of(network.actuate(self.space.largest)(*inputs)).shape[-1])

        classes: int = self.once("classes", count)
        return classes

    @property
    def data_roles(self) -> frozenset[str]:
        """The roles whose workers hold data."""
        return frozenset(dataset.role for dataset in self.datasets)

    @property
    def space(self) -> SubnetSpace:
        """The space of subnets."""
        space: SubnetSpace = self.once("space", lambda: self.family.space)
        return space

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
        names = self.personal_names
        shapes: SubnetShapes = self.once("shapes", lambda: SubnetShapes.from_network(self._build(), names))
        return shapes

    @property
    def personal_names(self) -> tuple[str, ...]:
        """The names of the parameters that stay with each client.

        Raises:
            SpecError: A pattern matches no parameter, or they are all that there are.
        """
        names: tuple[str, ...] = self.once("personal", self._personal) if self.personal else ()
        return names

    def _personal(self) -> tuple[str, ...]:
        known = [name for name, _ in self._build().model.named_parameters()]
        for pattern in self.personal:
            if not fnmatch.filter(known, pattern):
                raise SpecError("personal", "matches no parameter", repr(pattern), did_you_mean(pattern, known))
        names = tuple(name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.personal))
        if len(names) == len(known):
            raise SpecError("personal", "no parameter is left to be shared", ", ".join(self.personal), "fewer patterns")
        return names

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
            accuracies[subnet] = accuracy(network, subnet, splits.validation, self.metric)
        return accuracies

    def client_accuracy(self, id_: str, network: Supernet, subnet: str) -> float:
        """Return the accuracy of a subnet on a client's own held-out examples in percent, with its own statistics."""
        if network.assembly.norms:
            batches = self.shards[id_].first(_CALIBRATION_EXAMPLES).batches(_CALIBRATION_BATCH)
            calibrate(network, subnet, (batch.inputs for batch in batches if len(batch) > 1))
        return accuracy(network, subnet, self.held[id_], self.metric)


class OwnExamples(Mapping[str, "ExampleSet"]):
    """The examples of clients that have data of their own, by the id of the dataset, each opened when it is looked up.

    Args:
        context: Opens them.
        part: `train` or `test`.
    """

    def __init__(self, context: TrainingContext, part: str) -> None:
        self._context, self._part = context, part

    def __getitem__(self, id_: str) -> ExampleSet:
        if id_ not in self._context.own:
            raise KeyError(id_)
        examples: ExampleSet = getattr(self._context.opened(id_), self._part)
        return examples

    def __iter__(self) -> Iterator[str]:
        return iter(self._context.own)

    def __len__(self) -> int:
        return len(self._context.own)


def examples_by_class(labels: torch.Tensor) -> list[int]:
    """Return the number of examples of each class, from 0; of labels that are numbers or texts, that of all as one."""
    counts: list[int] = [len(labels)] if labels.dim() > 1 or labels.is_floating_point() else labels.bincount().tolist()
    return counts


def number_of(id_: str) -> int:
    """Return a number for an id, the same in all processes."""
    return crc32(id_.encode())
