"""Items of PyTorch datasets as tensors.

What a dataset draws at random, for augmentation, is a function of the seed of a batch and of the example: results
depend neither on the number of workers nor on interruptions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from sim.base.errors import DataError, SpecError, SsimError, raised
from supernet.data.source import Examples

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

LARGEST_ROUNDING = 1e-3
"""The share of the labels' standard deviation that may be lost in float32."""
BATCH = 256
"""Examples that are read at once where only their labels are asked for."""


class Key(NamedTuple):
    """An example to read: its place in the dataset, and the seed of what the dataset draws at random."""

    place: int
    seed: int


@dataclass(frozen=True, slots=True)
class ItemFormat:
    """What the items of a dataset are made of.

    A tuple ends with the label. Of a mapping, `label` names the label, and `inputs` the arguments of the network; with
    a single other key these need not be named.

    Attributes:
        inputs: The keys of the arguments, in order.
        label: The key of the label.
        regression: Whether labels are numbers, not classes.
    """

    inputs: tuple[str, ...] = ()
    label: str = "label"
    regression: bool = False

    def parts(self, item: Any) -> tuple[tuple[Any, ...], Any]:
        """Return the arguments of the network and the label of an item.

        Raises:
            SpecError: It has another form.
        """
        if isinstance(item, Mapping):
            others = self.inputs or tuple(key for key in item if key != self.label)
            lacking = [key for key in (*others, self.label) if key not in item]
            if lacking or (not self.inputs and len(others) != 1):
                hint = "data: {inputs: [...], label: ...} names those that are used"
                raise SpecError("item", "has other keys", ", ".join(map(str, item)), hint)
            return tuple(item[key] for key in others), item[self.label]
        if not isinstance(item, (tuple, list)) or len(item) < len(("input", "label")):
            raise SpecError("item", "not an input and a label", type(item).__name__, "a tuple that ends with the label")
        *inputs, label = item
        return tuple(inputs[0] if len(inputs) == 1 and isinstance(inputs[0], (tuple, list)) else inputs), label


class ItemReader(Dataset[Any]):
    """Items of a dataset as tensors; an error is returned, since one that is raised in a worker loses its parts."""

    def __init__(self, dataset: Any, form: ItemFormat, name: str) -> None:
        self.dataset, self.form, self.name = dataset, form, name

    def __getitem__(self, key: Key) -> Any:
        where = f"{self.name}, example {key.place}"
        try:
            with seeded(key.seed):
                item = self.dataset[key.place]
        except SsimError as error:
            return error
        except Exception as error:  # noqa: BLE001 - code of the user, which may raise anything
            return DataError(where, *raised(error))
        return self.converted(item, where)

    def converted(self, item: Any, where: str) -> Any:
        """Return an item as tensors, the last one of which is the label; or an error."""
        try:
            inputs, label = self.form.parts(item)
            return (*(_tensor(part) for part in inputs), label_of(label, regression=self.form.regression))
        except SsimError as error:
            return type(error)(where, error.problem, error.value, error.hint)
        except Exception as error:  # noqa: BLE001 - what can't become a tensor raises anything
            return DataError(where, "not a tensor", str(error).partition("\n")[0], "numbers, arrays or tensors")


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Seed the random generators that datasets draw from, and restore them."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the one that datasets use
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the one that datasets use
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002 - the one that datasets use
        torch.set_rng_state(before[2])


def _tensor(value: Any) -> torch.Tensor:
    """Return a part of an input as a tensor; an image of PIL becomes floats from -1 to 1, the channels first."""
    if hasattr(value, "getbands"):
        value = np.asarray(value, dtype=np.float32) / np.float32(127.5) - 1
        value = value[None] if value.ndim == len(("height", "width")) else value.transpose(2, 0, 1)
    tensor = torch.as_tensor(value)
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def label_of(value: Any, *, regression: bool = False) -> torch.Tensor:
    """Return a label, or several, as int64; in a regression, as float64.

    Raises:
        SpecError: It is not a whole number; in a regression, not a finite one.
    """
    is_exact = not regression or isinstance(value, torch.Tensor)
    label = torch.as_tensor(value if is_exact else np.asarray(value))  # torch rounds Python's floats, numpy does not
    if regression:
        if not label.float().isfinite().all():
            raise SpecError("label", "not a finite number", str(label.tolist()), "finite numbers")
        return label.double()
    if label.is_floating_point() or label.is_complex():
        hint = "the number of a class, from 0; or regression: true"
        raise SpecError("label", "not a whole number", str(label.dtype), hint)
    return label.long()


def single_precision(labels: torch.Tensor, place: str) -> torch.Tensor:
    """Return labels that are numbers as float32, shape (examples, ...).

    Raises:
        DataError: Rounding loses more than a thousandth of their standard deviation.
    """
    double = labels.double()
    single = double.float()
    if labels.dtype == torch.float32 or not len(labels):
        return single
    rounding, spread = (single.double() - double).abs().amax(0), double.std(0, correction=0)
    lost = (rounding > LARGEST_ROUNDING * spread) & (double != double[0]).any(0)
    if lost.any():
        value = f"rounding error {float(rounding[lost][0]):.3g}, standard deviation {float(spread[lost][0]):.3g}"
        raise DataError(place, "labels are too close to each other for float32", value, "subtract an offset from them")
    return single


def collated(items: Sequence[Any], *, exact: bool = False) -> Any:
    """Return items as one batch, or the first error among them; labels that are numbers in float32, unless exact."""
    error = next((item for item in items if isinstance(item, SsimError)), None)
    if error is not None:
        return error
    shapes = {tuple(tuple(part.shape) for part in item) for item in items}
    if len(shapes) > 1:
        first, second = (str(shape[0]) for shape in sorted(shapes)[:2])
        return DataError("data", "examples of one batch have different shapes", f"{first} and {second}", "one shape")
    *inputs, labels = (torch.stack(parts) for parts in zip(*items, strict=True))
    return Examples(tuple(inputs), labels if exact or labels.dtype != torch.float64 else labels.float())


def all_labels(batches: Iterable[Examples], form: ItemFormat, name: str) -> torch.Tensor:
    """Return the labels of exact batches, in float32 if they are numbers.

    Raises:
        DataError: Numbers are too close to each other for float32.
    """
    labels = torch.cat([batch.labels for batch in batches])
    return single_precision(labels, name) if form.regression else labels


def count_of(dataset: Any, name: str) -> int:
    """Return the length of a dataset.

    Raises:
        SpecError: It has none, or it is 0.
    """
    try:
        count = len(dataset)
    except Exception as error:
        problem, place = raised(error)
        raise SpecError(name, f"its length {problem}", place, "a dataset with __len__") from error
    if not count:
        raise SpecError(name, "has no examples", "", "one or more")
    return count


def checked(batch: Examples | SsimError) -> Examples:
    """Return a batch.

    Raises:
        SsimError: It is an error.
    """
    if isinstance(batch, SsimError):
        raise batch
    return batch


def mixed_seed(seed: int, index: int) -> int:
    """Return a seed for an example; those of neighbours have nothing in common."""
    return (seed + index * _ODD) % 2**63


_ODD = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio, as an odd number: multiples of it are spread evenly."""
