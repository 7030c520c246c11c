"""The paper's statements that depend on what it does not state: how each is read, with its doubt, and its distance.

A distance is 0 or more, and at most 1 exactly where the verdict on the claim is *reproduced* by the rules of
`ssim.paper.claims`, which are older than this search. A number that is off by twice the tolerance has distance 2.
Attainments are compared by their misses: 0.98 where the paper has 0.999 is off by a factor of 20. Above `CAP` all
distances count alike, so that one statement that holds nowhere does not decide where the others hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ssim.jobs.experiment.comparison import gain_at_equal_attainment, ratio_at_equal_accuracy
from ssim.paper.claims import CLAIMS
from ssim.paper.claims.claim import NEAR
from ssim.paper.claims.synthetic import CV2S, ENDS, PACES, RATES
from ssim.paper.inference.evidence import CHOSEN, clipper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ssim.paper.claims.claim import Claim
    from ssim.paper.inference.evidence import Evidence

CAP = 3.0
"""The largest distance that counts."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of the paper that the search can check.

    Attributes:
        figure: The figure that it is read from; figures are left out one at a time.
        claim: The statement of its claim, in `ssim.paper.claims`.
        reading: What the paper says, and what is doubtful about it.
        shows: What its number is.
        measure: Its number and its distance.
        digits: Decimals in which the number is shown.
    """

    figure: str
    claim: str
    reading: str
    shows: str
    measure: Callable[[Evidence], tuple[float, float]]
    digits: int = 3


def _missed(attained: float, allowed: float) -> tuple[float, float]:
    """Return an attainment and its misses as a multiple of the allowed ones."""
    return attained, max(0.0, round(1 - attained, 12)) / allowed


def _near(value: float, paper: float) -> tuple[float, float]:
    """Return a number and how far it is from the paper's, in tenths of that."""
    return value, math.inf if math.isnan(value) else abs(value - paper) / (NEAR * abs(paper))


def _order(rows: Sequence[Sequence[float]], value: float) -> tuple[float, float]:
    """Return a number and whether all rows fall strictly: 0, halfway if some do, or 2."""
    falling = [all(a > b for a, b in pairwise(row)) for row in rows]
    return value, 0.0 if all(falling) else 1.5 if any(falling) else 2.0


def _gain_of(evidence: Evidence, experiment: str, **at: float) -> float:
    found = gain_at_equal_attainment(evidence.side(experiment, CHOSEN, **at), evidence.baselines(experiment, **at))
    return found.mean if found else math.nan


def _ratio_of(evidence: Evidence, experiment: str, **at: float) -> float:
    found = ratio_at_equal_accuracy(evidence.side(experiment, CHOSEN, **at), evidence.baselines(experiment, **at))
    return found.mean if found else math.nan


