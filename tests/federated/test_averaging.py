"""The mean of overlapping subnets, element by element, against the plain definition."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from federated.averaging import Update, UpdateSum  # noqa: E402
from federated.state import add_delta  # noqa: E402
from federated.subnet_shapes import SubnetShapes  # noqa: E402
from sim.base.errors import DataError, SpecError  # noqa: E402
from sim.base.streams import stream  # noqa: E402
from supernet.extraction import extract  # noqa: E402
from supernet.families import CnnSmall, OfaResNetSmall  # noqa: E402
from supernet.family import build  # noqa: E402
from supernet.space import SubnetConfig  # noqa: E402
from tests.supernet.built import TINY_BERT  # noqa: E402

if TYPE_CHECKING:
    from supernet.family import Family

FAMILIES = (CnnSmall(width=4, hidden=8), OfaResNetSmall(width=8), TINY_BERT)
SHARES = st.lists(st.tuples(st.integers(0, 26), st.floats(0.1, 50)), min_size=1, max_size=5)


@cache
def small() -> SubnetShapes:
    return SubnetShapes.from_network(build(FAMILIES[0]))


def updates(drawn: list[tuple[int, float]]) -> list[Update]:
    """Random deltas of subnets, in float64."""
    shapes, space = small(), FAMILIES[0].space
    found = []
    for number, (turn, weight) in enumerate(drawn):
        widths = (turn % 3 + 1, turn // 3 % 3, turn // 9)
        id_ = SubnetConfig(space.family, replace(space.largest.control, widths=widths)).id
        chance = torch.Generator().manual_seed(number)
        delta = {
            name: torch.randn(shape, generator=chance, dtype=torch.float64) for name, shape in shapes.of(id_).items()
        }
        found.append(Update(delta, {id_: weight}, loss=float(number), squared_loss=1.0))
    return found


def mean_of(some: list[Update]) -> Update:
    total = UpdateSum(small())
    for update in some:
        total.add(update)
    return total.mean()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_subnet_shapes_are_those_of_the_extracted_subnet(family: Family) -> None:
    network = build(family).train()
    shapes, rng = SubnetShapes.from_network(network), stream(1, "shapes")
    for subnet in (network.space.smallest, network.space.largest, *(network.space.sample(rng) for _ in range(3))):
        alone = sorted(tuple(p.shape) for p in extract(network, subnet).parameters())
        assert sorted(shapes.of(subnet.id).values()) == alone


@given(SHARES)
@settings(max_examples=40)
def test_each_element_is_the_mean_over_those_who_have_it(drawn: list[tuple[int, float]]) -> None:
    some = updates(drawn)
    found = mean_of(some)
    for name, shape in small().full.items():
        total, mass = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
        for update in some:
            part = update.delta[name]
            place = tuple(map(slice, part.shape))
            total[place] += part * update.weight
            mass[place] += update.weight
        place = tuple(map(slice, found.delta[name].shape))
        expected = torch.where(mass > 0, total / mass, 0.0)
        assert torch.allclose(found.delta[name], expected[place], rtol=0, atol=1e-12)
        expected[place] = 0
        assert not expected.any()  # nothing was left out
    assert math.isclose(found.loss, sum(u.loss * u.weight for u in some) / sum(u.weight for u in some))


@given(SHARES, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_means_of_means_are_means_of_the_whole_in_any_grouping(drawn: list[tuple[int, float]], chance: object) -> None:
    some = updates(drawn)
    whole = mean_of(some)
    groups: dict[int, list[Update]] = {}
    for update in some:
        groups.setdefault(chance.randrange(3), []).append(update)  # type: ignore[attr-defined]
    tree = mean_of([mean_of(group) for group in groups.values()])
    assert tree.weights.keys() == whole.weights.keys()
    assert tree.clients == len(some)
    for name, part in whole.delta.items():
        assert (tree.delta[name] - part).abs().max() < 1e-12


def test_a_delta_is_added_to_a_prefix_slice_and_the_state_is_unchanged() -> None:
    state = {"w": torch.ones(3, 2)}
    new = add_delta(state, {"w": torch.full((2, 1), 2.0)}, rate=0.5)
    assert new["w"].tolist() == [[2, 1], [2, 1], [1, 1]]
    assert state["w"].tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda u: replace(u, weights={}), "has no weight"),
        (lambda u: replace(u, weights=dict.fromkeys(u.weights, 0.0)), "invalid weight"),
        (lambda u: replace(u, weights=dict.fromkeys(u.weights, math.nan)), "invalid weight"),
        (lambda u: replace(u, weights={"cnn_small:w9x3": 1.0}), "unknown subnet"),
        (lambda u: replace(u, delta={}), "parameters differ from those of its subnets"),
        (lambda u: replace(u, delta={n: p[:1] for n, p in u.delta.items()}), "wrong shape"),
        (lambda u: replace(u, delta={n: p * math.inf for n, p in u.delta.items()}), "not all values are finite"),
    ],
)
def test_an_invalid_update_is_refused_and_the_sum_unchanged(wrong: object, says: str) -> None:
    good = updates([(26, 1.0)])[0]
    total = UpdateSum(small())
    total.add(good)
    with pytest.raises(DataError, match=says):
        total.add(wrong(good))  # type: ignore[operator]
    assert total.weights == good.weights
    assert all(torch.equal(part, good.delta[name]) for name, part in total.mean().delta.items())


def test_an_unknown_subnet_is_an_error() -> None:
    with pytest.raises(SpecError, match="unknown id"):
        SubnetShapes({"w": (1,)}, {}).of("another")
