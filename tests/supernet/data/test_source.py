"""What splits promise, whatever the source."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sim.base.errors import SpecError
from supernet.data.digits import Digits
from supernet.data.source import Examples, located, split


def numbered(count: int) -> Examples:
    return Examples((torch.arange(count).view(-1, 1),), torch.arange(count))


@given(count=st.integers(2, 60), seed=st.integers(0, 5), data=st.data())
def test_a_split_gives_each_example_to_one_part(count: int, seed: int, data: st.DataObject) -> None:
    validation = data.draw(st.integers(1, count - 1))
    train = data.draw(st.none() | st.integers(1, count - validation))
    for_training, for_validation = split(numbered(count), seed, validation, train, "some")
    assert len(for_validation) == validation
    assert len(for_training) == (count - validation if train is None else train)
    labels = for_training.labels.tolist() + for_validation.labels.tolist()
    assert len(set(labels)) == len(labels)
    for part in (for_training, for_validation):
        assert part.inputs[0].flatten().tolist() == part.labels.tolist()


def test_the_seed_decides_the_split() -> None:
    parts = [split(numbered(50), seed, 10, None, "some")[1].labels.tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"some: more examples requested than exist \(5 for validation \+ 6\); at most 10"
    ):
        split(numbered(10), 0, 5, 6, "some")


@given(count=st.integers(1, 30), size=st.integers(1, 40))
def test_batches_are_the_examples_in_order(count: int, size: int) -> None:
    batches = list(numbered(count).batches(size))
    assert torch.cat([batch.labels for batch in batches]).tolist() == list(range(count))
    assert all(len(batch) == size for batch in batches[:-1])


def test_digits_have_the_same_test_split_for_all_seeds() -> None:
    one, other = (Digits().splits(seed) for seed in (1, 2))
    assert torch.equal(one.test.inputs[0], other.test.inputs[0])
    assert not torch.equal(one.train.inputs[0], other.train.inputs[0])
    assert [len(part) for part in (one.train, one.validation, one.test)] == [1200, 237, 360]
    for part in (one.train, one.validation, one.test):
        assert part.inputs[0].shape[1:] == (1, 8, 8)
        assert set(part.labels.tolist()) == set(range(10))
        assert -1 <= float(part.inputs[0].min()) < float(part.inputs[0].max()) <= 1


def test_paths_take_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FOLDER", "/data")
    assert located(Path("/x"), "$SOME_FOLDER/file") == "/data/file"
    assert located(Path("/x"), "file") == "/x/file"
    with pytest.raises(SpecError, match=r"environment variable is not set \(\$NO_SUCH_ONE\)"):
        located(Path("/x"), "$NO_SUCH_ONE/file")
