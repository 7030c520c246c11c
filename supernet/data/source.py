"""Labelled examples in three parts, and what a source of them has to offer."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from sim.base.errors import SpecError
from sim.base.streams import stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Labelled examples.

    Attributes:
        inputs: The arguments that a network is called with, tensors whose first dimension goes over examples.
        labels: The class of each example, int64, shape (examples,).
    """

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: torch.Tensor) -> Examples:
        """Return some of the examples, in the order of their indices."""
        return Examples(tuple(part[which] for part in self.inputs), self.labels[which])

    def first(self, count: int) -> Examples:
        """Return the first examples; all, if there are no more."""
        return Examples(tuple(part[:count] for part in self.inputs), self.labels[:count])

    def batches(self, size: int) -> Iterator[Examples]:
        """Yield all examples in their order, so many at a time; the last time, what is left."""
        parts = zip(*(torch.split(part, size) for part in self.inputs), strict=True)
        yield from map(Examples, parts, torch.split(self.labels, size))

    def to(self, device: torch.device | str) -> Examples:
        """Return the examples on a device."""
        return Examples(tuple(part.to(device) for part in self.inputs), self.labels.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The three parts of a data set.

    Attributes:
        train: What weights are fitted to, and what running statistics are taken from.
        validation: What choices are made by, such as those of a search.
        test: What nothing is decided by: the accuracies that are reported. The same examples for all seeds.
    """

    train: Examples
    validation: Examples
    test: Examples


class Source(Protocol):
    """A frozen dataclass whose fields are its parameters; YAML names it by `kind`."""

    def located(self, folder: Path) -> Self:
        """Return the source with its paths taken from a folder, that of the experiment file.

        Raises:
            SpecError: A path names an environment variable that is not set.
        """
        ...

    def identity(self) -> dict[str, Any]:
        """Return what decides the examples, as JSON knows it: parameters but for paths, and hashes of files."""
        ...

    def splits(self, seed: int) -> Splits:
        """Return the examples; the seed decides which are for training and which for validation.

        Raises:
            DataError: A file is damaged, or another than it should be.
            SpecError: There is no such file, or more examples are asked for than there are.
        """
        ...


def located(folder: Path, text: str) -> str:
    """Return a path as an experiment file has it: from the file's folder, with environment variables put in.

    Raises:
        SpecError: A variable is not set.

    Example:
        >>> from pathlib import Path
        >>> located(Path("/experiments"), "weights/minilm.pt")
        '/experiments/weights/minilm.pt'
    """
    found = os.path.expandvars(text)
    left = re.search(r"\$\{?\w+\}?", found)
    if left:
        raise SpecError("path", "names an environment variable that is not set", left.group(), f"set it: {text}")
    return str(folder / found)


def split(examples: Examples, seed: int, validation: int, train: int | None, where: str) -> tuple[Examples, Examples]:
    """Return examples for training and for validation, drawn by a seed; in random order.

    Args:
        examples: What is drawn from.
        seed: Decides what is drawn.
        validation: How many are for validation.
        train: How many are for training; None for all others.
        where: What messages call the source.

    Raises:
        SpecError: There are not so many.
    """
    wanted = validation + (1 if train is None else train)
    if wanted > len(examples):
        right = f"at most {len(examples)}"
        raise SpecError(where, "asks for more examples than there are", f"{validation} for validation + {train}", right)
    order = torch.from_numpy(stream(seed, "split").permutation(len(examples)))
    end = len(examples) if train is None else validation + train
    return examples.take(order[validation:end]), examples.take(order[:validation])
