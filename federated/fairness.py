"""How evenly the accuracy of a model is spread over clients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class Fairness:
    """Figures of the accuracies of clients, in percent (as in q-FedAvg: Li et al., ICLR 2020).

    Attributes:
        mean: The mean, each client counting once.
        std: The standard deviation.
        worst: The mean of the least accurate tenth of the clients, rounded up to whole clients.
        best: The mean of the most accurate tenth.
        jain: Jain's index: 1 if all are equal, 1 / n if all but one are 0 (Jain, Chiu and Hawe, 1984).
    """

    mean: float
    std: float
    worst: float
    best: float
    jain: float

    @classmethod
    def of(cls, accuracies: Collection[float]) -> Fairness:
        """Return the figures of at least one accuracy."""
        values = np.sort(np.array(list(accuracies), float))
        tenth, squares = math.ceil(len(values) / 10), float((values**2).sum())
        jain = float(values.sum()) ** 2 / (len(values) * squares) if squares else 1.0
        worst, best = float(values[:tenth].mean()), float(values[-tenth:].mean())
        return cls(float(values.mean()), float(values.std()), worst, best, jain)
