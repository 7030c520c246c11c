"""A class or function that returns a network is a family: it is built, stored and read as shipped families are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from sim.base.errors import DataError, SpecError
from supernet import InsertionOptions, NetworkFamily, build, check_family, insert, load, save
from tests.supernet import own_factories
from tests.supernet.own_factories import OwnNet, own_net

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL = NetworkFamily(OwnNet, {"width": 4})


def test_a_factory_is_the_same_supernet_as_its_inserted_network() -> None:
    check_family(SMALL)
    torch.manual_seed(3)
    inserted, built = insert(OwnNet(4), OwnNet.example, name="OwnNet"), build(SMALL, seed=3)
    assert built.space == inserted.space
    x = torch.randn(2, 1, 8, 8)
    for subnet in (built.space.smallest, built.space.linspace(3)[1], built.space.largest):
        assert torch.equal(built(x, subnet), inserted(x, subnet))


def test_the_seed_and_nothing_else_decides_the_weights() -> None:
    state = build(SMALL, seed=1).state_dict()
    torch.manual_seed(77)
    again = build(NetworkFamily(OwnNet, {"width": 4}), seed=1).state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state if isinstance(state[name], torch.Tensor))
    assert not torch.equal(build(SMALL, seed=2).state_dict()["model.stem.weight"], state["model.stem.weight"])


@pytest.mark.parametrize(
    "family",
    [
        SMALL,
        NetworkFamily(own_net, {"classes": 3}, (1, 12, 12), InsertionOptions(expands=(0.5, 1.0), keep=("blocks.0",))),
    ],
)
def test_what_is_stored_is_read_again(tmp_path: Path, family: NetworkFamily) -> None:
    built = build(family, seed=1)
    save(tmp_path / "net.pt", built, family)
    read = load(tmp_path / "net.pt", family).supernet.train()
    x = torch.randn(*family.example(2)[0].shape)
    for subnet in (built.space.smallest, built.space.largest):
        assert torch.equal(read(x, subnet), built(x, subnet))
    with pytest.raises(SpecError, match=f"family of your own .*{family.name}"):
        load(tmp_path / "net.pt")
    with pytest.raises(DataError, match="is of another family"):
        load(tmp_path / "net.pt", NetworkFamily(OwnNet, {"width": 8}))


def test_options_may_be_lists() -> None:
    listed: Any = {"depths": [[1, 2, 3]], "expands": [0.5, 1.0], "keep": ["blocks.0"]}
    families = [
        NetworkFamily(OwnNet, insertion=InsertionOptions(**options))
        for options in (listed, {**listed, "keep": "blocks.0"})
    ]
    assert families[0] == families[1]
    assert hash(families[0]) == hash(families[1])
    assert families[0].space.expands == ((0.5, 1.0),) * 2


@pytest.mark.parametrize(("batch", "size"), [(1, None), (3, None), (2, 20)])
def test_examples_have_the_batch_and_the_size_that_are_asked_for(batch: int, size: int | None) -> None:
    (images,) = SMALL.example(batch, size)
    assert images.shape == (batch, 1, size or 8, size or 8)
    (texts,) = NetworkFamily(torch.nn.Embedding, {"num_embeddings": 9, "embedding_dim": 4}, (6,)).example(batch)
    assert texts.shape == (batch, 6)
    with pytest.raises(SpecError, match="can't be resized"):
        NetworkFamily(torch.nn.Linear, {"in_features": 6, "out_features": 2}, (6,)).example(batch, 7)


@pytest.mark.parametrize("factory", own_factories.UNUSABLE, ids=lambda factory: factory.__name__)
def test_what_could_not_be_trained_stored_or_served_is_refused_at_once(factory: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match=own_factories.UNUSABLE[factory]):
        build(NetworkFamily(factory))


def test_an_example_that_raises_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnNet, "example", staticmethod(lambda size: torch.zeros(1, size)))
    with pytest.raises(SpecError, match=r"example: raised TypeError"):
        NetworkFamily(OwnNet).example()
    monkeypatch.setattr(OwnNet, "example", [1, 8, 8])
    with pytest.raises(SpecError, match=r"not an input of the network \(list\)"):
        NetworkFamily(OwnNet).example()
    monkeypatch.setattr(OwnNet, "example", (torch.zeros(1, 8), torch.zeros(8, 8)))
    with pytest.raises(SpecError, match=r"first dimensions differ \(\(1, 8\), \(8, 8\)\)"):
        NetworkFamily(OwnNet).example()
    monkeypatch.delattr(OwnNet, "example")
    with pytest.raises(SpecError, match=r"has no example of its input; OwnNet.example = "):
        NetworkFamily(OwnNet)


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        (OwnNet, {"widht": 3}, r"unknown parameter \('widht'\); did you mean 'width'"),
        (own_factories.needs_width, {}, r"needs the parameter \('width'\)"),
        (own_factories.reserved, {}, r"reserved parameter \('example'\)"),
        (OwnNet, {"width": torch.zeros(1)}, r"width: not a plain value \(Tensor\)"),
        (lambda: OwnNet(4), {}, "can't be found by its name"),
        (OwnNet(), {}, "can't be found by its name"),
    ],
)
def test_a_factory_that_can_not_be_called_or_found_again_is_refused(
    factory: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        NetworkFamily(factory, options, (1, 8, 8))
