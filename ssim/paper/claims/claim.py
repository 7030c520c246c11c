"""A claim of the paper, and what our results say of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from sim.base.intervals import mean_and_half_width
from ssim.jobs.experiment import comparison
from ssim.jobs.experiment.comparison import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from ssim.results.reading import Results


class Verdict(StrEnum):
    """What became of a claim."""

    REPRODUCED = "reproduced"
    DIRECTION = "direction only"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTABLE = "not testable here"


class Judged(NamedTuple):
    """What our results say: a number with its interval, the verdict, and why it is that."""

    ours: str
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the paper.

    Attributes:
        statement: What it says.
        where: Where in the paper.
        paper: Its number.
        judge: Says what our results make of it. Raises `StoreError` where they are missing.
    """

    statement: str
    where: str
    paper: str
    judge: Callable[[Results], Judged]


NEAR = 0.1
"""A number is reproduced if it lies within a tenth of the paper's, or its interval reaches there."""

WIDEST = 0.25
"""An interval of a larger half-width than this share of the paper's number reaches anything, and shows nothing."""


def near(values: Sequence[float], paper: float) -> bool:
    """Return whether a mean over seeds lies within a tenth of the paper's number, or a narrow interval reaches there.

    Examples:
        >>> near([4.5], 4.67), near([1.0], 4.67), near([3.9, 4.0, 4.1], 4.67), near([0.0, 9.0], 3.0)
        (True, False, True, False)
    """
    mean, half = mean_and_half_width(values)
    reach = half if half <= WIDEST * abs(paper) else 0.0
    return abs(mean - paper) - reach <= NEAR * abs(paper)


def graded_verdict(values: Sequence[float], paper: float, nothing: float = 0.0) -> Verdict:
    """Return the verdict on a gain: near the paper's, or with its whole interval on the same side of nothing gained.

    Examples:
        >>> graded_verdict([1.0, 1.1], 4.67).value, graded_verdict([-0.1, 0.2], 5.0).value
        ('direction only', 'not reproduced')
    """
    if near(values, paper):
        return Verdict.REPRODUCED
    mean, half = mean_and_half_width(values)
    gained = (mean - nothing) * (1 if paper > nothing else -1)
    return verdict(holds=False, direction=gained > (0.0 if math.isnan(half) else half))


def verdict(holds: bool, direction: bool = False) -> Verdict:
    """Return the verdict on a claim that holds or not, or holds in its direction."""
    if holds:
        return Verdict.REPRODUCED
    return Verdict.DIRECTION if direction else Verdict.NOT_REPRODUCED


def format_interval(values: Sequence[float], digits: int = 2, *, sign: bool = False) -> str:
    """Return a mean and its 95 % interval over seeds; the mean alone where there is one seed, or no spread.

    Examples:
        >>> format_interval([1.0, 1.0]), format_interval([1.0, 3.0], 1), format_interval([4.7], sign=True)
        ('1.00', '2.0 ± 12.7', '+4.70')
    """
    mean, half = mean_and_half_width(values)
    shown = f"{mean:{'+' if sign else ''}.{digits}f}"
    if math.isnan(half) or half < 1e-12 * max(1.0, abs(mean)):
        return shown
    return f"{shown} ± {half:.{digits}f}" if round(half, digits) else f"{shown} ± {half:.1g}"


def by_seed(runs: pd.DataFrame, policy: str, column: str) -> dict[int, float]:
    """Return a column of the runs of a policy, by seed; runs without a value are left out."""
    mine = runs[runs["policy"] == policy].dropna(subset=[column])
    return dict(zip(mine["seed"].tolist(), mine[column].tolist(), strict=True))


def values(runs: pd.DataFrame, policy: str, column: str) -> list[float]:
    """Return a column of the runs of a policy, one number a seed.

    Raises:
        StoreError: There is none.
    """
    from sim.base.errors import StoreError

    found = list(by_seed(runs, policy, column).values())
    if not found:
        raise StoreError("results", f"have no {column} of", policy, "run the experiment again")
    return found


def clipper(accuracy: str) -> str:
    """Return the label of Clipper+ at an accuracy."""
    return f"clipper(accuracy={accuracy})"


def gain_at_equal_attainment(runs: pd.DataFrame) -> tuple[list[float], str]:
    """Return `comparison.gain_at_equal_attainment` of SlackFit: one number a seed, and the label of the baseline."""
    return _compared(comparison.gain_at_equal_attainment, runs)


def ratio_at_equal_accuracy(runs: pd.DataFrame) -> tuple[list[float], str]:
    """Return `comparison.ratio_at_equal_accuracy` of SlackFit: one number a seed, and the label of the baseline."""
    return _compared(comparison.ratio_at_equal_accuracy, runs)


def _compared(
    compare: Callable[[Side, list[Side]], comparison.Comparison | None], runs: pd.DataFrame
) -> tuple[list[float], str]:
    """Return a comparison as numbers by seed and the label of the baseline; none where there is no such baseline."""

    def side(policy: str) -> Side:
        return Side(policy, by_seed(runs, policy, "slo_attainment"), by_seed(runs, policy, "mean_serving_accuracy"))

    found = compare(side("slackfit"), [side(policy) for policy in runs[runs["one_model"]]["policy"].unique()])
    return ([], "") if found is None else (list(found.values), found.baseline.policy)
