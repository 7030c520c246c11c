"""Federated algorithms, each in two halves: the client's gradient correction and the server's step.

The client's half has one form for all algorithms. At weights w, when training began from w0, a client descends along
`gradient + proximal_mu * (w - w0) + correction`. The server's half is run by the server alone: intermediate aggregators
of a tree only take means. Each half keeps its state in a plain mapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

import annotated_types as at
import torch

from federated.state import Memory, State, add_delta, as_controls, padded, prefix_slice, split_controls
from sim.base.errors import SpecError
from sim.base.parameters import NonNegative, Parameters, Positive

if TYPE_CHECKING:
    from federated.averaging import Update

_Decay = Annotated[float, at.Ge(0), at.Lt(1)]


class Algorithm(Protocol):
    """A frozen dataclass whose fields are its parameters; YAML selects it by `kind`.

    Attributes:
        uniform_weights: Whether all clients have weight 1 in a mean, instead of their number of examples.
        requires_plain_sgd: Whether local steps must be without momentum.
        uses_control_variates: Whether the server sends control variates, its memory's `control`, with the model.
        normalizes_steps: Whether an update is divided by its number of local steps, which is then sent with it.
    """

    uniform_weights: ClassVar[bool]
    requires_plain_sgd: ClassVar[bool]
    uses_control_variates: ClassVar[bool]
    normalizes_steps: ClassVar[bool]

    @property
    def proximal_mu(self) -> float:
        """Strength of the pull of a client's weights towards those that training began from."""
        ...

    def gradient_correction(self, memory: Memory, received: State) -> State:
        """Return what is added to a client's gradient, by parameter name; nothing for parameters left out.

        Args:
            memory: The client's memory.
            received: Control variates that came with the model, under the names of their parameters.
        """
        ...

    def after_training(self, memory: Memory, received: State, delta: State, summed_rate: float) -> State:
        """Update a client's memory after local training, and return what is sent beside the delta.

        Args:
            memory: The client's memory.
            received: Control variates that came with the model.
            delta: Change of the client's weights.
            summed_rate: Sum of the learning rates of all its steps.
        """
        ...

    def server_step(self, memory: Memory, state: State, mean: Update, mask: State) -> State:
        """Return the next model.

        Args:
            memory: The server's memory.
            state: The model.
            mean: The mean of the updates.
            mask: True where at least one client trained an element of the mean, by parameter name.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FedAvg(Parameters):
    """The mean of the clients' models, weighted by their examples (McMahan et al., AISTATS 2017).

    Attributes:
        rate: The server's learning rate, 1 for the mean itself.
    """

    rate: Positive = 1.0

    uniform_weights: ClassVar[bool] = False
    requires_plain_sgd: ClassVar[bool] = False
    uses_control_variates: ClassVar[bool] = False
    normalizes_steps: ClassVar[bool] = False

    @property
    def proximal_mu(self) -> float:
        """Return 0: the algorithm has no proximal term."""
        return 0.0

    def gradient_correction(self, memory: Memory, received: State) -> State:
        """Return no correction."""
        return {}

    def after_training(self, memory: Memory, received: State, delta: State, summed_rate: float) -> State:
        """Return nothing to send beside the delta."""
        return {}

    def server_step(self, memory: Memory, state: State, mean: Update, mask: State) -> State:
        """Return the model plus `rate` times the mean delta."""
        return add_delta(state, split_controls(mean.delta)[0], self.rate)


@dataclass(frozen=True, kw_only=True)
class FedProx(FedAvg):
    """FedAvg with a proximal term in the clients' loss (Li et al., MLSys 2020).

    Attributes:
        pull: Weight of the proximal term, the paper's mu.
    """

    pull: NonNegative = 0.01

    @property
    def proximal_mu(self) -> float:
        """The paper's mu."""
        return self.pull


