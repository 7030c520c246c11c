"""scikit-learn's digits: 1,797 grey images of 8 x 8 (the test part of UCI's optical digits), for tests."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from sim.base.errors import SpecError
from sim.base.parameters import Parameters, PositiveInt
from supernet.data.source import Examples, Splits, split

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

_TEST = 360
_TEST_SEED = 0  # the test examples are the same for all seeds
_SIDE = 8
_HALF = 8  # half of the largest value of a pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits(Parameters):
    """The digits that come with scikit-learn: float32 of shape (examples, 1, 8, 8), from -1 to 1.

    Attributes:
        validation: The number of validation examples, of the 1,437 that are not test examples.
        train: The number of training examples; None for all others.
    """

    validation: PositiveInt = 237
    train: PositiveInt | None = None

    def located(self, folder: Path) -> Self:
        """Return the source unchanged: it has no path."""
        return self

    def identity(self) -> dict[str, Any]:
        """Return its parameters."""
        return asdict(self)

    def splits(self, seed: int) -> Splits:
        """Return the images.

        Raises:
            SpecError: scikit-learn is not installed, or there are too few images.
        """
        try:
            from sklearn.datasets import load_digits  # noqa: PLC0415 - an optional dependency, and it takes a second
        except ImportError as error:
            raise SpecError("digits", "needs scikit-learn", str(error), "pip install scikit-learn") from error
        pixels, labels = load_digits(return_X_y=True)
        images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, _SIDE, _SIDE) / _HALF - 1
        examples = Examples((images,), torch.tensor(labels, dtype=torch.int64))
        remaining, test = split(examples, _TEST_SEED, _TEST, None, "digits")
        train, validation = split(remaining, seed, self.validation, self.train, "digits")
        return Splits(train, validation, test)
