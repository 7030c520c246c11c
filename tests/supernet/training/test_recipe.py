"""What recipes promise: which subnets are open, at which rate, for how many steps; and what rules teach."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.base.errors import SpecError
from supernet.space import SubnetSpace
from supernet.training.recipe import Phase
from supernet.training.sampling import ProgressiveShrinking, SandwichRule
from tests.supernet.training.cases import recipe

SPACE = SubnetSpace("net", ((0, 1, 2), (0, 2)), ((0.5, 1.0),) * 3, ((0, 1, 2, 3),))
CHOICES = st.none() | st.integers(1, 5)


@given(depths=CHOICES, expands=CHOICES, widths=CHOICES)
def test_the_largest_choices_are_open(depths: int | None, expands: int | None, widths: int | None) -> None:
    opened = Phase(epochs=1, rate=1, depths=depths, expands=expands, widths=widths).subspace(SPACE)
    assert opened.largest == SPACE.largest
    for name, count in (("depths", depths), ("expands", expands), ("widths", widths)):
        for before, after in zip(getattr(SPACE, name), getattr(opened, name), strict=True):
            assert after == (before if count is None else before[-min(count, len(before)) :])


@given(steps=st.integers(1, 500), warmup=st.floats(0, 1), rate=st.floats(1e-6, 10))
def test_the_rate_rises_then_falls_and_never_leaves_its_bounds(steps: int, warmup: float, rate: float) -> None:
    phase = Phase(epochs=1, rate=rate, warmup=warmup)
    rates = [phase.rate_at(step, steps) for step in range(steps)]
    assert all(0 < value <= rate * (1 + 1e-12) for value in rates)
    top = int(np.argmax(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@given(examples=st.integers(1, 300), epochs=st.floats(0.1, 4))
def test_an_epoch_is_its_whole_batches(examples: int, epochs: float) -> None:
    asked = recipe(Phase(epochs=epochs, rate=1), batch=32)
    if examples < 32:
        with pytest.raises(SpecError, match=r"batch: larger than the training set \(32\)"):
            asked.steps(examples)
    else:
        assert asked.steps(examples) == [int(np.ceil(epochs * (examples // 32)))]


@given(random=st.integers(0, 4), seed=st.integers(0, 99))
def test_the_sandwich_teaches_the_largest_by_labels_and_the_others_by_it(random: int, seed: int) -> None:
    drawn = SandwichRule(random=random).draw(SPACE, np.random.default_rng(seed))
    assert drawn[0] == (SPACE.largest, 1.0, 0.0)
    assert {trained[1:] for trained in drawn[1:]} == {(0.0, 1.0)}
    assert drawn[1].subnet == SPACE.smallest
    assert len({trained.subnet for trained in drawn}) == len(drawn) <= 2 + random


def test_a_sandwich_of_one_subnet_is_ordinary_training() -> None:
    alone = Phase(epochs=1, rate=1, depths=1, expands=1, widths=1).subspace(SPACE)
    assert SandwichRule(random=3).draw(alone, np.random.default_rng(0)) == [(SPACE.largest, 1.0, 0.0)]


def test_shrinking_teaches_random_subnets_by_both() -> None:
    drawn = ProgressiveShrinking(random=3, teacher=0.5).draw(SPACE, np.random.default_rng(0))
    assert [trained[1:] for trained in drawn] == [(1.0, 0.5)] * 3
    assert all(trained.subnet in SPACE for trained in drawn)


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("rate", -1.0), ("warmup", 1.5), ("depths", 0)])
def test_bounds_are_told(field: str, value: float) -> None:
    with pytest.raises(SpecError, match=rf"Phase\.{field}: is out of range"):
        Phase(**{"epochs": 1, "rate": 1.0, field: value})
