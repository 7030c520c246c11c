"""Factories of networks as a user writes them: some that can be used, and others that can't."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.Conv2d(2 * channels, channels, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


class OwnNet(nn.Module):
    example = torch.zeros(1, 1, 8, 8)

    def __init__(self, width: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(3)])
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


def own_net(classes: int = 10, **others: int) -> nn.Module:
    return OwnNet(classes=classes, **others)


def raises() -> nn.Module:
    return OwnNet(1 // 0)


def ends_the_process() -> NoReturn:
    raise SystemExit


class Overflows(OwnNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward((x + 70000).half().float())


def not_a_network() -> Any:
    return OwnNet


def other_each_time() -> nn.Module:
    return OwnNet(4 + int(torch.randint(0, 1000, ())))


def needs_width(width: int) -> nn.Module:
    return OwnNet(width)


def reserved(example: int = 1) -> nn.Module:
    return OwnNet(example)


def larger_than_memory() -> nn.Module:
    return nn.Sequential(*[nn.Linear(1_000_000, 1_000_000) for _ in range(10)])


class Wrapped(nn.Module):
    """What each network below has around `OwnNet`."""

    example = OwnNet.example

    def __init__(self) -> None:
        super().__init__()
        self.net = OwnNet()

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)


class RandomInEval(Wrapped):
    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x + torch.randn_like(x))


class ShapeOfValues(Wrapped):
    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x[x.flatten(1).sum(1) > 0])


class NoLogits(Wrapped):
    def forward(self, x: torch.Tensor) -> Any:
        return {"classes": self.net(x)}


class OneForAll(Wrapped):
    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x).mean(0)


class Unready(Wrapped):
    def __init__(self) -> None:
        super().__init__()
        self.net.head = nn.LazyLinear(10)


class NotStorable(Wrapped):
    def get_extra_state(self) -> Any:
        return NotStorable

    def set_extra_state(self, state: Any) -> NoReturn:
        raise AssertionError(state)


class FailsInside(Wrapped):
    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x) @ self.net(x)


UNUSABLE = {
    raises: r"own_factories:raises: raised ZeroDivisionError: .* \(own_factories.py:\d+, in raises\)",
    ends_the_process: r"own_factories:ends_the_process: raised SystemExit",
    Overflows: r"its result has NaN in it \(\d+ of \d+ numbers\)",
    not_a_network: r"own_factories.py:\d+, in not_a_network: does not return a module \(type\)",
    other_each_time: r"returns another network each time \(stem.weight: \(\d+, 1, 3, 3\), .* then",
    larger_than_memory: r"larger than memory \(40000.0 GB of weights",
    RandomInEval: "gives other results each time in evaluation mode",
    ShapeOfValues: "shape of its result depends on values",
    NoLogits: r"returns no logits \(dict\)",
    OneForAll: "no logits for each example",
    Unready: r"net.head.weight: has no shape yet",
    NotStorable: r"_extra_state: can't be stored",
    FailsInside: r"the network raised RuntimeError: .* \(own_factories.py:\d+, in forward\); its example has shape",
}
"""For each factory that can be named but not used, what the message says."""

for factory in (own_net, *UNUSABLE):
    if not isinstance(factory, type):
        vars(factory)["example"] = OwnNet.example
