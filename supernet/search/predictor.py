"""Foresees a number for subnets that were not measured, such as the accuracy, from some that were.

Kernel ridge regression: a few hundred measured subnets are few for a neural network, which once-for-all fits to 16,000;
leaving out one at a time tells how to set what there is to set; and a fit takes milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import SpecError
from sim.base.streams import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from supernet.network import Supernet
    from supernet.space import SubNet

FEWEST = 10
"""Measured subnets that a fit takes at the least."""

_LENGTHS = (0.5, 1.0, 2.0, 4.0)  # of the kernel, in typical distances
_RIDGES = tuple(10.0**power for power in range(-6, 2))
_HELD_OUT = 5  # one of so many


def encoded(supernet: Supernet, subnets: Sequence[SubNet]) -> npt.NDArray[np.float64]:
    """Return subnets as numbers, shape (subnets, blocks + groups): whether a block runs, the share of a group's units.

    Two control tuples that are the same network are the same numbers.
    """
    choices = [supernet.choice(subnet) for subnet in subnets]
    sizes = [group.units for group in supernet.structure.groups]
    return np.array([[*choice.runs, *np.divide(choice.units, sizes)] for choice in choices])


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """A function from encoded subnets to a number.

    Attributes:
        known: The encoded subnets that it was fitted to, shape (subnets, features).
        weights: Of each of these, shape (subnets,).
        mean: The mean of the numbers.
        length: Over which distance the function changes.
    """

    known: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    mean: float
    length: float

    @classmethod
    def fit(cls, known: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> Predictor:
        """Return the function that foresees best what was measured, each from all others.

        Args:
            known: Encoded subnets, shape (subnets, features).
            values: What was measured of each, shape (subnets,).

        Raises:
            SpecError: There are too few subnets.
        """
        if len(known) < FEWEST:
            raise SpecError("predictor", "has too few subnets to learn from", str(len(known)), f"at least {FEWEST}")
        mean, best = float(values.mean()), (np.inf, 1.0, np.zeros(len(values)))
        typical = float(np.median(np.sqrt(_squares(known, known)))) or 1.0
        for length in (typical * factor for factor in _LENGTHS):
            sizes, vectors = np.linalg.eigh(_kernel(known, known, length))
            for ridge in _RIDGES:
                inverse = (vectors / (sizes + ridge)) @ vectors.T
                weights = inverse @ (values - mean)
                error = float(np.square(weights / np.diag(inverse)).sum())  # of each, when it is left out
                if error < best[0]:
                    best = (error, length, weights)
        return cls(known, best[2], mean, best[1])

    def predict(self, subnets: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the numbers of encoded subnets, shape (subnets,)."""
        return self.mean + _kernel(subnets, self.known, self.length) @ self.weights


@dataclass(frozen=True, slots=True)
class Trust:
    """How well a predictor does on subnets that it was not fitted to.

    Attributes:
        subnets: How many these are.
        rmse: The root of its mean squared error.
        std: That of who always says the mean.
        order: Of all pairs of them, the share that it puts in the right order less that in the wrong one (Kendall).
    """

    subnets: int
    rmse: float
    std: float
    order: float


def trust(known: npt.NDArray[np.float64], values: npt.NDArray[np.float64], seed: int) -> Trust:
    """Return how well a predictor does that is fitted to four fifths of what was measured, on the fifth.

    Raises:
        SpecError: There are too few subnets.
    """
    held_out = stream(seed, "held out").permutation(len(known)) % _HELD_OUT == 0
    foreseen = Predictor.fit(known[~held_out], values[~held_out]).predict(known[held_out])
    found = values[held_out]
    rmse = float(np.sqrt(np.square(foreseen - found).mean()))
    one, other = np.triu_indices(len(found), 1)
    agreement = np.sign(foreseen[one] - foreseen[other]) * np.sign(found[one] - found[other])
    return Trust(len(found), rmse, float(found.std()), float(agreement.mean()))


def _squares(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    total: npt.NDArray[np.float64] = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T
    total[total < 0] = 0.0  # what rounding leaves of a subnet's distance to itself
    return total


def _kernel(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], length: float) -> npt.NDArray[np.float64]:
    """Return a smooth bump for each pair on a straight line: shape (one, other)."""
    total: npt.NDArray[np.float64] = np.exp(-_squares(one, other) / (2 * length**2)) + one @ other.T / one.shape[1]
    return total
