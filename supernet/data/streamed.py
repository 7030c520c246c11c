"""Examples of an iterable PyTorch dataset, which are read when they are used, in its order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sim.base.errors import DataError, SpecError, raised
from supernet.data.items import (
    BATCH,
    ItemFormat,
    ItemReader,
    all_labels,
    checked,
    collated,
    count_of,
    mixed_seed,
    seeded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch

    from supernet.data.source import Draw, Examples


@dataclass(frozen=True, slots=True, eq=False)
class StreamedExamples:
    """Examples of an iterable dataset, in its order: each epoch iterates over it anew.

    Before an epoch its method `set_epoch` is called, if it has one, so that it can have an order for each.

    Attributes:
        dataset: Has `__len__` and `__iter__`.
        name: What messages call it.
        form: What its items are made of.
        count: The examples that are meant: the first ones.
        device: Where batches are put.
    """

    dataset: Any
    name: str
    form: ItemFormat
    count: int
    device: torch.device | str = "cpu"

    @classmethod
    def of(cls, dataset: Any, name: str, form: ItemFormat) -> StreamedExamples:
        """Return all examples of a dataset.

        Raises:
            SpecError: It has no length, or no examples.
        """
        return cls(dataset, name, form, count_of(dataset, name))

    def __len__(self) -> int:
        return self.count

    @property
    def known_labels(self) -> None:
        """None: labels are read with the examples."""
        return

    @property
    def labels(self) -> torch.Tensor:
        """The labels; read from all examples."""
        return all_labels(replace(self, device="cpu").batches(BATCH, exact=True), self.form, self.name)

    def select(self, indices: torch.Tensor) -> StreamedExamples:
        """Refuse: an iterable dataset can't be indexed.

        Raises:
            SpecError: Always.
        """
        hint = "a dataset with __getitem__"
        raise SpecError(self.name, "an iterable dataset can't be divided", f"{len(indices)} examples", hint)

    def first(self, count: int) -> StreamedExamples:
        """Return the first examples; all, if there are fewer."""
        return replace(self, count=min(count, self.count))

    def read(self) -> Examples:
        """Return the examples in memory.

        Raises:
            DataError: An example can't be read.
        """
        return next(self.batches(self.count))

    def batches(self, size: int, *, exact: bool = False) -> Iterator[Examples]:
        """Yield all examples in order, in batches; the last one may be smaller.

        Args:
            size: Examples in a batch.
            exact: Whether labels that are numbers are in float64.

        Raises:
            DataError: An example can't be read.
        """
        items = self._items(0, 0)
        for start in range(0, self.count, size):
            yield self._batch(items, min(size, self.count - start), exact=exact)

    def drawn(self, draws: Iterable[Draw]) -> Iterator[Examples]:
        """Yield batches of the sizes of draws, at their places of their epochs; indices do not count.

        Raises:
            DataError: An example can't be read.
        """
        items, epoch = iter(()), -1
        for draw in draws:
            if draw.epoch != epoch:
                items, epoch = self._items(draw.epoch, draw.seed), draw.epoch
                for _ in range(draw.place * len(draw.indices)):
                    next(items)
            yield self._batch(items, len(draw.indices))

    def _batch(self, items: Iterator[Any], size: int, *, exact: bool = False) -> Examples:
        return checked(collated([next(items) for _ in range(size)], exact=exact)).to(self.device)

    def _items(self, epoch: int, seed: int) -> Iterator[Any]:
        """Yield the items of an epoch as tensors.

        Raises:
            DataError: The dataset raises, or ends too early.
        """
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        reader, items = ItemReader(self.dataset, self.form, self.name), None
        for number in range(self.count):
            where = f"{self.name}, example {number}"
            try:
                with seeded(mixed_seed(seed, number)):
                    items = iter(self.dataset) if items is None else items
                    item = next(items)
            except StopIteration:
                value, hint = f"{number} of {len(self.dataset)}", "as many examples as __len__ says"
                raise DataError(self.name, "the dataset ended too early", value, hint) from None
            except Exception as error:
                raise DataError(where, *raised(error)) from error
            yield reader.converted(item, where)

    def to(self, device: torch.device | str) -> StreamedExamples:
        """Return the examples, whose batches are put on a device."""
        return replace(self, device=device)
