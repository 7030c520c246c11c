"""How evenly accuracy is spread: what the figures are, and what they do not depend on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.fairness import Fairness

ACCURACIES = st.lists(st.floats(0, 100), min_size=1, max_size=40)


@given(ACCURACIES)
def test_the_order_of_clients_does_not_matter_and_the_figures_are_ordered(values: list[float]) -> None:
    fair = Fairness.of(values)
    assert Fairness.of(sorted(values)) == fair
    assert min(values) - 1e-9 <= fair.worst <= fair.mean + 1e-9
    assert fair.mean - 1e-9 <= fair.best <= max(values) + 1e-9
    assert 1 / len(values) - 1e-9 <= fair.jain <= 1 + 1e-9


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40))
def test_jains_index_follows_from_the_coefficient_of_variation(values: list[float]) -> None:
    fair = Fairness.of(values)
    assert fair.jain == pytest.approx(1 / (1 + (fair.std / fair.mean) ** 2))


@pytest.mark.parametrize(
    ("values", "jain"), [([40.0] * 7, 1.0), ([0.0] * 7, 1.0), ([0.0] * 4 + [90.0], 1 / 5), ([30.0], 1.0)]
)
def test_jains_index_at_its_ends(values: list[float], jain: float) -> None:
    assert Fairness.of(values).jain == pytest.approx(jain)


@pytest.mark.parametrize(("count", "tenth"), [(1, 1), (10, 1), (11, 2), (30, 3)])
def test_a_tenth_is_rounded_up(count: int, tenth: int) -> None:
    fair = Fairness.of([float(value) for value in range(count)])
    assert fair.worst == sum(range(tenth)) / tenth
    assert fair.best == count - 1 - sum(range(tenth)) / tenth
