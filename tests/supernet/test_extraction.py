from __future__ import annotations

import torch
from torch import nn

from supernet.extraction import extract
from supernet.families.resnet import Block, ResNet
from supernet.statistics import leading_statistics
from tests.supernet.built import pictures, small, texts, tiny_bert

MIDDLE = "ofa_resnet_small:d1,0,2:e0.75x9:w1,2,3"


def test_an_extracted_subnet_is_plain_and_shares_nothing() -> None:
    supernet = small().eval()
    supernet.set_statistics(MIDDLE, leading_statistics(supernet, MIDDLE))
    plain, expected = extract(supernet, MIDDLE), supernet(pictures(), MIDDLE)
    assert type(plain) is ResNet
    assert all(isinstance(parameter, nn.Parameter) and parameter.is_leaf for parameter in plain.parameters())
    own = {t.untyped_storage().data_ptr() for t in (*plain.parameters(), *plain.buffers())}
    assert not own & {t.untyped_storage().data_ptr() for t in (*supernet.model.parameters(), *supernet.model.buffers())}
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.zero_()
    assert torch.equal(plain(pictures()), expected)
    assert all(parameter.grad is None for parameter in plain.parameters())


def test_names_are_those_in_the_supernet() -> None:
    supernet = small()
    names = [name for name in extract(supernet, MIDDLE).state_dict() if name.startswith("blocks")]
    assert sorted({int(name.split(".")[1]) for name in names}) == [0, 1, 3, 6, 7, 8]
    assert set(extract(supernet, supernet.space.largest).state_dict()) == set(supernet.model.state_dict())
    layers = tiny_bert()
    names = extract(layers, "dynabert_small:d2:e1.0").state_dict()
    assert {int(name.split(".")[2]) for name in names if name.startswith("encoder")} == {0, 2}


def test_it_trains_on_its_own() -> None:
    plain = extract(small(), MIDDLE)
    (norm, *_) = (module for module in plain.modules() if isinstance(module, nn.BatchNorm2d))
    assert (norm.training, int(norm.num_batches_tracked)) == (True, 0)
    plain(pictures()).sum().backward()
    assert int(norm.num_batches_tracked) == 1
    assert all(parameter.grad is not None for parameter in plain.parameters())


def test_a_frozen_weight_stays_frozen() -> None:
    supernet = small()
    supernet.model.blocks[1].requires_grad_(requires_grad=False)
    block = extract(supernet, MIDDLE).blocks[1]
    assert isinstance(block, Block)
    assert not any(parameter.requires_grad for parameter in block.parameters())


def test_a_transformer_keeps_what_is_not_cut() -> None:
    supernet = tiny_bert().eval()
    plain = extract(supernet, "dynabert_small:d1:e0.25")
    assert plain.embeddings.word_embeddings.weight is not supernet.model.embeddings.word_embeddings.weight
    assert torch.equal(plain(texts()), supernet(texts(), "dynabert_small:d1:e0.25"))
