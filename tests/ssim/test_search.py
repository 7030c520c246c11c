"""The search for a capacity against policies whose capacity is known."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.clipper import Clipper
from sim import Cluster, metrics, simulate
from sim.tables.files import load_table
from sim.traces.synthetic import Gamma, Poisson
from ssim.execution.search import COARSE, DOUBLINGS, EDGE, CapacitySearch

if TYPE_CHECKING:
    from collections.abc import Callable


def ended(search: CapacitySearch, attainment: Callable[[float], float], most: int = 200) -> CapacitySearch:
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
    search = ended(CapacitySearch(start, target, precision), lambda rate: target if rate <= capacity else target * 0.9)
    assert search.holds is not None
    assert search.misses == search.holds + 1
    assert search.rate(search.holds) <= capacity < search.rate(search.misses)
    assert search.rate(search.misses) / search.rate(search.holds) == pytest.approx(1 + precision, rel=1e-9)
    assert search.uncertain is None
    # Doublings, halvings, the edges, and halvings of one coarse step.
    coarse = max(1, math.ceil(math.log(COARSE) / math.log1p(precision)))
    assert len(search.attained) <= abs(math.log2(factor)) + 4 + 2 * EDGE + math.log2(coarse) + 2 + 2 * coarse


@given(st.sets(st.integers(600, 760)), st.floats(300, 1500))
@settings(deadline=None)
def test_whatever_the_policy_does_the_search_ends_where_the_fit_crosses(missed: set[int], start: float) -> None:
    search = CapacitySearch(start, 0.9, 0.01)
    attained = {step: 0.5 if step in missed or step > 760 else 0.95 for step in range(-100, 2000)}
    rates = {search.rate(step): value for step, value in attained.items()}
    ended(search, rates.__getitem__)
    assert search.holds is not None
    assert search.misses == search.holds + 1
    assert all(value == attained[step] for step, value in search.attained.items())
    if search.uncertain is not None:
        below, above = search.uncertain
        assert rates[below] < 0.9 <= rates[above]
        assert below < above


def test_noise_at_single_rates_moves_the_answer_little_and_the_start_not_at_all() -> None:
    """Attainment falls by three tenths of a percent for each percent of the rate, and every rate has as much noise."""
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0, 0.003, 4000)

        def attained(rate: float, noise: np.ndarray = noise) -> float:
            return float(min(1.0, 0.999 - 0.3 * (rate / 500 - 1) + noise[round(math.log(rate) / math.log(1.005))]))

        found = [ended(CapacitySearch(start, 0.999, 0.005), attained) for start in (2000, 1500, 600, 100)]
        rates = {search.rate(search.holds) for search in found if search.holds is not None}
        assert len(rates) == 1
        assert rates.pop() == pytest.approx(500, rel=0.03)


def test_on_a_plateau_the_start_does_not_decide_either() -> None:
    """Over a third of the rates the attainment is the target, but for noise."""
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0, 1e-4, 4000)

        def attained(rate: float, noise: np.ndarray = noise) -> float:
            slope = max(0.0, 400 - rate) * 1e-5 - max(0.0, rate - 600) * 1e-5
            return float(min(1.0, 0.999 + slope + noise[round(math.log(rate) / math.log(1.005))]))

        found = [ended(CapacitySearch(start, 0.999, 0.005), attained) for start in (2000, 1500, 500, 100)]
        assert len({search.rate(search.holds) for search in found if search.holds is not None}) == 1
        assert {search.uncertain for search in found} != {None}


def test_a_policy_that_fails_where_little_comes_is_told() -> None:
    search = ended(CapacitySearch(100.0, 0.9, 0.01), lambda rate: 1.0 if 80 < rate < 100.9 else 0.0)
    assert search.uncertain is not None
    assert search.uncertain[0] < 80 < search.uncertain[1] < 101


def test_a_policy_that_always_or_never_holds_has_no_capacity() -> None:
    always = ended(CapacitySearch(10.0, 0.9, 0.01), lambda _: 1.0)
    assert always.misses is None
    assert always.highest == pytest.approx(10 * 2**DOUBLINGS, rel=0.1)
    never = ended(CapacitySearch(10.0, 0.9, 0.01), lambda _: 0.0)
    assert never.holds is None
    assert never.lowest == pytest.approx(10 / 2**DOUBLINGS, rel=0.1)


def test_what_can_not_be_tried_bounds_the_search() -> None:
    search = CapacitySearch(100.0, 0.9, 0.01)
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
    search = CapacitySearch(100.0, 0.9, 0.01, barred={10**6: "too fast", 400: "nothing comes"})
    search.attained[search.wanted()[0]] = 0.0
    assert search.wanted() == []
    assert search.holds is None


@cache
def attainments(kind: str, seed: int, precision: float) -> dict[int, float]:
    """Return the attainment of Clipper+ on one worker at every rate of the grid, up to those that miss by far."""
    table, policy, cluster = load_table("ofa-resnet50-rtx2080ti"), Clipper(accuracy=80.16), Cluster(1)
    found: dict[int, float] = {}
    step = math.ceil(math.log(60) / math.log1p(precision))
    while not found or found[step - 1] > 0.7:
        rate = CapacitySearch(1, 1, precision).rate(step)
        given = {"mean_qps": rate, "duration_s": 10, "slo_ms": 36}
        source = Poisson(**given) if kind == "poisson" else Gamma(cv2=4, **given)
        found[step] = metrics.slo_attainment(simulate(source.trace(seed), cluster, table, policy))
        step += 1
    return found


@pytest.mark.parametrize("target", [0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize(
    ("kind", "precision", "seed"),
    [
        ("gamma", 0.01, 2),
        *(
            pytest.param(kind, precision, seed, marks=pytest.mark.slow)
            for kind in ("poisson", "gamma")
            for precision in (0.01, 0.005)
            for seed in range(1, 11)
        ),
    ],
)
def test_a_capacity_is_that_of_the_fit_to_the_whole_grid(kind: str, precision: float, seed: int, target: float) -> None:
    every = attainments(kind, seed, precision)
    whole = CapacitySearch(1, target, precision, dict(every))
    if whole.holds is None:
        pytest.skip("no rate of the grid meets the target")
    start = whole.rate(min(every)) * 2
    search = ended(CapacitySearch(start, target, precision), lambda rate: at(every, rate, precision))
    assert search.holds is not None
    assert search.rate(search.holds) == pytest.approx(whole.rate(whole.holds), rel=0.01)


def at(every: dict[int, float], rate: float, precision: float) -> float:
    step = round(math.log(rate) / math.log1p(precision))
    return every.get(step, 1.0 if step < min(every) else 0.0)