def _highest(values: Sequence[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


_NINE = [{"variant_qps": rate, "cv2": cv2} for rate in RATES for cv2 in CV2S]
_HARDEST = [{"variant_qps": 5550, "cv2": cv2} for cv2 in CV2S]
_RAMPS = [{"end_qps": end, "acceleration_qps2": pace} for end in ENDS for pace in PACES]


def _8a_attains(evidence: Evidence) -> tuple[float, float]:
    return _missed(evidence.attainment("azure_ideal", CHOSEN), 1e-5)


def _8a_accuracy(evidence: Evidence) -> tuple[float, float]:
    found = evidence.accuracy("azure_ideal", CHOSEN)
    return found, abs(found - 78.47) / 0.2


def _8a_diverge(evidence: Evidence) -> tuple[float, float]:
    worst = max(evidence.attainment("azure_ideal", clipper(name)) for name in ("79.44", "80.16"))
    return worst, math.nextafter(1.0, 2) if worst == 0.5 else worst / 0.5  # noqa: PLR2004 - the claim: below it


def _9_all(evidence: Evidence) -> tuple[float, float]:
    return _missed(min(evidence.attainment("bursty", CHOSEN, **at) for at in _NINE), 1e-3)


def _9_infaas(evidence: Evidence) -> tuple[float, float]:
    attained = min(evidence.attainment("bursty", clipper("73.82"), **at) for at in _NINE)
    gaps = [
        evidence.accuracy("bursty", CHOSEN, **at) - evidence.accuracy("bursty", clipper("73.82"), **at) for at in _NINE
    ]
    return max(gaps), max(_missed(attained, 1e-3)[1], _near(max(gaps), 4.33)[1])


def _9_small(evidence: Evidence) -> tuple[float, float]:
    row = [evidence.attainment("bursty", clipper("76.69"), **at) for at in _HARDEST]
    return _order([row], row[-1])


def _9_middle(evidence: Evidence) -> tuple[float, float]:
    row = [evidence.attainment("bursty", clipper("78.25"), variant_qps=rate, cv2=2) for rate in RATES]
    return _order([row], row[-1])


def _9_narrows(evidence: Evidence) -> tuple[float, float]:
    rows = [[_gain_of(evidence, "bursty", variant_qps=rate, cv2=cv2) for cv2 in CV2S] for rate in RATES[1:]]
    return _order(rows, rows[-1][0] - rows[-1][-1])


def _10_pace(evidence: Evidence) -> tuple[float, float]:
    row = [
        evidence.attainment("time_varying", clipper("79.44"), end_qps=6800, acceleration_qps2=pace) for pace in PACES
    ]
    return _order([row], row[-1])


def _10_end(evidence: Evidence) -> tuple[float, float]:
    row = [evidence.attainment("time_varying", clipper("79.44"), end_qps=end, acceleration_qps2=250) for end in ENDS]
    return _order([row], row[-1])


def _10_accuracy(evidence: Evidence) -> tuple[float, float]:
    rows = [
        [evidence.accuracy("time_varying", CHOSEN, end_qps=end, acceleration_qps2=pace) for pace in PACES]
        for end in ENDS[1:]
    ]
    return _order(rows, rows[-1][-1])


def _11_maxbatch(evidence: Evidence) -> tuple[float, float]:
    at = {"variant_qps": 5550, "cv2": 8}
    gap = evidence.attainment("bursty", CHOSEN, **at) - evidence.attainment("bursty", "maxbatch", **at)
    return _near(100 * gap, 5.0)


def _11_maxacc(evidence: Evidence) -> tuple[float, float]:
    return _below_half(max(evidence.attainment("bursty", "maxacc", **at) for at in _HARDEST))


def _below_half(attained: float) -> tuple[float, float]:
    return attained, attained / 0.5 if attained != 0.5 else math.nextafter(1.0, 2)  # noqa: PLR2004 - the claim


def _13_band(evidence: Evidence) -> tuple[float, float]:
    seen = [
        value
        for cv2 in (2, 8)
        for row in evidence.runs("dynamics_bursty", CHOSEN, cv2=cv2)
        for value in row.windows
        if not math.isnan(value)
    ]
    outside = max(max(seen) - 78, 76 - min(seen), 0.0)
    return max(seen), 1 + outside / 0.2 if outside else 0.0


def _13_ramp(evidence: Evidence) -> tuple[float, float]:
    before, after = [], []
    for pace in (250, 5000):
        for row in evidence.runs("dynamics_time_varying", CHOSEN, acceleration_qps2=pace):
            change = (len(row.windows) - 1) / 2
            known = [(second, value) for second, value in enumerate(row.windows) if not math.isnan(value)]
            before += [value for second, value in known if second < change - 1]
            after += [value for second, value in known if second > change + 0.35 * change]
    means = [sum(part) / len(part) if part else math.nan for part in (before, after)]
    off = max(abs(means[0] - 79.2), abs(means[1] - 77.5)) / 0.2
    return means[1], math.inf if math.isnan(off) else off


def _5c_range(evidence: Evidence) -> tuple[float, float]:
    low, high = (evidence.capacity[clipper(name)] for name in ("80.16", "73.82"))
    return high, max(_near(low, 2000)[1], _near(high, 8000)[1])


def _14_small(evidence: Evidence) -> tuple[float, float]:
    worst = min(evidence.attainment("fixed_subnets", clipper(name)) for name in ("73.82", "76.69", "77.64"))
    return _missed(worst, 0.01)


def _14_large(evidence: Evidence) -> tuple[float, float]:
    best = max(evidence.attainment("fixed_subnets", clipper(name)) for name in ("78.25", "79.44", "80.16"))
    missed = round(1 - best, 12)
    return best, 0.01 / missed if missed > 0.01 else max(0.01 / missed if missed else math.inf, math.nextafter(1, 2))  # noqa: PLR2004 - the claim


STATEMENTS = (
    Statement("8a", "SuperServe's SLO attainment, CNN", "0.99999, in print", "attained", _8a_attains, 6),
    Statement(
        "8a",
        "more accurate at equal attainment",
        "+4.67 points in the abstract, +4.65 in section 6.2",
        "points",
        lambda evidence: _near(_gain_of(evidence, "azure_ideal"), 4.67),
        2,
    ),
    Statement(
        "8a",
        "more SLOs attained at equal accuracy",
        "2.85x in print; how baselines of other accuracies are compared is not stated",
        "times",
        lambda evidence: _near(_ratio_of(evidence, "azure_ideal"), 2.85),
        2,
    ),
    Statement("8a", "its mean serving accuracy", "derived: 73.82 + 4.65", "%", _8a_accuracy, 2),
    Statement("8a", "Clipper+(79.44) and Clipper+(80.16) diverge", "v1's text", "attained at most", _8a_diverge),
    Statement("9", "SuperServe attains it on all nine traces", "> 0.999, in print", "least attained", _9_all, 4),
    Statement(
        "9",
        "more accurate at an attainment of 0.9999",
        "+4.33 points in print; of which trace is not stated: the largest",
        "points",
        lambda evidence: _near(_highest([_gain_of(evidence, "bursty", **at) for at in _NINE]), 4.33),
        2,
    ),
    Statement(
        "9",
        "more SLOs attained at equal accuracy",
        "2.06x in print; of which trace is not stated: the least",
        "times",
        lambda evidence: _near(-_highest([-_ratio_of(evidence, "bursty", **at) for at in _NINE]), 2.06),
        2,
    ),
    Statement(
        "9",
        "INFaaS attains the optimum, less accurate",
        "up to 4.33 points lower, in print",
        "points at most",
        _9_infaas,
        2,
    ),
    Statement("9", "Clipper+(76.69) falls with CV² at 5,550 q/s", "text; values only plotted", "at CV² 8", _9_small),
    Statement("9", "Clipper+(78.25) falls with the rate at CV² 2", "text; values only plotted", "at 5,550", _9_middle),
    Statement("9", "the gap to Clipper+ narrows as CV² grows", "text; values only plotted", "by points", _9_narrows),
    Statement(
        "10",
        "SuperServe attains on all nine traces",
        "0.991 to 1.0, in print; length of the runs not stated",
        "least attained",
        lambda evidence: _missed(min(evidence.attainment("time_varying", CHOSEN, **at) for at in _RAMPS), 9e-3),
        4,
    ),
    Statement("10", "Clipper+(79.44) falls with the pace at 6,800 q/s", "text", "at 5,000 q/s²", _10_pace),
    Statement("10", "Clipper+(79.44) falls with the rate at 250 q/s²", "text", "at 7,800 q/s", _10_end),
    Statement("10", "accuracy falls as the pace grows", "text", "% at 7,800 q/s, 5,000 q/s²", _10_accuracy, 2),
    Statement(
        "11",
        "attained while 4 of 8 workers are killed",
        "0.999, in print; base and variant rate not stated",
        "attained",
        lambda evidence: _missed(evidence.attainment("faults", CHOSEN), 1e-3),
        5,
    ),
    Statement(
        "11",
        "SlackFit attains it at every CV²",
        "0.999, in print",
        "least attained",
        lambda evidence: _missed(min(evidence.attainment("bursty", CHOSEN, **at) for at in _HARDEST), 1e-3),
        4,
    ),
    Statement("11", "MaxBatch is lower at CV² 8", "5 %, read as points", "points", _11_maxbatch, 2),
    Statement("11", "MaxAcc can't keep up", "text; read as less than half", "attained at most", _11_maxacc),
    Statement(
        "13",
        "at 7,000 q/s accuracy stays within",
        "76 to 78 %; whether windows or batches are plotted is not stated",
        "% at most",
        _13_band,
        2,
    ),
    Statement(
        "13",
        "80.16 diverges at that load",
        "text; read as less than half",
        "attained",
        lambda evidence: _below_half(evidence.attainment("bursty", clipper("80.16"), variant_qps=5550, cv2=2)),
    ),
    Statement("13", "accuracy from 2,500 to 7,400 q/s", "about 79.2 to 77.5 %, read off", "% after", _13_ramp, 2),
    Statement(
        "5c",
        "highest rate of the largest and the smallest subnet",
        "about 2,000 to 8,000 q/s, read off; the attainment to hold is not stated",
        "q/s, smallest subnet",
        _5c_range,
        0,
    ),
    Statement("v1's 14", "73.82, 76.69 and 77.64 alone attain", "99 % and more, v1", "least attained", _14_small),
    Statement(
        "v1's 14", "78.25, 79.44 and 80.16 alone attain less", "less than 99 %, v1", "attained at most", _14_large
    ),
)

FIGURES = tuple(dict.fromkeys(statement.figure for statement in STATEMENTS))


def claim_of(statement: Statement) -> Claim:
    """Return the claim of a statement: two figures have claims of the same words."""
    same = [claim for claim in CLAIMS if claim.statement == statement.claim]
    return next(claim for claim in same if len(same) == 1 or (claim.where == "Figure 9") == (statement.figure == "9"))
