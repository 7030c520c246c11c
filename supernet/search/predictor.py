"""Predicts a property of subnets, such as the accuracy, from a sample of measured ones.

Kernel ridge regression: a few hundred measured subnets are few for a neural network, which once-for-all fits to 16,000;
leave-one-out error selects the hyperparameters; and a fit takes milliseconds.
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
    from supernet.space import SubnetConfig

MIN_SUBNETS = 10
"""The fewest measured subnets that a predictor is fitted to."""

_LENGTHS = (0.5, 1.0, 2.0, 4.0)  # length scales of the kernel, relative to the median distance
_RIDGES = tuple(10.0**power for power in range(-6, 2))
_FOLDS = 5


def encode(supernet: Supernet, subnets: Sequence[SubnetConfig]) -> npt.NDArray[np.float64]:
    """Return features of subnets, shape (subnets, blocks + groups): active blocks, and the active share of each group.

    Control tuples of the same network have the same features.
    """
    configs = [supernet.active_config(subnet) for subnet in subnets]
    sizes = [group.units for group in supernet.structure.groups]
    return np.array([[*config.active_blocks, *np.divide(config.active_units, sizes)] for config in configs])


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """A regression function on the features of subnets.

    Attributes:
        features: Of the subnets that it was fitted to, shape (subnets, features).
        weights: Of each of these, shape (subnets,).
        mean: The mean of the fitted values.
        length: The length scale of the kernel.
    """

    features: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    mean: float
    length: float

    @classmethod
    def fit(cls, features: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> Predictor:
        """Return the function with the least leave-one-out error.

        Args:
            features: Of measured subnets, shape (subnets, features).
            values: The measured values, shape (subnets,).

        Raises:
            SpecError: There are too few subnets.
        """
        if len(features) < MIN_SUBNETS:
            raise SpecError("predictor", "too few measured subnets", str(len(features)), f"at least {MIN_SUBNETS}")
        mean, best = float(values.mean()), (np.inf, 1.0, np.zeros(len(values)))
        median_distance = float(np.median(np.sqrt(_squared_distances(features, features)))) or 1.0
        for length in (median_distance * factor for factor in _LENGTHS):
            eigenvalues, vectors = np.linalg.eigh(_kernel(features, features, length))
            for ridge in _RIDGES:
                inverse = (vectors / (eigenvalues + ridge)) @ vectors.T
                weights = inverse @ (values - mean)
                error = float(np.square(weights / np.diag(inverse)).sum())  # leave-one-out
                if error < best[0]:
                    best = (error, length, weights)
        return cls(features, best[2], mean, best[1])

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the predicted values of subnets, shape (subnets,)."""
        return self.mean + _kernel(features, self.features, self.length) @ self.weights


@dataclass(frozen=True, slots=True)
class PredictorScore:
    """The quality of predictions for held-out subnets.

    Attributes:
        held_out: The number of held-out subnets.
        rmse: The root mean squared error.
        std: The standard deviation of their values: the RMSE of predicting the mean.
        kendall_tau: Kendall's tau-a: the share of pairs in the right order minus the share in the wrong one.
    """

    held_out: int
    rmse: float
    std: float
    kendall_tau: float


def score_predictor(features: npt.NDArray[np.float64], values: npt.NDArray[np.float64], seed: int) -> PredictorScore:
    """Return the quality of a predictor that is fitted to four fifths of the measured subnets, on the other fifth.

    Raises:
        SpecError: There are too few subnets.
    """
    held_out = stream(seed, "held out").permutation(len(features)) % _FOLDS == 0
    predicted = Predictor.fit(features[~held_out], values[~held_out]).predict(features[held_out])
    measured = values[held_out]
    rmse = float(np.sqrt(np.square(predicted - measured).mean()))
    i, j = np.triu_indices(len(measured), 1)
    agreement = np.sign(predicted[i] - predicted[j]) * np.sign(measured[i] - measured[j])
    return PredictorScore(len(measured), rmse, float(measured.std()), float(agreement.mean()))


def _squared_distances(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    total: npt.NDArray[np.float64] = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    total[total < 0] = 0.0  # rounding of a subnet's distance to itself
    return total


def _kernel(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], length: float) -> npt.NDArray[np.float64]:
    """Return the sum of a Gaussian and a linear kernel for each pair: shape (a, b)."""
    total: npt.NDArray[np.float64] = np.exp(-_squared_distances(a, b) / (2 * length**2)) + a @ b.T / a.shape[1]
    return total
