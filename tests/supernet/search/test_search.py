"""Search: Pareto fronts by definition, NSGA-II against chance at the same budget, and what a predictor is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim.base.errors import SpecError
from supernet.costs import Costs
from supernet.families import OfaResNetSmall
from supernet.family import build
from supernet.search.nsga2 import Nsga2
from supernet.search.pareto import crowding_distances, evenly_spaced, front, hypervolume, nondomination_ranks
from supernet.search.predictor import Predictor, encode, score_predictor
from supernet.space import SubnetSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supernet.space import SubnetConfig

POINTS = hnp.arrays(np.float64, st.tuples(st.integers(1, 25), st.just(2)), elements=st.integers(0, 6).map(float))
REFERENCE = (7.0, 7.0)


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one <= other).all() and (one < other).any())


@given(POINTS)
def test_a_rank_is_the_longest_chain_of_those_that_dominate(points: np.ndarray) -> None:
    found = nondomination_ranks(points)
    for index, point in enumerate(points):
        above = [found[other] for other in range(len(points)) if dominates(points[other], point)]
        assert found[index] == (max(above) + 1 if above else 0)


@given(POINTS)
def test_the_front_is_what_nothing_dominates_once_each_and_by_cost(points: np.ndarray) -> None:
    found = front(points)
    best = {tuple(point) for point in points if not any(dominates(other, point) for other in points)}
    assert {tuple(points[index]) for index in found} == best
    assert len(found) == len(best)
    assert (np.diff(points[found, 0]) > 0).all()
    assert (np.diff(points[found, 1]) < 0).all()


@given(POINTS)
def test_the_hypervolume_is_the_share_of_cells_that_are_dominated(points: np.ndarray) -> None:
    cells = [(x, y) for x in range(7) for y in range(7) if ((points <= (x, y)).all(axis=1)).any()]
    assert hypervolume(points, REFERENCE) == len(cells)


@given(POINTS, st.integers(2, 12))
def test_a_spread_front_keeps_its_ends(points: np.ndarray, count: int) -> None:
    best = points[front(points)]
    chosen = evenly_spaced(best, count)
    assert len(chosen) == min(count, len(best))
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, len(best) - 1)


def test_the_ends_of_a_front_have_any_room_and_the_crowded_the_least() -> None:
    room = crowding_distances(np.array([[0.0, 9.0], [1.0, 8.0], [2.0, 7.0], [9.0, 0.0]]))
    assert np.isinf(room[[0, 3]]).all()
    assert room[1] < room[2] < np.inf


FAMILY = OfaResNetSmall()
NET = build(FAMILY, device="meta")
COSTS = Costs(NET, tuple(part.to("meta") for part in FAMILY.example()))


def evaluate(subnets: Sequence[SubnetConfig]) -> np.ndarray:
    """Return MMACs, and an error that falls with each block and unit, with some worth far more than others."""
    codes = encode(NET, subnets)
    worth = np.random.default_rng(3).lognormal(0, 1.5, codes.shape[1])
    errors = 5 + 60 * np.exp(-3 * codes @ worth / worth.sum())
    return np.column_stack([[COSTS.macs(subnet) / 1e6 for subnet in subnets], errors])


@pytest.mark.parametrize("seed", range(5))
def test_it_beats_chance_at_the_same_budget(seed: int) -> None:
    budget, reference = 300, (3.0, 60.0)
    found = Nsga2(NET.space, NET.active_config, evaluate, population=40).search(budget, seed)
    rng = np.random.default_rng(seed)
    drawn = [NET.space.smallest, NET.space.largest, *(NET.space.sample(rng) for _ in range(budget - 2))]
    graded = [NET.space.smallest, NET.space.largest, *(NET.space.sample_stratified(rng) for _ in range(budget - 2))]
    assert len(found.subnets) == budget
    for chance in (drawn, graded):
        points = evaluate(chance)
        assert hypervolume(found.points, reference) > hypervolume(points, reference)
        assert len(found.front.subnets) > len(front(points))


def test_the_seed_decides_the_search() -> None:
    search = Nsga2(NET.space, NET.active_config, evaluate, population=20)
    one, same, other = (search.search(60, seed).subnets for seed in (1, 1, 2))
    assert one == same != other


def test_no_network_is_looked_at_twice() -> None:
    asked: list[SubnetConfig] = []

    def noted(subnets: Sequence[SubnetConfig]) -> np.ndarray:
        asked.extend(subnets)
        return evaluate(subnets)

    told: list[int] = []
    found = Nsga2(NET.space, NET.active_config, noted, population=16).search(100, 0, told.append)
    assert list(found.subnets) == asked
    assert len({NET.active_config(subnet) for subnet in asked}) == len(asked) == 100
    assert told[-1] == 100
    assert NET.space.smallest in asked
    assert NET.space.largest in asked


def test_a_small_space_is_gone_through() -> None:
    space = SubnetSpace("net", ((1, 2, 3),), ((0.5, 1.0),), ())

    def points(subnets: Sequence[SubnetConfig]) -> np.ndarray:
        return np.array([[subnet.control.depths[0], -subnet.control.expands[0]] for subnet in subnets], dtype=float)

    found = Nsga2(space, lambda subnet: subnet, points, population=4).search(6, 0)
    assert set(found.subnets) == set(space.enumerate())
    assert [subnet.id for subnet in found.front.subnets] == ["net:d1:e1.0"]
    alike = Nsga2(space, lambda subnet: subnet.control.depths, points, population=4).search(5, 0)
    assert len(alike.subnets) == 3  # and it ends, though more might be looked at
    with pytest.raises(SpecError, match=r"search: too few evaluations \(3\); at least 4"):
        Nsga2(space, lambda subnet: subnet, points, population=4).search(3, 0)


def test_a_predictor_is_better_than_the_mean_and_says_so() -> None:
    rng = np.random.default_rng(0)
    subnets = [NET.space.sample_stratified(rng) for _ in range(120)]
    codes, errors = encode(NET, subnets), evaluate(subnets)[:, 1]
    noisy = errors + rng.normal(0, 0.3, len(errors))
    score = score_predictor(codes, noisy, seed=0)
    assert score.held_out == 24
    assert score.rmse < 0.3 * score.std
    assert score.kendall_tau > 0.8
    others = [NET.space.sample_stratified(rng) for _ in range(200)]
    found = Predictor.fit(codes, noisy).predict(encode(NET, others))
    assert np.sqrt(np.square(found - evaluate(others)[:, 1]).mean()) < 2 * score.rmse
    with pytest.raises(SpecError, match=r"too few measured subnets \(9\); at least 10"):
        Predictor.fit(codes[:9], errors[:9])


def test_equal_networks_have_equal_codes() -> None:
    space = NET.space
    one = space.smallest
    expands = one.control.expands
    other = type(one)(one.family, type(one.control)(one.control.depths, (*expands[:-1], 1.0), one.control.widths))
    assert one != other
    assert NET.active_config(one) == NET.active_config(other)
    assert (encode(NET, [one]) == encode(NET, [other])).all()


@pytest.mark.parametrize("values", [np.ones(20), np.zeros(20)])
def test_what_is_always_the_same_is_foreseen(values: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    codes = encode(NET, [NET.space.sample(rng) for _ in range(20)])
    np.testing.assert_allclose(Predictor.fit(codes, values).predict(codes), values)
