"""The inference: distances agree with verdicts, regions with their rule, and a search with itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ssim.paper.claims import CLAIMS
from ssim.paper.claims.claim import Verdict
from ssim.paper.claims.synthetic import CV2S, ENDS, PACES, RATES
from ssim.paper.inference.evidence import CHOSEN, CLIPPERS, Evidence, PointResults, Row, clipper
from ssim.paper.inference.region import TOLERANCE, Point, Searched, contradictions, hold_nowhere, middle, region
from ssim.paper.inference.space import BUCKETS, Setting
from ssim.paper.inference.space import settings as settings_of
from ssim.paper.inference.statements import CAP, FIGURES, STATEMENTS, claim_of

if TYPE_CHECKING:
    from collections.abc import Callable

ATTAINED = st.sampled_from([0.0, 0.2, 0.5, 0.93, 0.95, 0.98, 0.989, 0.99, 0.991, 0.999, 0.9995, 0.99999, 1.0])
ACCURACIES = {name: float(name) for name in CLIPPERS}


@st.composite
def evidence(draw: Callable[..., object]) -> Evidence:
    """Anything that a search may find with one seed."""
    rows: list[Row] = []

    def add(experiment: str, policies: tuple[str, ...], windows: int = 0, **at: float) -> None:
        swept = tuple(sorted((f"trace.{key}", value) for key, value in at.items()))
        for policy in policies:
            name = policy.removeprefix("clipper(accuracy=").removesuffix(")")
            attained = draw(ATTAINED)
            accuracy = ACCURACIES.get(name) or draw(st.sampled_from([73.9, 77.0, 78.15, 78.47, 78.6, 79.2]))
            band = st.sampled_from([75.9, 76.0, 77.5, 78.0, 78.1, 79.2, math.nan])
            seen = tuple(draw(st.lists(band, min_size=windows, max_size=windows)))
            rows.append(Row(experiment, swept, policy, 7, attained, accuracy if attained else math.nan, seen))

    clippers = tuple(map(clipper, CLIPPERS))
    add("azure_ideal", (CHOSEN, *clippers))
    for rate in RATES:
        for cv2 in CV2S:
            more = ("maxbatch", "maxacc") if rate == 5550 else ()
            add("bursty", (CHOSEN, *clippers, *more), variant_qps=rate, cv2=cv2)
    for end in ENDS:
        for pace in PACES:
            add("time_varying", (CHOSEN, clipper("79.44")), end_qps=end, acceleration_qps2=pace)
    add("faults", (CHOSEN,))
    add("fixed_subnets", clippers)
    for cv2 in (2, 8):
        add("dynamics_bursty", (CHOSEN,), 12, cv2=cv2)
    for pace in (250, 5000):
        add("dynamics_time_varying", (CHOSEN,), 12, acceleration_qps2=pace)
    rates = st.sampled_from([1700.0, 1800.0, 2000.0, 7200.0, 8000.0, 8800.0, 14000.0])
    return Evidence(rows, {clipper("80.16"): draw(rates), clipper("73.82"): draw(rates)})


@settings(max_examples=25, deadline=None, phases=[Phase.generate])  # shrinking so much takes minutes
@given(evidence())
def test_a_distance_is_at_most_one_where_its_claim_is_reproduced(found: Evidence) -> None:
    needed = (CHOSEN, clipper("73.82"))
    if any(math.isnan(value) for row in found.rows for value in (row.accuracy,) if row.policy in needed):
        return
    if any(row.windows and all(map(math.isnan, row.windows)) for row in found.rows):
        return
    results = PointResults(found)
    for statement in STATEMENTS:
        _, distance = statement.measure(found)
        judged = claim_of(statement).judge(results)
        assert (distance <= 1) == (judged.verdict is Verdict.REPRODUCED), (statement.claim, distance, judged)


def test_every_statement_is_one_claim() -> None:
    claims = [claim_of(statement) for statement in STATEMENTS]
    assert len({id(claim) for claim in claims}) == len(STATEMENTS) <= len(CLAIMS)


def searched(*distances: float) -> Searched:
    """A point at which the first statements have these distances, and all others hold."""
    filled = (*distances, *[0.0] * (len(STATEMENTS) - len(distances)))
    return Searched(Point(Setting(), str(distances)), filled, filled)


@given(st.lists(st.lists(st.floats(0, 9), min_size=5, max_size=5), min_size=1, max_size=20))
def test_a_region_is_what_is_within_the_tolerance_of_the_least_misfit(found: list[list[float]]) -> None:
    points = [searched(*each) for each in found]
    near = region(points, FIGURES)
    by_hand = [sum(max(0.0, min(d, CAP) - 1) for d in each) for each in found]
    assert near.least == min(by_hand)
    assert {id(each) for each in near.points} == {
        id(p) for p, misfit in zip(points, by_hand, strict=True) if misfit <= near.least + TOLERANCE
    }
    assert near.fits == any(all(d <= 1 for d in each) for each in found)


def test_one_statement_that_holds_nowhere_does_not_move_the_region() -> None:
    good, bad = searched(50.0, 0.5), searched(9.0, 2.5)
    assert region([good, bad], FIGURES).points[0] is good
    assert [number for number, _ in hold_nowhere([good, bad])] == [0]


def test_contradictions_are_pairs_that_hold_apart_only() -> None:
    assert contradictions([searched(2.0, 0.5), searched(0.5, 2.0)]) == [(0, 1)]
    assert contradictions([searched(2.0, 0.5), searched(0.5, 0.5)]) == []


def test_the_middle_verdict_is_the_worse_of_two() -> None:
    assert middle([Verdict.REPRODUCED, Verdict.NOT_REPRODUCED]) is Verdict.NOT_REPRODUCED
    assert middle([Verdict.REPRODUCED, Verdict.REPRODUCED, Verdict.NOT_REPRODUCED]) is Verdict.REPRODUCED


@pytest.mark.parametrize("quick", [False, True])
def test_settings_are_all_different_and_include_nothing_added(quick: bool) -> None:
    found = settings_of(quick=quick)
    assert len(set(found)) == len(found)
    assert found[0] == Setting()
    assert len(found[0].schedulers()) == len(BUCKETS) + 1
