"""Optimizers, with their parameters as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import annotated_types as at
import torch

from sim.base.parameters import NonNegative, Parameters

if TYPE_CHECKING:
    from torch import nn

_Momentum = Annotated[float, at.Ge(0), at.Lt(1)]


class Optimizer(Protocol):
    """A frozen dataclass whose fields are its parameters; YAML names it by `kind`."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the torch optimizer for a network; the learning rate is set before each step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sgd(Parameters):
    """Stochastic gradient descent with Nesterov momentum, as in once-for-all.

    Attributes:
        momentum: 0 for none.
        decay: Weight decay; not applied to biases and norms.
    """

    momentum: _Momentum = 0.9
    decay: NonNegative = 3e-5

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the torch optimizer for a network."""
        return torch.optim.SGD(_groups(model, self.decay), lr=0.0, momentum=self.momentum, nesterov=self.momentum > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW(Parameters):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019).

    Attributes:
        decay: Weight decay; not applied to biases and norms.
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of their squares.
    """

    decay: NonNegative = 0.01
    beta1: _Momentum = 0.9
    beta2: _Momentum = 0.999

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the torch optimizer for a network."""
        return torch.optim.AdamW(_groups(model, self.decay), lr=0.0, betas=(self.beta1, self.beta2))


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
