"""Comparisons of policies that met the same arrivals: each with the reference, and the two of the paper's abstract.

Differences from the reference are paired by seed. The paper holds a policy that switches subnets against systems that
serve one model whatever the load (Clipper+, INFaaS): accuracy at equal SLO attainment, and SLO attainment at equal
accuracy. There, the baseline is chosen by means over seeds, and the comparison itself is paired. No baseline is
interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.base.intervals import mean_and_half_width
from sim.base.numbers import format_decimals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DIGITS = 12
"""Decimals to which differences are computed: beyond them lies what rounding has left of equal numbers."""


@dataclass(frozen=True, slots=True)
class Side:
    """One policy in a comparison.

    Attributes:
        policy: Its label.
        attainments: SLO attainment by seed, from 0 to 1.
        accuracies: Mean serving accuracy by seed, in percent; seeds in which no query met its SLO are left out.
        is_random: Whether its runs depend on the seed. If not, its only run stands for every seed.
    """

    policy: str
    attainments: Mapping[int, float]
    accuracies: Mapping[int, float]
    is_random: bool = True

    @property
    def attainment(self) -> float:
        """SLO attainment, mean over seeds; NaN without any."""
        return _mean(self.attainments)

    @property
    def accuracy(self) -> float:
        """Mean serving accuracy in percent, mean over seeds; NaN without any."""
        return _mean(self.accuracies)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A policy minus the reference: one number for each seed that both have.

    Attributes:
        policy: The label of the policy.
        reference: The label of the reference.
        attainments: Differences in SLO attainment.
        accuracies: Differences in mean serving accuracy, in points.
    """

    policy: str
    reference: str
    attainments: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def attainment(self) -> tuple[float, float]:
        """Mean and half-width of the 95 % interval; a half-width of NaN for one seed."""
        return mean_and_half_width(self.attainments) if self.attainments else (math.nan, math.nan)

    @property
    def accuracy(self) -> tuple[float, float]:
        """Mean and half-width, likewise; NaN where no seed has an accuracy on both sides."""
        return mean_and_half_width(self.accuracies) if self.accuracies else (math.nan, math.nan)

    def __str__(self) -> str:
        attainment, accuracy = _change(*self.attainment, 6, ""), _change(*self.accuracy, 2, " points")
        return f"{self.policy} against {self.reference}: SLO attainment {attainment}, accuracy {accuracy}."


def difference(subject: Side, reference: Side) -> PairedDifference:
    """Return the differences of a policy from the reference, paired by seed."""
    both = (subject.attainments, reference.attainments), (subject.accuracies, reference.accuracies)
    fixed = (not subject.is_random, not reference.is_random)
    attainments, accuracies = (_paired(ours, theirs, _minus, fixed) for ours, theirs in both)
    return PairedDifference(subject.policy, reference.policy, attainments, accuracies)


def _minus(ours: float, theirs: float) -> float:
    return round(ours - theirs, _DIGITS)


def _change(mean: float, half: float, digits: int, unit: str) -> str:
    """Return a difference in words."""
    if math.isnan(mean):
        return "not comparable (no query met its SLO)"
    if mean == 0 and not half > 0:
        return "the same"
    interval = "" if math.isnan(half) else f" ±{half:.1g}"
    unclear = ", an interval that includes 0" if half >= abs(mean) else ""
    return f"{'higher' if mean >= 0 else 'lower'} by {format_decimals(abs(mean), digits)}{interval}{unit}{unclear}"


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
    fixed = (not subject.is_random, not best.is_random)
    return Comparison(best, _paired(subject.accuracies, best.accuracies, lambda ours, theirs: ours - theirs, fixed))


def ratio_at_equal_accuracy(subject: Side, baselines: Sequence[Side]) -> Comparison | None:
    """Return how many times as much a policy attains as the best baseline that is at least as accurate.

    None where no baseline that attains anything is as accurate.
    """
    reaching = [side for side in baselines if side.accuracy >= subject.accuracy and side.attainment > 0]
    if not reaching:
        return None
    best = max(reaching, key=lambda side: side.attainment)
    some = {seed: value for seed, value in best.attainments.items() if value}
    fixed = (not subject.is_random, not best.is_random)
    return Comparison(best, _paired(subject.attainments, some, lambda ours, theirs: ours / theirs, fixed))


def headlines(sides: Sequence[Side], baselines: Sequence[Side]) -> list[str]:
    """Return the two comparisons that the paper's abstract makes, in words.

    The first policy that switches subnets is held against those that serve one model; no lines where either is missing.

    Args:
        sides: The policies that switch subnets, in the order of the experiment file.
        baselines: The policies that serve one model whatever the load.
    """
    baselines = [side for side in baselines if not math.isnan(side.accuracy)]
    if not sides or not baselines or math.isnan(sides[0].accuracy):
        return []
    return [_at_equal_attainment(sides[0], baselines), _at_equal_accuracy(sides[0], baselines)]


def _at_equal_attainment(subject: Side, baselines: Sequence[Side]) -> str:
    found = gain_at_equal_attainment(subject, baselines)
    start = f"At equal SLO attainment (>= {subject.attainment:.6f})"
    if found is None:
        best = max(baselines, key=lambda side: side.attainment)
        return f"{start}: no single-model baseline reaches it; the best is {best.policy} with {best.attainment:.6f}."
    both = f"{subject.accuracy:.2f} against {found.baseline.accuracy:.2f} %"
    more = "more" if found.mean >= 0 else "less"
    gain = f"{abs(found.mean):.2f} points {more} accurate"
    return f"{start}: {subject.policy} is {gain} than the best single-model baseline, {found.baseline.policy} ({both})."


def _at_equal_accuracy(subject: Side, baselines: Sequence[Side]) -> str:
    found = ratio_at_equal_accuracy(subject, baselines)
    start = f"At equal accuracy (>= {subject.accuracy:.2f} %)"
    if found is None:
        best = max(baselines, key=lambda side: side.accuracy)
        if best.accuracy >= subject.accuracy:
            return f"{start}: {subject.policy} attains {subject.attainment:.6f}, {best.policy} nothing."
        return f"{start}: no single-model baseline reaches it; the best is {best.policy} with {best.accuracy:.2f} %."
    both = f"{subject.attainment:.6f} against {found.baseline.attainment:.6f}"
    times = f"{found.mean:.2f}x the SLOs of the best single-model baseline"
    return f"{start}: {subject.policy} attains {times}, {found.baseline.policy} ({both})."


def _paired(
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    compare: Callable[[float, float], float],
    fixed: tuple[bool, bool] = (False, False),
) -> tuple[float, ...]:
    """Return a comparison for each seed that both sides have.

    Args:
        ours: Values of one side by seed.
        theirs: Those of the other.
        compare: What is returned for a seed.
        fixed: Whether the one value of each side stands for every seed.
    """
    if fixed[0] and not fixed[1] and ours:
        ours = dict.fromkeys(theirs, next(iter(ours.values())))
    if fixed[1] and theirs:
        theirs = dict.fromkeys(ours, next(iter(theirs.values())))
    return tuple(compare(value, theirs[seed]) for seed, value in ours.items() if seed in theirs)


def _mean(values: Mapping[int, float]) -> float:
    return mean_and_half_width(list(values.values()))[0] if values else math.nan
