"""Examples in a CSV file: a row for each, with numbers or the path of an image, and a label."""

from __future__ import annotations

import csv
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv as arrow_csv

from sim.base.errors import DataError, SpecError, did_you_mean
from sim.base.parameters import NonNegativeInt, Parameters, PositiveInt, Share
from supernet.data.dataset import content_hash, hold_out
from supernet.data.images import ImageFiles
from supernet.data.items import ItemFormat, single_precision
from supernet.data.lazy import LazyExamples
from supernet.data.source import Splits, located

if TYPE_CHECKING:
    from typing import Self

    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFile(Parameters):
    """The rows of a CSV file, which may be larger than memory.

    Without `image`, all columns but the label are the input: float32, shape (columns). With it, images are read as
    `supernet.data.images.Images` does. Classes are numbered in the order of their labels.

    Attributes:
        path: The file.
        label: The column of the labels.
        image: The column of the paths of images, relative to the file; None if the columns are numbers.
        size: The side of the images in pixels.
        grey: Whether images have one channel in place of three.
        flip: Whether half of the training images are mirrored, at random.
        crop: The pixels by which training images are shifted at most, at random.
        validation: The share of the training examples that is used for validation.
        test: The share of all examples that is used for the test.
        workers: Worker processes that read examples; 0 for the training's own.
        classes: The labels in the order of their classes; None for those that the file has, sorted.
        regression: Whether labels are numbers, not classes.
        client: The column that says which client holds a row of a federated training; it is not an input.
    """

    path: str
    label: str
    image: str | None = None
    size: PositiveInt | None = None
    grey: bool = False
    flip: bool = False
    crop: NonNegativeInt = 0
    validation: Share = 0.1
    test: Share = 0.2
    workers: NonNegativeInt = 0
    classes: tuple[str | int, ...] | None = None
    regression: bool = False
    client: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.image is None) != (self.size is None):
            raise SpecError("csv.size", "belongs to images", str(self.size), "both image and size, or neither")
        if self.image is None and (self.grey or self.flip or self.crop):
            raise SpecError("csv.image", "grey, flip and crop are for images", "", "image: the column of their paths")
        if self.regression and self.classes is not None:
            raise SpecError("csv.classes", "labels are numbers in a regression", "", "remove classes or regression")

    def located(self, folder: Path) -> Self:
        """Return the source with its path relative to a folder."""
        return replace(self, path=located(folder, self.path))

    def identity(self) -> dict[str, Any]:
        """Return its parameters, and hashes of the file and of its images in place of the path."""
        left_out = {
            "path",
            "workers",
            *(name for name in ("classes", "regression", "client") if not getattr(self, name)),
        }
        known = {name: value for name, value in asdict(self).items() if name not in left_out}
        images = [] if self.image is None else [content_hash(file) for file in dict.fromkeys(self._files())]
        return known | {"file": content_hash(Path(self.path)), **({"images": images} if images else {})}

    def splits(self, seed: int) -> Splits:
        """Return the rows.

        Raises:
            SpecError: There is no such file or column, or too few rows.
            DataError: A value is missing, or is not a number.
        """
        column, clients = self._column(self.label), None if self.client is None else self._column(self.client)
        labels: npt.NDArray[Any] = (
            _targets(column, self.path) if self.regression else _classes(column, self.classes, self.path)
        )
        rest, test = hold_out(len(labels), self.test, None, self.path)
        train, validation = hold_out(len(rest), self.validation, seed, self.path)
        if self.image is not None and self.size is not None:
            files, mode = list(zip(self._files(), labels.tolist(), strict=True)), "L" if self.grey else "RGB"
            plain: Any = ImageFiles(files, self.size, mode, flip=False, crop=0)
            augmented: Any = ImageFiles(files, self.size, mode, flip=self.flip, crop=self.crop)
        else:
            names = [name for name in _header(Path(self.path)) if name not in {self.label, self.client}]
            plain = augmented = NumericRows(_numbers(Path(self.path), names), labels)
        every, drawn = self._examples(plain), self._examples(augmented)
        parts = drawn.select(rest[train]), every.select(rest[validation]), every.select(test)
        return Splits(*parts, clients=clients and [clients[row] for row in rest[train].tolist()])

    def _examples(self, dataset: Any) -> LazyExamples:
        return LazyExamples.of(dataset, self.path, ItemFormat(regression=self.regression), self.workers)

    def _files(self) -> list[Path]:
        return [Path(self.path).parent / str(name) for name in self._column(str(self.image))]

    def _column(self, name: str) -> list[str]:
        """Return the text of a column.

        Raises:
            SpecError: There is no such column.
            DataError: A value is missing.
        """
        header = _header(Path(self.path))
        if name not in header:
            raise SpecError(self.path, "no such column", repr(name), did_you_mean(name, header))
        values: list[str] = []
        for table in _tables(Path(self.path), {name: pa.string()}):
            values += table.column(name).to_pylist()
        if "" in values:
            raise DataError(f"{self.path}, row {values.index('') + 1}", "no value", name, "a value in each row")
        return values


