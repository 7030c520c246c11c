"""Data of your own: a function or class that returns a PyTorch dataset for each split."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset

from sim.base.errors import SpecError, raised
from sim.base.parameters import NonNegativeInt, Parameters, Share
from sim.base.streams import stream
from supernet.data.items import ItemFormat
from supernet.data.lazy import LazyExamples, clients_of
from supernet.data.source import Splits, located
from supernet.data.streamed import StreamedExamples
from supernet.factories import check_factory, frozen_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

SPLITS = ("train", "validation", "test")

_TEST_SEED = 0
"""The test examples are the same for all seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions(Parameters):
    """How the datasets of a factory are read.

    Attributes:
        inputs: Of items that are mappings: the keys of the network's arguments, in order.
        label: The key of the label.
        held_out: The share of the training examples that are used for validation instead: drawn by the seed, and taken
            from the dataset of "validation", which then has the same examples as that of "train", without augmentation.
            None if the dataset of "validation" has examples of its own.
        workers: Worker processes that read examples; 0 for the training's own.
        regression: Whether labels are numbers, or arrays of numbers, not classes.
    """

    inputs: tuple[str, ...] = ()
    label: str = "label"
    held_out: Share | None = None
    workers: NonNegativeInt = 0
    regression: bool = False


RESERVED = tuple(field.name for field in fields(ReadingOptions))
"""What a file says beside the arguments of a factory, which therefore can't have these names."""


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Data of a factory, which is called with `split`: "train", "validation" or "test".

    Its datasets are map-style (`__len__` and `__getitem__`) or iterable (`__len__` and `__iter__`). Items are tuples
    that end with the label, or mappings. Augmentation belongs to the dataset of "train".

    Attributes:
        factory: The function or class.
        options: Its other arguments by name; a `path` is relative to the experiment file.
        reading: How its datasets are read.
    """

    factory: Callable[..., Any]
    options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    reading: ReadingOptions = field(default_factory=ReadingOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", frozen_options(self.options))
        check_factory(self.factory, {"split": "train", **dict(self.options)}, RESERVED)

    def located(self, folder: Path) -> Self:
        """Return the source with its path relative to a folder."""
        options = dict(self.options)
        return replace(
            self, options=options | {"path": located(folder, options["path"])} if "path" in options else options
        )

    def identity(self) -> dict[str, Any]:
        """Return its parameters, and a hash of the files at `path`; its code counts with the training's."""
        options = dict(self.options)
        path = options.pop("path", None)
        files = {} if path is None else {"files": content_hash(Path(path))}
        reading = asdict(self.reading)
        del reading["workers"]
        if not self.reading.regression:
            del reading["regression"]
        return {"options": options, **reading, **files}

    def splits(self, seed: int) -> Splits:
        """Return the examples.

        Raises:
            SpecError: The factory fails, or a dataset is empty or of the wrong form.
        """
        train, validation, test = (self._examples(split) for split in SPLITS)
        share = self.reading.held_out
        if share is None:
            return Splits(train, validation, test, clients=clients_of(train))
        if len(train) != len(validation):
            value, hint = f"{len(train)} and {len(validation)} examples", "the same examples, without augmentation"
            raise SpecError(self._name, 'held_out needs equal datasets of "train" and "validation"', value, hint)
        rest, drawn = hold_out(len(train), share, seed, self._name)
        train = train.select(rest)
        return Splits(train, validation.select(drawn), test, clients=clients_of(train))

    @property
    def regression(self) -> bool:
        """Whether labels are numbers."""
        return self.reading.regression

    @property
    def _name(self) -> str:
        return f"{self.factory.__module__}:{self.factory.__qualname__}"

    def _examples(self, split: str) -> LazyExamples | StreamedExamples:
        reading, where = self.reading, f"{self._name}, {split}"
        form = ItemFormat(reading.inputs, reading.label, reading.regression)
        try:
            dataset = self.factory(split=split, **dict(self.options))
        except Exception as error:
            problem, place = raised(error)
            raise SpecError(where, problem, place) from error
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
            if self.reading.workers:
                hint = "workers: 0, or a dataset with __getitem__: each worker would read all examples"
                raise SpecError(where, "an iterable dataset has no workers", str(self.reading.workers), hint)
            return StreamedExamples.of(dataset, where, form)
        return LazyExamples.of(dataset, where, form, self.reading.workers)


def hold_out(count: int, share: float, seed: int | None, where: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the indices that remain, and a share of them that is held out; both in random order.

    Args:
        count: The number of examples.
        share: The share to hold out.
        seed: Of the draw; None for that of the test examples, which are the same for all seeds.
        where: What messages call the data.

    Raises:
        SpecError: None would remain, or be held out.
    """
    order = torch.from_numpy(stream(_TEST_SEED if seed is None else seed, "split").permutation(count))
    end = round(share * count)
    if not 0 < end < count:
        raise SpecError(where, "too few examples to hold out a share", f"{share:g} of {count}", "more examples")
    return order[end:], order[:end]


def content_hash(path: Path) -> str:
    """Return a hash of a file, or of all files below a folder with their names.

    Raises:
        SpecError: There is no such file or folder.
    """
    if not path.exists():
        raise SpecError(str(path), "file not found", "", "a path relative to the experiment file")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    stamps = tuple((file, *_stamp(file)) for file in files)
    return _content_hash(path, stamps)


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _content_hash(folder: Path, stamps: tuple[tuple[Path, int, int], ...]) -> str:
    whole = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for (file, *_), digest in zip(stamps, pool.map(_digest, [file for file, *_ in stamps]), strict=True):
            whole.update(f"{file.relative_to(folder).as_posix() if file != folder else ''} {digest}\n".encode())
    return whole.hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
