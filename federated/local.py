"""What a party does with the model that it gets: some epochs of gradient descent on its own examples."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import annotated_types as at
import torch
from torch import nn
from torch.nn import functional
from torch.optim.sgd import sgd

from federated.extents import leading
from sim.base.streams import stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from federated.averaging import State
    from sim.base.parameters import NonNegative, Positive, PositiveInt
    from supernet.data.source import Examples
    from supernet.network import Supernet

Momentum = Annotated[float, at.Ge(0), at.Lt(1)]
_DROPPING = threading.Lock()
"""Networks that drop out at random draw from the process's random numbers: one thread at a time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a party trains.

    Attributes:
        epochs: How many times it goes through its examples.
        batch: Examples in a step.
        rate: The learning rate.
        momentum: Of the steps; 0 for none.
        decay: Weight decay.
    """

    epochs: PositiveInt = 1
    batch: PositiveInt = 32
    rate: Positive = 0.1
    momentum: Momentum = 0.0
    decay: NonNegative = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What came of a training.

    Attributes:
        change: By how much each weight has moved, of the parts that the subnet uses.
        loss: The mean loss in the first epoch.
        energy: The mean of squared losses in it.
        travelled: The sum of the learning rates of all steps.
    """

    change: State
    loss: float
    energy: float
    travelled: float


def train(
    network: Supernet,
    subnet: str,
    parameters: Mapping[str, nn.Parameter],
    extents: Mapping[str, tuple[int, ...]],
    examples: Examples,
    settings: Settings,
    pull: float,
    shift: State,
    chance: tuple[int, ...],
) -> Trained:
    """Train a subnet in place.

    Args:
        network: Holds the weights to begin with, in training mode.
        subnet: Its id.
        parameters: Those that the subnet uses.
        extents: The part of each parameter that the subnet uses.
        examples: What is learned.
        settings: How.
        pull: How strongly weights are pulled back to where they began.
        shift: What is added to gradients, on leading parts.
        chance: A seed and numbers that decide the order of the examples.
    """
    begin = {name: p.detach().clone() for name, p in parameters.items()}
    descent = _Descent(parameters, begin, settings, pull, shift)
    drops = any(isinstance(m, nn.Dropout) and m.p > 0 for m in network.model.modules())
    losses: list[torch.Tensor] = []
    steps = 0
    with _DROPPING if drops else nullcontext():
        if drops:
            torch.manual_seed(int(stream(chance[0], "dropout", *chance[1:]).integers(2**63)))
        for epoch in range(settings.epochs):
            for batch in _batches(examples, settings.batch, (*chance, epoch)):
                logits = network.actuate(subnet)(*batch.inputs)
                if epoch:
                    descent.step(functional.cross_entropy(logits, batch.labels))
                else:
                    each = functional.cross_entropy(logits, batch.labels, reduction="none")
                    descent.step(each.mean())
                    losses.append(each.detach())
                steps += 1
    change = {name: _moved(p.detach(), begin[name], extents[name]) for name, p in parameters.items()}
    first = torch.cat(losses).to(torch.float64)
    return Trained(change, float(first.mean()), float(first @ first) / len(first), steps * settings.rate)


def _moved(now: torch.Tensor, begin: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return by how much the leading part has moved, in place of where it began if that is all of it."""
    if now.shape == shape:
        return torch.sub(now, begin, out=begin)
    return leading(now, shape) - leading(begin, shape)


class _Descent:
    """Steps of gradient descent by torch's own function; the class around it costs as much as a small layer."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], begin: State, settings: Settings, pull: float, shift: State
    ) -> None:
        self._parameters = list(parameters.values())
        self._begin = list(begin.values())
        self._shift = {number: shift[name] for number, name in enumerate(parameters) if name in shift}
        self._pull = pull
        self._momenta: list[torch.Tensor | None] = [None] * len(parameters)
        self._settings = settings
        self._together = all(p.is_cuda for p in self._parameters)  # as torch itself decides, in each step anew

    def step(self, loss: torch.Tensor) -> None:
        """Move all weights by the gradient of a loss."""
        found = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        gradients = cast("tuple[torch.Tensor | None, ...]", found)  # torch's annotation forgets the unused
        with torch.no_grad():
            bent = {number: self._bent(number, own) for number, own in enumerate(gradients) if own is not None}
            momenta = [self._momenta[number] for number in bent]
            sgd(
                [self._parameters[number] for number in bent],
                list(bent.values()),
                momenta,
                weight_decay=self._settings.decay,
                momentum=self._settings.momentum,
                lr=self._settings.rate,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                foreach=self._together,
            )
        for number, momentum in zip(bent, momenta, strict=True):
            self._momenta[number] = momentum

    def _bent(self, number: int, gradient: torch.Tensor) -> torch.Tensor:
        """Return a gradient with what the algorithm adds to it."""
        if self._pull:
            gradient = gradient.add(self._parameters[number] - self._begin[number], alpha=self._pull)
        if number in self._shift:
            gradient = gradient.clone()
            leading(gradient, self._shift[number].shape).add_(self._shift[number])
        return gradient


def _batches(examples: Examples, size: int, chance: tuple[int, ...]) -> Iterator[Examples]:
    """Yield all examples in a random order; a last one that would be alone is left out: it has no statistics."""
    order = stream(chance[0], "order", *chance[1:]).permutation(len(examples))
    for which in torch.from_numpy(order).split(size):
        if len(which) > 1:
            yield examples.select(which)


def steps_of(examples: int, settings: Settings) -> int:
    """Return how many examples a training goes through."""
    alone = examples % settings.batch == 1
    return settings.epochs * (examples - alone)


def clipped(change: State, longest: float) -> State:
    """Return a change that is no longer than a length, over all its parameters together."""
    length = float(torch.sqrt(sum((part.to(torch.float64) ** 2).sum() for part in change.values())))  # type: ignore[arg-type]
    if length <= longest:
        return change
    return {name: part * (longest / length) for name, part in change.items()}


Memory = dict[str, Any]
"""What a worker remembers from one rest to the next: plain values and tensors, in mappings and lists."""