class NumericRows:
    """A map-style dataset of rows of numbers.

    Args:
        values: float32, shape (rows, columns); may be a file.
        labels: int64, or numbers in float32, shape (rows,).
    """

    def __init__(self, values: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> None:
        self.values, self.targets = values, labels

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        """Return the numbers of a row, float32, shape (columns,), and its label."""
        return torch.from_numpy(np.array(self.values[index])), self.targets[index].item()


def _header(path: Path) -> list[str]:
    """Return the names of the columns.

    Raises:
        SpecError: There is no such file, or it is empty, or a name is there more than once.
    """
    if not path.is_file():
        raise SpecError(str(path), "file not found", "", "a path relative to the experiment file")
    with path.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    if not header or len(set(header)) < len(header):
        raise SpecError(str(path), "no header of different names", ", ".join(header), "the names of the columns")
    return header


def _tables(path: Path, kinds: dict[str, pa.DataType]) -> pa.RecordBatchReader:
    convert = arrow_csv.ConvertOptions(include_columns=[*kinds], column_types=kinds, strings_can_be_null=False)
    return arrow_csv.open_csv(path, convert_options=convert)


def _numbers(path: Path, names: list[str]) -> npt.NDArray[np.float32]:
    """Return columns of numbers, in a temporary file of the machine: they may be larger than memory.

    Raises:
        SpecError: There is no column.
        DataError: A value is missing, or not a finite number.
    """
    if not names:
        raise SpecError(str(path), "no column but the label", "", "columns of numbers")
    rows = 0
    with tempfile.TemporaryFile() as file:
        try:
            for table in _tables(path, dict.fromkeys(names, pa.float32())):
                values = np.column_stack([table.column(name).to_numpy(zero_copy_only=False) for name in names])
                if not np.isfinite(values).all():
                    row, column = (int(place[0]) for place in np.nonzero(~np.isfinite(values)))
                    where = f"{path}, row {rows + row + 1}"
                    raise DataError(where, "not a finite number", names[column], "a number in each row")
                file.write(values.astype(np.float32).tobytes())
                rows += len(values)
        except pa.ArrowInvalid as error:
            hint = "numbers only, or image: the column of paths of images"
            raise DataError(str(path), "a column is not numbers", str(error).partition("\n")[0], hint) from error
        file.flush()
        return np.memmap(file, np.float32, "r", shape=(rows, len(names)))


def _targets(labels: list[str], path: str) -> npt.NDArray[np.float32]:
    """Return labels that are numbers.

    Raises:
        DataError: One is not a finite number, or they are too close to each other for float32.
    """
    found = np.empty(len(labels))
    for row, label in enumerate(labels):
        try:
            found[row] = float(label)
        except ValueError:
            found[row] = np.nan
        if not abs(found[row]) <= np.finfo(np.float32).max:
            hint = "a number such as 1200, without separators"
            raise DataError(f"{path}, row {row + 1}", "label not a finite number", repr(label), hint)
    return single_precision(torch.from_numpy(found), path).numpy()


def _classes(labels: list[str], classes: tuple[str | int, ...] | None, path: str) -> npt.NDArray[np.int64]:
    """Return the number of each label's class: whole numbers are ordered as such, unless the order is given.

    Raises:
        DataError: A label is not among the given ones.
    """
    whole = all(label.lstrip("-").isdecimal() for label in labels)
    ordered = sorted(set(labels), key=int if whole else None) if classes is None else list(map(str, classes))
    known = {label: number for number, label in enumerate(ordered)}
    unknown = next((label for label in labels if label not in known), None)
    if unknown is not None:
        raise DataError(path, "a label is not one of the classes", repr(unknown), did_you_mean(unknown, ordered))
    return np.array([known[label] for label in labels], dtype=np.int64)
