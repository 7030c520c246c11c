"""Small supernets and data to train them on, that take milliseconds a step."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from supernet.data.digits import Digits
from supernet.data.source import Examples
from supernet.families import DynaBertSmall, OfaResNetSmall
from supernet.family import build
from supernet.training.optimizers import Sgd
from supernet.training.recipe import Phase, Recipe
from supernet.training.sampling import ProgressiveShrinking, SandwichRule

if TYPE_CHECKING:
    from supernet.network import Supernet

RESNET = OfaResNetSmall(width=8)
BERT = DynaBertSmall(vocabulary=20, positions=8, layers=2, hidden=24, heads=4, ffn=16, depths=(1, 2))


@cache
def digits() -> Examples:
    return Digits().splits(0).train.first(96)


@cache
def texts() -> Examples:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(20, (64, 6), generator=generator)
    return Examples((ids, torch.ones_like(ids, dtype=torch.bool)), (ids.sum(1) % 2))


def resnet(seed: int = 0) -> Supernet:
    return build(RESNET, seed=seed)


def bert(seed: int = 0) -> Supernet:
    return build(BERT, seed=seed)


def recipe(*phases: Phase, **options: object) -> Recipe:
    return Recipe(**{"batch": 32, "phases": phases or (Phase(epochs=1, rate=0.05),), "optimizer": Sgd(), **options})


TWO_PHASES = (
    Phase(epochs=1, rate=0.05, depths=1, expands=1, widths=1),
    Phase(epochs=1, rate=0.02, subnets=ProgressiveShrinking(random=2), rewire=True),
)
SANDWICH = (Phase(epochs=1.4, rate=0.05, subnets=SandwichRule(random=1)),)


def weights(supernet: Supernet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in supernet.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Grouped(nn.Module):
    """A network with a depthwise convolution between two others, and one in two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(8, 12), Block(8, 12))
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, outer: int, inner: int) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(outer, inner, 1), nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.project = nn.Conv2d(inner, outer, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.project(self.depthwise(self.norm(self.expand(x)).relu()).relu())
