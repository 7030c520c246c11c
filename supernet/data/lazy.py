"""Examples of a map-style PyTorch dataset, which are read when they are used, by worker processes if there are any."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from sim.base.errors import DataError, SpecError
from supernet.data.items import (
    BATCH,
    ItemFormat,
    ItemReader,
    Key,
    all_labels,
    checked,
    collated,
    count_of,
    label_of,
    mixed_seed,
    single_precision,
)
from supernet.data.source import Draw, Examples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True, eq=False)
class LazyExamples:
    """Examples of a map-style dataset, read when they are used.

    Attributes:
        dataset: Has `__len__` and `__getitem__`.
        name: What messages call it.
        form: What its items are made of.
        indices: The examples that are meant, int64, shape (examples,).
        workers: Worker processes that read; 0 for this process.
        device: Where batches are put.
    """

    dataset: Any
    name: str
    form: ItemFormat
    indices: torch.Tensor
    workers: int = 0
    device: torch.device | str = "cpu"

    @classmethod
    def of(cls, dataset: Any, name: str, form: ItemFormat, workers: int = 0) -> LazyExamples:
        """Return all examples of a dataset.

        Raises:
            SpecError: It has no length, or no examples.
        """
        return cls(dataset, name, form, torch.arange(count_of(dataset, name)), workers)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def known_labels(self) -> torch.Tensor | None:
        """The labels, if the dataset has `targets` or `labels`, or is made of tensors, or is a part of such."""
        known = _known(self.dataset, self.form.regression, self.name)
        return None if known is None else known[self.indices]

    @property
    def labels(self) -> torch.Tensor:
        """The labels; read from all examples, if the dataset has no `targets` or `labels`."""
        known = self.known_labels
        if known is not None:
            return known
        draws = (Draw(indices, 0) for indices in torch.arange(len(self)).split(BATCH))
        return all_labels(replace(self, device="cpu").drawn(draws, exact=True), self.form, self.name)

    def select(self, indices: torch.Tensor) -> LazyExamples:
        """Return examples by their indices, in the order of these; nothing is read."""
        return replace(self, indices=self.indices[indices.cpu()])

    def first(self, count: int) -> LazyExamples:
        """Return the first examples; all, if there are fewer."""
        return replace(self, indices=self.indices[:count])

    def read(self) -> Examples:
        """Return the examples in memory.

        Raises:
            DataError: An example can't be read.
        """
        return next(self.batches(len(self)))

    def batches(self, size: int) -> Iterator[Examples]:
        """Yield all examples in order, in batches; the last one may be smaller.

        Raises:
            DataError: An example can't be read.
        """
        return self.drawn(Draw(indices, 0) for indices in torch.arange(len(self)).split(size))

    def drawn(self, draws: Iterable[Draw], *, exact: bool = False) -> Iterator[Examples]:
        """Yield the examples of draws.

        Args:
            draws: Which.
            exact: Whether labels that are numbers are in float64.

        Raises:
            DataError: An example can't be read.
        """
        keys = (
            [Key(index, mixed_seed(draw.seed, index)) for index in self.indices[draw.indices].tolist()]
            for draw in draws
        )
        loader = DataLoader(
            ItemReader(self.dataset, self.form, self.name),
            batch_sampler=keys,
            collate_fn=partial(collated, exact=exact),
            num_workers=self.workers,
            pin_memory=torch.device(self.device).type == "cuda",
            generator=torch.Generator(),  # else it draws from the global one
        )
        try:
            for batch in loader:
                yield checked(batch).to(self.device)
        except RuntimeError as error:
            if "worker" not in str(error):
                raise
            hint = "fewer workers, or 0"
            raise DataError(self.name, "a worker process ended", str(error).partition("\n")[0], hint) from error

    def to(self, device: torch.device | str) -> LazyExamples:
        """Return the examples, whose batches are put on a device."""
        return replace(self, device=device)


def clients_of(examples: Any) -> list[str] | None:
    """Return the client that holds each example, if the dataset has `clients`, a sequence of its length.

    Raises:
        SpecError: It has another length.
    """
    clients = getattr(getattr(examples, "dataset", None), "clients", None)
    if clients is None or callable(clients):
        return None
    if len(clients) != len(examples.dataset):
        value, hint = f"{len(clients)} for {len(examples.dataset)} examples", "one for each example"
        raise SpecError(f"{examples.name}, clients", "another number of clients than of examples", value, hint)
    if not isinstance(examples, LazyExamples):
        return [str(client) for client in clients]
    return [str(clients[place]) for place in examples.indices.tolist()]


def _known(dataset: Any, regression: bool, name: str) -> torch.Tensor | None:
    """Return the labels of a dataset, if they are known without reading its items."""
    if isinstance(dataset, Subset):
        known = _known(dataset.dataset, regression, name)
        return None if known is None else known[torch.as_tensor(dataset.indices)]
    for attribute in ("targets", "labels"):
        given = getattr(dataset, attribute, None)
        if given is not None and not callable(given) and len(given) == len(dataset):
            return _labels(given, regression, name)
    return _labels(dataset.tensors[-1], regression, name) if isinstance(dataset, TensorDataset) else None


def _labels(given: Any, regression: bool, name: str) -> torch.Tensor:
    """Return all labels of a dataset."""
    labels = label_of(given, regression=regression)
    return single_precision(labels, name) if regression else labels
