"""A small convolutional network, a usual benchmark of federated learning (McMahan et al., AISTATS 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from sim.base.errors import SpecError
from sim.base.parameters import PositiveInt, check_parameters
from supernet.space import SubnetSpace

if TYPE_CHECKING:
    from sim.tables.latency import ControlTuple
    from supernet.structure import ActiveConfig, Structure

_QUARTERS = (1, 2, 3, 4)
"""For each width, the active quarters of the units."""
_POOLED = 4
"""The side of the features that are flattened, for images of any size."""
_UNITS = 4
"""Channels are sliced in quarters, so their number is a multiple of it."""


class ConvNet(nn.Module):
    """Two convolutions, each pooled, and two linear layers; no norms, so that it has no running statistics.

    Takes images, shape (batch, channels, height, width), and gives logits, shape (batch, classes).
    """

    def __init__(self, channels: int, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(_POOLED),
        )
        self.hidden = nn.Linear(2 * width * _POOLED**2, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of images."""
        flat = torch.flatten(self.features(images), 1)
        logits: torch.Tensor = self.classifier(torch.relu(self.hidden(flat)))
        return logits


@dataclass(frozen=True, slots=True)
class WidthDecoder:
    """Decodes widths: each is the active quarters of one group of units.

    Attributes:
        structure: Of the network; its groups are those of the widths, in order.
    """

    structure: Structure

    def decode(self, control: ControlTuple) -> ActiveConfig:
        """Return the configuration of a control tuple."""
        units = [
            group.units * _QUARTERS[number] // _QUARTERS[-1]
            for group, number in zip(self.structure.groups, control.widths, strict=True)
        ]
        return self.structure.config([], units)


@dataclass(frozen=True, slots=True)
class CnnSmall:
    """Two convolutions and a hidden layer; channels and neurons are sliced in quarters.

    Attributes:
        classes: The classes.
        channels: The channels of an image.
        width: The channels of the first convolution, a multiple of 4; the second has twice as many.
        hidden: The neurons of the hidden layer, a multiple of 4.
    """

    classes: PositiveInt = 10
    channels: PositiveInt = 1
    width: PositiveInt = 16
    hidden: PositiveInt = 64

    default_size: ClassVar[int] = 28

    def __post_init__(self) -> None:
        check_parameters(self)
        for name in ("width", "hidden"):
            if getattr(self, name) % _UNITS:
                value = str(getattr(self, name))
                raise SpecError(f"CnnSmall.{name}", "can't be sliced in quarters", value, f"a multiple of {_UNITS}")

    @property
    def space(self) -> SubnetSpace:
        """Three widths: of either convolution, and of the hidden layer."""
        return SubnetSpace("cnn_small", (), (), (tuple(range(len(_QUARTERS))),) * 3)

    def network(self, width_divisor: int = 1) -> nn.Module:
        """Return the largest subnet with random weights."""
        width, hidden = (max(_UNITS, size // width_divisor) for size in (self.width, self.hidden))
        return ConvNet(self.channels, width, hidden, self.classes)

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return images of shape (batch, channels, size, size)."""
        side = size or self.default_size
        return (torch.zeros(batch, self.channels, side, side),)

    def decoder(self, structure: Structure) -> WidthDecoder:
        """Return the decoder of the widths."""
        return WidthDecoder(structure)

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return no names: there are no published weights."""
        return ()