@dataclass(frozen=True, kw_only=True)
class FedOpt(FedAvg):
    """The mean delta as the gradient of an adaptive server optimizer (Reddi et al., ICLR 2021, Algorithm 2).

    Attributes:
        optimizer: FedAdam, FedYogi or FedAdagrad.
        rate: The paper's eta.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment; unused by FedAdagrad.
        tau: Degree of adaptivity; smaller is more adaptive.
    """

    optimizer: Literal["adam", "yogi", "adagrad"] = "adam"
    rate: Positive = 0.01
    beta1: _Decay = 0.9
    beta2: _Decay = 0.99
    tau: Positive = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer == "adagrad" and self.beta2 != FedOpt.beta2:
            raise SpecError("FedOpt.beta2", "not used by adagrad", f"{self.beta2:g}", "remove it")

    def server_step(self, memory: Memory, state: State, mean: Update, mask: State) -> State:
        """Return the model after a step; elements that no client trained keep their values and moments."""
        first, second = memory.setdefault("first", {}), memory.setdefault("second", {})
        new = dict(state)
        for name, part in split_controls(mean.delta)[0].items():
            delta, trained = part.to(torch.float64), mask[name]
            weights = state[name].to(torch.float64, copy=True)
            m = prefix_slice(first.setdefault(name, torch.zeros_like(weights)), part.shape)
            v = prefix_slice(second.setdefault(name, torch.full_like(weights, self.tau**2)), part.shape)
            m.copy_(torch.where(trained, self.beta1 * m + (1 - self.beta1) * delta, m))
            v.copy_(torch.where(trained, self._second_moment(v, delta**2), v))
            prefix_slice(weights, part.shape).add_(torch.where(trained, self.rate * m / (v.sqrt() + self.tau), 0.0))
            new[name] = weights.to(state[name].dtype)
        return new

    def _second_moment(self, old: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        if self.optimizer == "adagrad":
            return old + square
        if self.optimizer == "adam":
            return self.beta2 * old + (1 - self.beta2) * square
        return old - (1 - self.beta2) * square * torch.sign(old - square)


@dataclass(frozen=True, kw_only=True)
class FedNova(FedAvg):
    """Updates are divided by their number of local steps: more steps do not count more (Wang et al., NeurIPS 2020).

    The server moves by the mean of these, times the mean number of steps. Local steps are without momentum.
    """

    requires_plain_sgd: ClassVar[bool] = True
    normalizes_steps: ClassVar[bool] = True

    def server_step(self, memory: Memory, state: State, mean: Update, mask: State) -> State:
        """Return the model plus the mean of the normalized updates, times the mean number of steps and `rate`."""
        return add_delta(state, split_controls(mean.delta)[0], self.rate * mean.steps)


@dataclass(frozen=True, kw_only=True)
class FedDyn(FedAvg):
    """Dynamic regularization aligns each client's optimum with the global one (Acar et al., ICLR 2021, Algorithm 1).

    All clients have equal weight.

    Attributes:
        pull: Weight of the regularization, the paper's alpha.
    """

    pull: Positive = 0.1

    uniform_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate != 1:
            raise SpecError("FedDyn.rate", "not used: its server has no learning rate", f"{self.rate:g}", "remove it")

    @property
    def proximal_mu(self) -> float:
        """The paper's alpha."""
        return self.pull

    def gradient_correction(self, memory: Memory, received: State) -> State:
        """Return minus the client's gradient at the model."""
        return {name: -part for name, part in memory.get("gradient", {}).items()}

    def after_training(self, memory: Memory, received: State, delta: State, summed_rate: float) -> State:
        """Track the client's gradient: at the end of training the proximal term balances it."""
        memory["gradient"] = add_delta(_padded(memory.get("gradient", {}), delta), delta, -self.pull)
        return {}

    def server_step(self, memory: Memory, state: State, mean: Update, mask: State) -> State:
        """Return the mean of the clients' models, corrected by their accumulated drift."""
        delta = split_controls(mean.delta)[0]
        drift = memory.setdefault("drift", {name: torch.zeros_like(part) for name, part in state.items()})
        memory["drift"] = drift = add_delta(drift, delta, -self.pull * mean.clients / mean.eligible)
        corrections = {
            name: torch.where(mask[name], prefix_slice(drift[name], part.shape), 0.0) for name, part in delta.items()
        }
        return add_delta(add_delta(state, delta), corrections, -1 / self.pull)


@dataclass(frozen=True, kw_only=True)
class Scaffold(FedAvg):
    """Control variates remove client drift (Karimireddy et al., ICML 2020, Algorithm 1).

    Clients update their control variates by option II of the paper. All clients have equal weight; local steps are
    without momentum.
    """

    uniform_weights: ClassVar[bool] = True
    requires_plain_sgd: ClassVar[bool] = True
    uses_control_variates: ClassVar[bool] = True

    def gradient_correction(self, memory: Memory, received: State) -> State:
        """Return the server's control variate minus the client's."""
        own = _padded(memory.get("control", {}), received)
        return {name: part - prefix_slice(own[name], part.shape) for name, part in received.items()}

    def after_training(self, memory: Memory, received: State, delta: State, summed_rate: float) -> State:
        """Update the client's control variate, and return its change."""
        change = {name: -received[name] - part / summed_rate for name, part in delta.items()}
        memory["control"] = add_delta(_padded(memory.get("control", {}), delta), change)
        return as_controls(change)

    def server_step(self, memory: Memory, state: State, mean: Update, mask: State) -> State:
        """Return the model plus the mean delta; the server's control variate moves by the share that took part."""
        delta, change = split_controls(mean.delta)
        control = memory.setdefault("control", {name: torch.zeros_like(part) for name, part in state.items()})
        memory["control"] = add_delta(control, change, mean.clients / mean.eligible)
        return add_delta(state, delta, self.rate)


def _padded(state: State, like: State) -> State:
    """Return a state enlarged with zeros to cover another: slices grow when a client first trains a larger subnet."""
    return {**state, **{name: padded(state.get(name), part) for name, part in like.items()}}


SHORT_NAMES = {
    "fedavg": "federated.algorithms:FedAvg",
    "feddyn": "federated.algorithms:FedDyn",
    "fednova": "federated.algorithms:FedNova",
    "fedopt": "federated.algorithms:FedOpt",
    "fedprox": "federated.algorithms:FedProx",
    "scaffold": "federated.algorithms:Scaffold",
}
"""Short names in YAML."""

OTHER_NAMES = {
    **{f"fed{name}": f"{{kind: fedopt, optimizer: {name}}}" for name in ("adam", "yogi", "adagrad")},
    "fedsgd": "fedavg, with `epochs: 1` and a `batch` of all examples in the config of the trainers",
    "fedbn": "fedavg, with `personal` for the parameters that stay with each party",
    "fedper": "fedavg, with `personal` for the parameters that stay with each party",
    "qfedavg": "fedavg, with `aggregation: {kind: q_fedavg, q: <number>}`",
    "fedbuff": "fedavg, with the topology `asynchronous`",
}
"""What the names that algorithms have elsewhere are here."""
