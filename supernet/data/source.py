"""Labelled examples, their splits, and the protocol of a data source."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import torch

from sim.base.errors import SpecError
from sim.base.streams import stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Self


class Draw(NamedTuple):
    """The examples of one step of a training.

    Attributes:
        indices: Which, int64.
        seed: Of what is drawn at random when they are read.
        epoch: The number of the pass over all examples.
        place: The number of the step in its epoch.
    """

    indices: torch.Tensor
    seed: int
    epoch: int = 0
    place: int = 0


class ExampleSet(Protocol):
    """Labelled examples in memory (`Examples`), or read when they are used (`supernet.data.lazy`)."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> torch.Tensor:
        """The class of each example, int64; of texts whose tokens are predicted, shape (examples, tokens)."""
        ...

    @property
    def known_labels(self) -> torch.Tensor | None:
        """The labels, if they are known without reading the examples; else None."""
        ...

    def select(self, indices: torch.Tensor) -> Self:
        """Return examples by their indices, in the order of these."""
        ...

    def first(self, count: int) -> Self:
        """Return the first examples; all, if there are fewer."""
        ...

    def read(self) -> Examples:
        """Return the examples in memory."""
        ...

    def batches(self, size: int) -> Iterator[Examples]:
        """Yield all examples in order, in batches; the last one may be smaller."""
        ...

    def drawn(self, draws: Iterable[Draw]) -> Iterator[Examples]:
        """Yield the examples of draws."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Return the examples, on a device when they are read."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Labelled examples in memory.

    Attributes:
        inputs: The arguments of the network: tensors whose first dimension is the examples.
        labels: The class of each example, int64, shape (examples,); or of each token, shape (examples, tokens).
    """

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: torch.Tensor) -> Examples:
        """Return examples by their indices, in the order of these."""
        return Examples(tuple(part[indices] for part in self.inputs), self.labels[indices])

    def first(self, count: int) -> Examples:
        """Return the first examples; all, if there are fewer."""
        return Examples(tuple(part[:count] for part in self.inputs), self.labels[:count])

    @property
    def known_labels(self) -> torch.Tensor:
        """The labels."""
        return self.labels

    def read(self) -> Examples:
        """Return the examples."""
        return self

    def drawn(self, draws: Iterable[Draw]) -> Iterator[Examples]:
        """Yield the examples of draws."""
        return (self.select(draw.indices.to(self.labels.device)) for draw in draws)

    def batches(self, size: int) -> Iterator[Examples]:
        """Yield all examples in order, in batches; the last one may be smaller."""
        parts = zip(*(torch.split(part, size) for part in self.inputs), strict=True)
        yield from map(Examples, parts, torch.split(self.labels, size))

    def to(self, device: torch.device | str) -> Examples:
        """Return the examples on a device."""
        return Examples(tuple(part.to(device) for part in self.inputs), self.labels.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The three parts of a data set.

    Attributes:
        train: For weights and running statistics.
        validation: For decisions, such as those of a search.
        test: For reported accuracies only. The same examples for all seeds.
        clients: The client that holds each training example, if the data has a natural partition.
    """

    train: ExampleSet
    validation: ExampleSet
    test: ExampleSet
    clients: Sequence[str] | None = field(default=None, kw_only=True)


class Source(Protocol):
    """A frozen dataclass whose fields are its parameters; YAML names it by `kind`."""

    def located(self, folder: Path) -> Self:
        """Return the source with its paths relative to a folder, that of the experiment file.

        Raises:
            SpecError: A path contains an environment variable that is not set.
        """
        ...

    def identity(self) -> dict[str, Any]:
        """Return the parameters that determine the examples, as JSON: hashes of files in place of paths."""
        ...

    def splits(self, seed: int) -> Splits:
        """Return the examples; the seed draws the training and the validation examples.

        Raises:
            DataError: A file is damaged, or not the expected one.
            SpecError: A file is missing, or there are too few examples.
        """
        ...


def located(folder: Path, text: str) -> str:
    """Return a path of an experiment file: relative to the file's folder, with environment variables expanded.

    Raises:
        SpecError: A variable is not set.

    Examples:
        >>> from pathlib import Path
        >>> located(Path("/experiments"), "weights/minilm.pt")
        '/experiments/weights/minilm.pt'
    """
    expanded = os.path.expandvars(text)
    unset = re.search(r"\$\{?\w+\}?", expanded)
    if unset:
        raise SpecError("path", "environment variable is not set", unset.group(), f"set it, for {text}")
    return str(folder / expanded)


Some = TypeVar("Some", bound=ExampleSet)
"""Examples of either kind."""


def split(examples: Some, seed: int, validation: int, train: int | None, where: str) -> tuple[Some, Some]:
    """Return training and validation examples, drawn by a seed, in random order.

    Args:
        examples: The examples to draw from.
        seed: Of the draw.
        validation: The number of validation examples.
        train: The number of training examples; None for all others.
        where: The name of the source in messages.

    Raises:
        SpecError: There are too few examples.
    """
    requested = validation + (1 if train is None else train)
    if requested > len(examples):
        value, hint = f"{validation} for validation + {train}", f"at most {len(examples)}"
        raise SpecError(where, "more examples requested than exist", value, hint)
    order = torch.from_numpy(stream(seed, "split").permutation(len(examples)))
    end = len(examples) if train is None else validation + train
    return examples.select(order[validation:end]), examples.select(order[:validation])
