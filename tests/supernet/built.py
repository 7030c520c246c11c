"""Supernets that tests share, and what they do with them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from supernet.families import DynaBert, DynaBertSmall, OfaResNet50, OfaResNetSmall
from supernet.family import build
from supernet.layers import is_norm

if TYPE_CHECKING:
    from supernet.network import Supernet

TINY_BERT = DynaBertSmall(vocabulary=20, positions=16, layers=4, hidden=24, heads=4, ffn=48, depths=(1, 2, 3, 4))
SMALL = OfaResNetSmall(width=8)


def small(**options: int) -> Supernet:
    """A small residual supernet in double precision, as if it was trained: no statistic has its first value."""
    supernet = build(SMALL, **options).double()
    generator = torch.Generator().manual_seed(1)
    for module in supernet.model.modules():
        if is_norm(module) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(generator=generator)
            module.num_batches_tracked += 1
    return supernet


def tiny_bert() -> Supernet:
    """A transformer in double precision."""
    return build(TINY_BERT).double()


@cache
def ofa_on_meta() -> Supernet:
    """OFA-ResNet50 without weights; not to be changed."""
    return build(OfaResNet50(), device="meta")


@cache
def dynabert_on_meta() -> Supernet:
    """DynaBERT without weights; not to be changed."""
    return build(DynaBert(), device="meta")


def pictures(batch: int = 3, seed: int = 0) -> torch.Tensor:
    """Grey images of 8 x 8 in double precision."""
    return torch.randn(batch, 1, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def texts(batch: int = 3, seed: int = 0) -> torch.Tensor:
    """Texts of six tokens."""
    return torch.randint(0, 20, (batch, 6), generator=torch.Generator().manual_seed(seed))
