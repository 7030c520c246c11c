from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from sim.base.errors import SpecError
from supernet.checks import check_family
from supernet.families import FAMILIES
from supernet.families.cnn import CnnSmall, ConvNet
from supernet.space import SubnetSpace
from supernet.structure import ActiveConfig


@pytest.mark.parametrize("name", FAMILIES)
def test_shipped_families_pass(name: str) -> None:
    check_family(FAMILIES[name]())


def broken(**changes: Any) -> Any:
    """Return a family that differs from a good one in some methods."""
    return dataclass(frozen=True)(type("Mine", (CnnSmall,), changes))(width=4, hidden=4)


def decoder(decode: Any) -> Any:
    return lambda _self, structure: type("Decoder", (), {"decode": lambda _, control: decode(structure, control)})()


class Fixed(nn.Module):
    """Takes images of 28 x 28 only."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(28, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"__hash__": None}, r"^Mine: hashing it raised TypeError"),
        ({"default_size": "28"}, r"^Mine.default_size: not a size \('28'\); a whole number"),
        ({"space": property(lambda _: [])}, r"^Mine.space: not a space of subnets \(\[\]\)"),
        ({"space": property(lambda self: self.nothing)}, r"^Mine.space: reading it raised AttributeError"),
        ({"network": lambda *_, **__: 5}, r"^Mine.network: not a module \(int\)"),
        ({"network": lambda _self: None}, r"^Mine.network: building it with width_divisor=16 raised TypeError"),
        (
            {"network": lambda _, width_divisor=1: nn.Sequential(*(nn.Linear(28, 28) for _ in range(width_divisor)))},
            r"^Mine.network: the modules depend on width_divisor \(1?\d\)",
        ),
        ({"example": lambda _self, batch=1, *_: torch.zeros(batch, 1, 28, 28)}, r"^Mine.example: not arguments"),
        (
            {"example": lambda *_: (torch.zeros(1, 1, 28, 28),)},
            r"^Mine.example: not arguments of the network \(shapes \[\(1, 1, 28, 28\)\] for a batch of 2\)",
        ),
        (
            {"example": lambda _self, batch=1, *_: (torch.zeros(batch, 3, 28, 28),)},
            r"^Mine.network: running it on its example raised RuntimeError",
        ),
        ({"original_names": lambda _self, name: name}, r"^Mine.original_names: not names \('features.0.weight' for"),
        ({"decoder": decoder(lambda *_: None)}, r"Mine.decoder, subnet cnn_small:w0x3: not a configuration \(NoneType"),
        (
            {"decoder": decoder(lambda *_: ActiveConfig((True,), (1, 1, 1)))},
            r"w0x3: wrong length \(1 blocks, 3 groups\); 0 blocks, 3 groups",
        ),
        (
            {"decoder": decoder(lambda structure, _: structure.config([], [1, 0, 1]))},
            r"^Mine.decoder, subnet cnn_small:w0x3, group 1: active units out of range \(0\); 1 to 8",
        ),
        (
            {"decoder": decoder(lambda structure, _: structure.config([], [1, 1, 1]))},
            r"subnet cnn_small:w3x3: the largest subnet is not the whole network",
        ),
        (
            {"decoder": decoder(lambda _, control: control.depths[0])},
            r"^Mine.decoder, subnet cnn_small:w0x3: decoding it raised IndexError",
        ),
        (
            {"network": lambda *_, **__: Fixed(), "decoder": decoder(lambda s, _: s.config([], []))},
            r"^Mine.network, subnet cnn_small:w0x3: wrong shape of the result \(\(1, 28, 4\)\)",
        ),
    ],
)  # fmt: skip
def test_a_broken_family_is_told_with_its_place(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        check_family(broken(**changes))


def test_options_must_be_frozen() -> None:
    @dataclass
    class Loose:
        classes: int = 10

    with pytest.raises(SpecError, match=r"^Loose: not a frozen dataclass"):
        check_family(Loose())  # type: ignore[arg-type]


def test_a_good_family_of_ones_own_passes() -> None:
    good = broken(
        space=property(lambda _: SubnetSpace("mine", (), (), ((0, 1, 2, 3),) * 3)),
        network=lambda _, width_divisor=1: ConvNet(1, 4, max(4, 16 // width_divisor), 3),
    )
    check_family(good)
