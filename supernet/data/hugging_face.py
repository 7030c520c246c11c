"""Data sets of Hugging Face's `datasets` on disk, as `save_to_disk` writes them; they may be larger than memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.base.errors import DataError, SpecError, did_you_mean
from sim.base.parameters import NonNegativeInt, Parameters, Share
from supernet.data.dataset import SPLITS, content_hash, hold_out
from supernet.data.items import ItemFormat
from supernet.data.lazy import LazyExamples, clients_of
from supernet.data.source import Splits, located

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFace(Parameters):
    """A `DatasetDict` with the splits train, test and perhaps validation, or a `Dataset`, on disk.

    Attributes:
        path: The folder that `save_to_disk` has written.
        inputs: The columns of the network's arguments, in order.
        label: The column of the labels.
        validation: The share of the training examples that is used for validation, if there is no such split.
        test: The share of a `Dataset` that is used for the test.
        workers: Worker processes that read examples; 0 for the training's own.
        client: The column that says which client holds an example of a federated training.
    """

    path: str
    inputs: tuple[str, ...]
    label: str = "label"
    validation: Share = 0.1
    test: Share = 0.2
    workers: NonNegativeInt = 0
    client: str | None = None

    def located(self, folder: Path) -> Self:
        """Return the source with its path relative to a folder."""
        return replace(self, path=located(folder, self.path))

    def identity(self) -> dict[str, Any]:
        """Return its parameters, and a hash of all files in place of the path."""
        left_out = {"path", "workers", *(["client"] if self.client is None else [])}
        known = {name: value for name, value in asdict(self).items() if name not in left_out}
        return known | {"files": content_hash(Path(self.path))}

    def splits(self, seed: int) -> Splits:
        """Return the examples.

        Raises:
            SpecError: `datasets` is not installed, or there is no such folder, split or column, or too few examples.
            DataError: The folder is damaged.
        """
        try:
            datasets: Any = import_module("datasets")
        except ImportError as error:
            raise SpecError("huggingface", "needs datasets", str(error), "pip install datasets") from error
        try:
            loaded = datasets.load_from_disk(self.path)
        except Exception as error:
            hint = "a folder that save_to_disk has written"
            raise DataError(self.path, "can't be read", str(error).partition("\n")[0], hint) from error
        parts = {split: self._examples(part) for split, part in loaded.items()} if isinstance(loaded, dict) else {}
        if not parts:
            whole = self._examples(loaded)
            rest, drawn = hold_out(len(whole), self.test, None, self.path)
            parts = {"train": whole.select(rest), "test": whole.select(drawn)}
        lacking = [split for split in ("train", "test") if split not in parts]
        if lacking:
            raise SpecError(self.path, f"no split {lacking[0]!r}", ", ".join(parts), "train and test")
        if "validation" not in parts:
            rest, drawn = hold_out(len(parts["train"]), self.validation, seed, self.path)
            parts |= {"train": parts["train"].select(rest), "validation": parts["train"].select(drawn)}
        return Splits(*(parts[split] for split in SPLITS), clients=clients_of(parts["train"]))

    def _examples(self, dataset: Any) -> LazyExamples:
        for name in (*self.inputs, self.label, *([] if self.client is None else [self.client])):
            if name not in dataset.column_names:
                raise SpecError(self.path, "no such column", repr(name), did_you_mean(name, dataset.column_names))
        form = ItemFormat(self.inputs, self.label)
        return LazyExamples.of(_Columns(dataset, self.label, self.client), self.path, form, self.workers)


class _Columns:
    """A map-style dataset of rows, whose labels are known where they are single numbers."""

    def __init__(self, dataset: Any, label: str, client: str | None) -> None:
        self.dataset = dataset
        is_number = hasattr(dataset.features[label], "dtype") and not isinstance(dataset.features[label], list)
        self.targets = np.array(dataset.data.column(label)) if is_number else None
        self.clients = None if client is None else list(map(str, dataset[client]))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]
