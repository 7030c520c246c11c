"""Local training of a client: epochs of steps of an optimizer on its own examples."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import annotated_types as at
import torch
from torch import nn
from torch.nn import functional
from torch.optim.sgd import sgd

from federated.state import State, prefix_slice
from sim.base.errors import TrainingError
from sim.base.streams import stream
from supernet.calls import logits_of
from supernet.data.source import Draw, Examples
from supernet.training.scoring import IGNORED, flat

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from sim.base.parameters import NonNegative, Positive, PositiveInt
    from supernet.data.source import ExampleSet
    from supernet.network import Supernet

    Objective = Callable[[nn.Module, Examples], torch.Tensor]

OptimizerName = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine"]
Momentum = Annotated[float, at.Ge(0), at.Lt(1)]
_DROPOUT = threading.Lock()
"""Networks with dropout draw from torch's global random numbers: one thread at a time."""

_DROPOUTS = nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Hyperparameters of local training.

    Attributes:
        epochs: Passes over the client's examples.
        batch: Examples in a step.
        rate: Learning rate.
        momentum: Momentum of SGD.
        decay: Weight decay; of AdamW decoupled from the gradient.
        optimizer: The optimizer, which begins anew in each round.
        objective: Returns the loss of each example, given a network and a batch; None for cross-entropy.
    """

    epochs: PositiveInt = 1
    batch: PositiveInt = 32
    rate: Positive = 0.1
    momentum: Momentum = 0.0
    decay: NonNegative = 0.0
    optimizer: OptimizerName = "sgd"
    objective: Objective | None = None

    def at_round(self, version: int, rounds: int, schedule: Schedule, rate_decay: float) -> LocalSettings:
        """Return the hyperparameters of a round, with its learning rate.

        Args:
            version: Number of completed rounds.
            rounds: Number of all rounds.
            schedule: `constant`, or `cosine`: from `rate` in the first round towards 0 after the last.
            rate_decay: Factor of the learning rate from each round to the next.

        Examples:
            >>> [round(LocalSettings(rate=1.0).at_round(n, 4, "cosine", 1.0).rate, 2) for n in range(4)]
            [1.0, 0.85, 0.5, 0.15]
        """
        factor = rate_decay**version
        if schedule == "cosine":
            factor *= (1 + math.cos(math.pi * min(version, rounds) / rounds)) / 2
        return self if factor == 1 else replace(self, rate=self.rate * factor)

    def processed(self, examples: int) -> int:
        """Return the number of examples processed in all epochs; a last batch of a single example is skipped."""
        return self.epochs * (examples - (examples % self.batch == 1))


@dataclass(frozen=True, slots=True, eq=False)
class LocalResult:
    """The outcome of local training.

    Attributes:
        delta: Change of each weight, of the slices that the subnet uses.
        loss: Mean loss in the first epoch.
        squared_loss: Mean squared loss in the first epoch.
        summed_rate: Sum of the learning rates of all steps.
        steps: Number of steps.
    """

    delta: State
    loss: float
    squared_loss: float
    summed_rate: float
    steps: int


def train(
    network: Supernet,
    subnet: str,
    parameters: Mapping[str, nn.Parameter],
    shapes: Mapping[str, tuple[int, ...]],
    examples: ExampleSet,
    settings: LocalSettings,
    proximal_mu: float,
    correction: State,
    seeds: tuple[int, ...],
) -> LocalResult:
    """Train a subnet in place.

    Args:
        network: Holds the initial weights, in training mode.
        subnet: Subnet id.
        parameters: Parameters that the subnet uses, and others that are trained and stay with the client.
        shapes: Shape of the slice of each parameter that the subnet uses.
        examples: Training examples.
        settings: Hyperparameters.
        proximal_mu: Strength of the pull towards the initial weights.
        correction: Added to the gradients, on prefix slices.
        seeds: A seed and numbers that decide the order of the examples.

    Raises:
        TrainingError: There are too few examples, or the objective returns no loss of each example.
    """
    initial = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = optimizer_of(parameters, initial, settings, proximal_mu, correction)
    losses: list[torch.Tensor] = []
    steps = 0
    with _seeded(network.model, seeds):
        for epoch in range(settings.epochs):
            for batch in batches(examples, settings.batch, (*seeds, epoch)):
                loss = _loss(network.actuate(subnet), batch, settings.objective, each=not epoch)
                optimizer.step(loss.mean() if loss.dim() else loss)
                if not epoch:
                    losses.append(loss.detach())
                steps += 1
    if not losses:
        raise TrainingError("local training", "no batch has two examples", f"{len(examples)} examples", "more examples")
    delta = {
        name: _difference(p.detach(), initial[name], shapes[name]) for name, p in parameters.items() if name in shapes
    }
    first = torch.cat(losses).to(torch.float64)
    rates = steps * settings.rate
    return LocalResult(delta, float(first.mean()), float(first @ first) / len(first), rates, steps)


@contextmanager
def _seeded(network: nn.Module, seeds: tuple[int, ...]) -> Generator[None]:
    """Seed torch's random numbers: networks and losses of one's own may draw where nobody sees it."""
    with _DROPOUT if any(map(is_random, network.modules())) else nullcontext():
        # `torch.manual_seed` takes a hundred times as long
        torch.default_generator.manual_seed(int(stream(seeds[0], "dropout", *seeds[1:]).integers(2**63)))
        yield


def is_random(module: nn.Module) -> bool:
    """Return whether a layer has dropout; of recurrent and attention layers it is an attribute."""
    rate = module.p if isinstance(module, _DROPOUTS) else getattr(module, "dropout", 0)
    return isinstance(rate, float | int) and rate > 0


def mean_loss(
    network: Supernet, subnet: str, examples: ExampleSet, settings: LocalSettings, seeds: tuple[int, ...]
) -> float:
    """Return the mean loss of a subnet on a client's examples; norms use the statistics of each batch."""
    with torch.no_grad(), _seeded(network.model, seeds):
        model = network.actuate(subnet)
        batches = (batch for batch in examples.batches(settings.batch) if len(batch) > 1)
        losses = [_loss(model, batch, settings.objective, each=True) for batch in batches]
    return float(torch.cat(losses).to(torch.float64).mean())


