"""The search for a capacity against policies whose capacity is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssim.search import DOUBLINGS, FAR, Search

if TYPE_CHECKING:
    from collections.abc import Callable


def ended(search: Search, attainment: Callable[[float], float], most: int = 200) -> Search:
    for _ in range(most):
        wanted = search.wanted()
        if not wanted:
            return search
        assert len(set(wanted)) == len(wanted)
        for step in wanted:
            assert step not in search.attained
            search.attained[step] = attainment(search.rate(step))
    pytest.fail("the search does not end")


@given(
    start=st.floats(1e-3, 1e5),
    factor=st.floats(4e-3, 250),
    target=st.floats(0.01, 1),
    precision=st.floats(1e-3, 0.9),
)
@settings(deadline=None)
def test_a_threshold_is_found_to_the_precision(start: float, factor: float, target: float, precision: float) -> None:
    capacity = start * factor
    search = ended(Search(start, target, precision), lambda rate: target if rate <= capacity else target * 0.9)
    assert search.holds is not None
    assert search.misses == search.holds + 1
    assert search.rate(search.holds) <= capacity < search.rate(search.misses)
    assert search.rate(search.misses) / search.rate(search.holds) == pytest.approx(1 + precision, rel=1e-9)
    assert search.wavers is None
    # Doublings, halvings of what lies between two of them, 1, 2, 4 and 8 steps to either side, two checks.
    assert len(search.attained) <= abs(math.log2(factor)) + math.log2(math.log(2) / math.log1p(precision) + 1) + 14


@given(st.sets(st.integers(600, 760)), st.floats(300, 1500))
@settings(deadline=None)
def test_whatever_the_policy_does_the_search_ends_where_the_fit_crosses(missed: set[int], start: float) -> None:
    search = Search(start, 0.9, 0.01)
    attained = {step: 0.5 if step in missed or step > 760 else 0.95 for step in range(-100, 2000)}
    rates = {search.rate(step): value for step, value in attained.items()}
    ended(search, rates.__getitem__)
    assert search.holds is not None
    assert search.misses == search.holds + 1
    assert all(value == attained[step] for step, value in search.attained.items())
    if search.wavers is not None:
        below, above = search.wavers
        assert rates[below] < 0.9 <= rates[above]
        assert below < above


def test_luck_at_single_rates_moves_the_answer_little_and_so_does_the_start() -> None:
    """Attainment falls by a percent for each percent of the rate, and every rate has luck of a few of them."""
    for seed in range(5):
        luck = np.random.default_rng(seed).normal(0, 0.003, 4000)

        def attained(rate: float, luck: np.ndarray = luck) -> float:
            return float(min(1.0, 0.999 - 0.3 * (rate / 500 - 1) + luck[round(math.log(rate) / math.log(1.005))]))

        found = [ended(Search(start, 0.999, 0.005), attained) for start in (2000, 1500, 600, 100)]
        rates = [search.rate(search.holds) for search in found if search.holds is not None]
        assert len(rates) == 4
        assert max(rates) / min(rates) < 1.025
        assert np.mean(rates) == pytest.approx(500, rel=0.02)


def test_a_policy_that_fails_where_little_comes_is_told() -> None:
    search = ended(Search(100.0, 0.9, 0.01), lambda rate: 1.0 if 80 < rate < 100.9 else 0.0)
    assert search.holds is not None
    assert search.rate(search.holds) == pytest.approx(100.2, rel=0.01)
    assert search.wavers is not None
    assert search.wavers[0] < 80 < search.wavers[1] < 101


def test_a_policy_that_always_or_never_holds_has_no_capacity() -> None:
    always = ended(Search(10.0, 0.9, 0.01), lambda _: 1.0)
    assert always.misses is None
    assert always.highest == pytest.approx(10 * 2**DOUBLINGS, rel=0.1)
    never = ended(Search(10.0, 0.9, 0.01), lambda _: 0.0)
    assert never.holds is None
    assert never.lowest == pytest.approx(10 / 2**DOUBLINGS, rel=0.1)


def test_what_can_not_be_tried_bounds_the_search() -> None:
    search = Search(100.0, 0.9, 0.01)
    for _ in range(100):
        wanted = search.wanted()
        for step in wanted:
            if search.rate(step) > 250:
                search.barred[step] = "too fast"
            else:
                search.attained[step] = 1.0
        if not wanted:
            break
    assert search.holds is not None
    assert search.misses is None
    assert len(search.barred) == 1
    search = Search(100.0, 0.9, 0.01, barred={463: "nothing comes"})
    assert search.wanted() == []
    assert search.holds is None


def test_rates_around_the_crossing_are_tried_as_far_as_they_waver() -> None:
    search = ended(Search(100.0, 0.9, 0.001), lambda rate: 0.95 if (rate * 1e4) % 2 < 1 else 0.85)
    assert search.holds is None or search.misses is None or len(search.attained) < 200
    calm = ended(Search(100.0, 0.9, 0.001), lambda rate: 1.0 if rate < 123.4 else 0.0)
    assert calm.holds is not None
    assert max(step for step in calm.attained if calm.rate(step) < 140) - calm.holds <= FAR
