"""The two comparisons of the paper's abstract: accuracy at equal SLO attainment, SLO attainment at equal accuracy.

A policy that switches subnets is held against systems that serve one model whatever the load (Clipper+, INFaaS). The
baseline is chosen by means over seeds; the comparison itself is made seed by seed, since within a seed all policies met
the same arrivals. No baseline is interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.base.intervals import mean_and_half_width

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Side:
    """One policy in a comparison.

    Attributes:
        policy: Its label.
        attainments: SLO attainment by seed, from 0 to 1.
        accuracies: Mean serving accuracy by seed, in percent; seeds in which no query met its SLO are left out.
    """

    policy: str
    attainments: Mapping[int, float]
    accuracies: Mapping[int, float]

    @property
    def attainment(self) -> float:
        """SLO attainment, mean over seeds; NaN without any."""
        return _mean(self.attainments)

    @property
    def accuracy(self) -> float:
        """Mean serving accuracy in percent, mean over seeds; NaN without any."""
        return _mean(self.accuracies)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison with the best baseline.

    Attributes:
        baseline: The baseline.
        values: One number a seed: points of accuracy, or a ratio of attainments.
    """

    baseline: Side
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN without any."""
        return mean_and_half_width(self.values)[0] if self.values else math.nan


def gain_at_equal_attainment(subject: Side, baselines: Sequence[Side]) -> Comparison | None:
    """Return by how many points a policy is more accurate than the most accurate baseline that attains as much.

    None where no baseline attains as much.
    """
    reaching = [side for side in baselines if side.attainment >= subject.attainment and side.accuracies]
    if not reaching:
        return None
    best = max(reaching, key=lambda side: side.accuracy)
    return Comparison(best, _paired(subject.accuracies, best.accuracies, lambda ours, theirs: ours - theirs))


def ratio_at_equal_accuracy(subject: Side, baselines: Sequence[Side]) -> Comparison | None:
    """Return how many times as much a policy attains as the best baseline that is at least as accurate.

    None where no baseline that attains anything is as accurate.
    """
    reaching = [side for side in baselines if side.accuracy >= subject.accuracy and side.attainment > 0]
    if not reaching:
        return None
    best = max(reaching, key=lambda side: side.attainment)
    return Comparison(best, _paired(subject.attainments, best.attainments, lambda ours, theirs: ours / theirs))


def _paired(
    ours: Mapping[int, float], theirs: Mapping[int, float], compare: Callable[[float, float], float]
) -> tuple[float, ...]:
    return tuple(compare(value, theirs[seed]) for seed, value in ours.items() if theirs.get(seed))


def _mean(values: Mapping[int, float]) -> float:
    return mean_and_half_width(list(values.values()))[0] if values else math.nan
