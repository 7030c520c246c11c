"""The search for a capacity against policies whose capacity is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssim.search import DOUBLINGS, Search

if TYPE_CHECKING:
    from collections.abc import Callable


def ended(search: Search, attainment: Callable[[float], float], most: int = 100) -> Search:
    for _ in range(most):
        wanted = search.wanted()
        if not wanted:
            return search
        for step in wanted:
            assert step not in search.attained
            search.attained[step] = attainment(search.rate(step))
    pytest.fail("the search does not end")


@given(
    start=st.floats(1e-3, 1e5),
    factor=st.floats(2e-3, 500),
    target=st.floats(0.01, 1),
    precision=st.floats(1e-4, 0.9),
)
def test_a_threshold_is_found_to_the_precision(start: float, factor: float, target: float, precision: float) -> None:
    capacity = start * factor
    search = ended(Search(start, target, precision), lambda rate: target if rate <= capacity else target * 0.999)
    assert search.holds is not None
    assert search.misses == search.holds + 1
    assert search.rate(search.holds) <= capacity < search.rate(search.misses)
    assert search.rate(search.misses) / search.rate(search.holds) == pytest.approx(1 + precision, rel=1e-9)
    assert search.misses_below == []
    # Doublings, halvings of what lies between two of them, and three checks.
    assert len(search.attained) <= abs(math.log2(factor)) + math.log2(math.log(2) / math.log1p(precision) + 1) + 8


@given(st.sets(st.integers(-60, 25)), st.floats(0.05, 0.3))
def test_whatever_the_policy_does_the_answer_holds_and_its_neighbour_misses(missed: set[int], precision: float) -> None:
    search = Search(100.0, 0.9, precision)
    attained = {step: 0.5 if step in missed or step > 25 else 0.95 for step in range(-2000, 2000)}
    rates = {search.rate(step): value for step, value in attained.items()}
    ended(search, rates.__getitem__)
    assert search.holds is not None
    assert search.misses == search.holds + 1
    assert attained[search.holds] >= 0.9 > attained[search.misses]
    for rate in search.misses_below:
        assert rates[rate] < 0.9
        assert rate < search.rate(search.holds)


def test_a_policy_that_fails_where_little_comes_is_told() -> None:
    search = ended(Search(100.0, 0.9, 0.01), lambda rate: 1.0 if 60 < rate < 100.5 else 0.0)
    assert search.holds == 0
    assert len(search.misses_below) == 1
    assert search.misses_below[0] == pytest.approx(50, rel=0.01)


def test_a_policy_that_always_or_never_holds_has_no_capacity() -> None:
    always = ended(Search(10.0, 0.9, 0.01), lambda _: 1.0)
    assert always.misses is None
    assert always.highest == pytest.approx(10 * 2**DOUBLINGS, rel=0.1)
    never = ended(Search(10.0, 0.9, 0.01), lambda _: 0.0)
    assert never.holds is None
    assert never.lowest == pytest.approx(10 / 2**DOUBLINGS, rel=0.1)