def _loss(network: nn.Module, batch: Examples, objective: Objective | None, *, each: bool) -> torch.Tensor:
    """Return the loss of each example of a batch, or of each token that counts; or their mean.

    Raises:
        TrainingError: The objective returns something else.
    """
    if objective is None:
        logits, labels = flat(logits_of(network(*batch.inputs)), batch.labels)
        return functional.cross_entropy(logits, labels, reduction="none" if each else "mean")
    loss: Any = objective(network, batch)
    shapes = {(len(batch),)}
    if batch.labels.dim() > 1 and not batch.labels.is_floating_point():
        shapes.add((int((batch.labels != IGNORED).sum()),))
    if not isinstance(loss, torch.Tensor) or tuple(loss.shape) not in shapes:
        value = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise TrainingError("objective", "must return the loss of each example", value, f"shape ({len(batch)},)")
    return loss


def _difference(final: torch.Tensor, initial: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the change of a prefix slice; of a full parameter it overwrites the initial weights."""
    if final.shape == shape:
        return torch.sub(final, initial, out=initial)
    return prefix_slice(final, shape) - prefix_slice(initial, shape)


def optimizer_of(
    parameters: Mapping[str, torch.Tensor],
    initial: State,
    settings: LocalSettings,
    proximal_mu: float,
    correction: State,
) -> _Sgd:
    """Return the optimizer of some weights.

    Args:
        parameters: The weights, which it changes in place; of several clients, with a dimension of clients in front.
        initial: What the proximal term pulls them to.
        settings: Hyperparameters.
        proximal_mu: Strength of that pull.
        correction: Added to the gradients, on prefix slices.
    """
    kind = _Sgd if settings.optimizer == "sgd" else _Adam
    return kind(parameters, initial, settings, proximal_mu, correction)


class _Sgd:
    """SGD by torch's functional form; the overhead of torch's optimizer class is that of a small layer."""

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        initial: State,
        settings: LocalSettings,
        proximal_mu: float,
        correction: State,
    ) -> None:
        self._parameters = list(parameters.values())
        self._initial = list(initial.values())
        self._correction = {number: correction[name] for number, name in enumerate(parameters) if name in correction}
        self._proximal_mu = proximal_mu
        self._momenta: list[torch.Tensor | None] = [None] * len(parameters)
        self._settings = settings
        self._foreach = all(p.is_cuda for p in self._parameters)  # torch's own choice, which it repeats in each step
        self._is_plain = not (self._foreach or proximal_mu or correction or settings.momentum or settings.decay)

    def step(self, loss: torch.Tensor) -> None:
        """Update all weights by the gradient of a loss."""
        computed = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        self.apply(cast("tuple[torch.Tensor | None, ...]", computed))  # torch's annotation omits None

    def apply(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Update all weights by their gradients; None where the loss does not depend on a weight."""
        with torch.no_grad():
            if self._is_plain:  # the same as below, at a third of the cost
                for parameter, gradient in zip(self._parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter.add_(gradient, alpha=-self._settings.rate)
                return
            corrected = {number: self._corrected(number, g) for number, g in enumerate(gradients) if g is not None}
            momenta = [self._momenta[number] for number in corrected]
            sgd(
                [self._parameters[number] for number in corrected],
                list(corrected.values()),
                momenta,
                weight_decay=self._settings.decay,
                momentum=self._settings.momentum,
                lr=self._settings.rate,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                foreach=self._foreach,
            )
        for number, momentum in zip(corrected, momenta, strict=True):
            self._momenta[number] = momentum

    def _corrected(self, number: int, gradient: torch.Tensor) -> torch.Tensor:
        """Return a gradient with the proximal term and the correction of the algorithm."""
        if self._proximal_mu:
            gradient = gradient.add(self._parameters[number] - self._initial[number], alpha=self._proximal_mu)
        if number in self._correction:
            gradient = gradient.clone()
            correction = self._correction[number]
            prefix_slice(gradient, correction.shape).add_(correction)
        return gradient


class _Adam(_Sgd):
    """Adam or AdamW, by torch's classes."""

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        initial: State,
        settings: LocalSettings,
        proximal_mu: float,
        correction: State,
    ) -> None:
        super().__init__(parameters, initial, settings, proximal_mu, correction)
        owner = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        self._optimizer = owner(self._parameters, lr=settings.rate, weight_decay=settings.decay)

    def apply(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Update all weights by their gradients."""
        with torch.no_grad():
            for number, (parameter, gradient) in enumerate(zip(self._parameters, gradients, strict=True)):
                parameter.grad = None if gradient is None else self._corrected(number, gradient)
            self._optimizer.step()
            for parameter in self._parameters:
                parameter.grad = None


def batches(examples: ExampleSet, size: int, seeds: tuple[int, ...]) -> Iterator[Examples]:
    """Yield batches in random order; a batch of a single example is skipped, because it has no batch statistics."""
    order = stream(seeds[0], "order", *seeds[1:]).permutation(len(examples))
    in_memory = isinstance(examples, Examples)  # and read without drawing anything
    seed = 0 if in_memory else int(stream(seeds[0], "augmentation", *seeds[1:]).integers(2**63))
    return examples.drawn(Draw(indices, seed) for indices in torch.from_numpy(order).split(size) if len(indices) > 1)
