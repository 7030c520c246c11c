"""Federated algorithms, each in two halves: what a party does beside its gradient, and what becomes of the mean.

The first half is one form for all of them: a party's gradient at weights w, when it began from w0, becomes
`gradient + pull * (w - w0) + shift`. The second half is done by whoever holds the model, and by nobody else: those in
the middle of a tree only take means. What either half remembers is a plain mapping, so that it can be stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import annotated_types as at
import torch

from federated.averaging import CONTROL, applied, split
from sim.base.parameters import NonNegative, Parameters, Positive

if TYPE_CHECKING:
    from federated.averaging import State, Update

_Decay = Annotated[float, at.Ge(0), at.Lt(1)]
_Memory = dict[str, Any]


class Algorithm(Protocol):
    """A frozen dataclass whose fields are its parameters; YAML names it by `kind`.

    Attributes:
        uniform: Whether all parties count alike, instead of by their examples.
        plain: Whether local steps must be plain gradient steps, without momentum.
        controls: Whether control variates travel with the model.
    """

    uniform: ClassVar[bool]
    plain: ClassVar[bool]
    controls: ClassVar[bool]

    @property
    def pull(self) -> float:
        """How strongly a party is pulled back to where it began."""
        ...

    def shift(self, memory: _Memory, sent: State) -> State:
        """Return what is added to a party's gradient, by name of the parameter; nothing where it is left out.

        Args:
            memory: The party's.
            sent: What came with the model: control variates under the names of their parameters.
        """
        ...

    def trained(self, memory: _Memory, sent: State, change: State, travelled: float) -> State:
        """Take note of a training in the party's memory; return what is sent beside the change.

        Args:
            memory: The party's.
            sent: What came with the model.
            change: By how much its weights moved.
            travelled: The sum of the learning rates of its steps.
        """
        ...

    def step(self, memory: _Memory, state: State, mean: Update, covered: State) -> State:
        """Return the next model.

        Args:
            memory: The holder's.
            state: The model.
            mean: The mean of the updates.
            covered: 1 where any party has trained an element of the mean, 0 elsewhere, by name of the parameter.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FedAvg(Parameters):
    """The mean of what parties have made of the model, by their examples (McMahan et al., AISTATS 2017).

    Attributes:
        rate: How far the model goes towards the mean.
    """

    rate: Positive = 1.0

    uniform: ClassVar[bool] = False
    plain: ClassVar[bool] = False
    controls: ClassVar[bool] = False

    @property
    def pull(self) -> float:
        """How strongly a party is pulled back to where it began: not at all."""
        return 0.0

    def shift(self, memory: _Memory, sent: State) -> State:
        """Return nothing: the gradient stays as it is."""
        return {}

    def trained(self, memory: _Memory, sent: State, change: State, travelled: float) -> State:
        """Return nothing: the change is all."""
        return {}

    def step(self, memory: _Memory, state: State, mean: Update, covered: State) -> State:
        """Return the model, moved by the mean."""
        return applied(state, split(mean.change)[0], self.rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class FedProx(FedAvg):
    """FedAvg in which parties are pulled back to the model they began from (Li et al., MLSys 2020).

    Attributes:
        pull: The paper's mu.
    """

    pull: NonNegative = 0.01  # pyright: ignore[reportIncompatibleMethodOverride]  # here it is a parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class FedOpt(FedAvg):
    """The mean change as a gradient for an adaptive optimizer (Reddi et al., ICLR 2021, Algorithm 2).

    Attributes:
        optimizer: FedAdam, FedYogi or FedAdagrad.
        rate: The paper's eta.
        beta1: How much of the last mean stays in the mean of means.
        beta2: The same for their squares; FedAdagrad has none.
        tau: The less, the more adaptive.
    """

    optimizer: Literal["adam", "yogi", "adagrad"] = "adam"
    rate: Positive = 0.01
    beta1: _Decay = 0.9
    beta2: _Decay = 0.99
    tau: Positive = 1e-3

    def step(self, memory: _Memory, state: State, mean: Update, covered: State) -> State:
        """Return the model after a step; elements that nobody trained stay, and so do their moments."""
        first, second = memory.setdefault("first", {}), memory.setdefault("second", {})
        new = dict(state)
        for name, change in split(mean.change)[0].items():
            place = tuple(slice(size) for size in change.shape)
            moved, seen = change.to(torch.float64), covered[name].bool()
            whole = state[name].to(torch.float64, copy=True)
            m = first.setdefault(name, torch.zeros_like(whole))
            v = second.setdefault(name, torch.full_like(whole, self.tau**2))
            own_m = self.beta1 * m[place] + (1 - self.beta1) * moved
            own_v = self._second(v[place], moved**2)
            m[place] = torch.where(seen, own_m, m[place])
            v[place] = torch.where(seen, own_v, v[place])
            whole[place] += torch.where(seen, self.rate * own_m / (own_v.sqrt() + self.tau), 0.0)
            new[name] = whole.to(state[name].dtype)
        return new

    def _second(self, old: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        if self.optimizer == "adagrad":
            return old + square
        if self.optimizer == "adam":
            return self.beta2 * old + (1 - self.beta2) * square
        return old - (1 - self.beta2) * square * torch.sign(old - square)


@dataclass(frozen=True, slots=True, kw_only=True)
class FedDyn(FedAvg):
    """Each party's loss is bent so that its own optimum becomes that of all (Acar et al., ICLR 2021, Algorithm 1).

    All parties count alike.

    Attributes:
        pull: The paper's alpha.
    """

    pull: Positive = 0.1  # pyright: ignore[reportIncompatibleMethodOverride]  # here it is a parameter

    uniform: ClassVar[bool] = True

    def shift(self, memory: _Memory, sent: State) -> State:
        """Return minus the gradient that the party has at the model."""
        return {name: -part for name, part in memory.get("gradient", {}).items()}

    def trained(self, memory: _Memory, sent: State, change: State, travelled: float) -> State:
        """Follow the gradient: it is what the pull balances where training ends."""
        memory["gradient"] = applied(_filled(memory.get("gradient", {}), change), change, -self.pull)
        return {}

    def step(self, memory: _Memory, state: State, mean: Update, covered: State) -> State:
        """Return the mean of the parties' models, corrected by what they have drifted so far."""
        change = split(mean.change)[0]
        drift = memory.setdefault("drift", {name: torch.zeros_like(part) for name, part in state.items()})
        memory["drift"] = drift = applied(drift, change, -self.pull * mean.parties / mean.of)
        corrections = {
            name: torch.where(covered[name].bool(), drift[name][tuple(map(slice, part.shape))], 0.0)
            for name, part in change.items()
        }
        return applied(applied(state, change), corrections, -1 / self.pull)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaffold(FedAvg):
    """Control variates take out of each party's steps what it differs in (Karimireddy et al., ICML 2020, Algorithm 1).

    A party's control variate is followed by their option II. All parties count alike; local steps have no momentum.
    """

    uniform: ClassVar[bool] = True
    plain: ClassVar[bool] = True
    controls: ClassVar[bool] = True

    def shift(self, memory: _Memory, sent: State) -> State:
        """Return the control variate of all less that of the party."""
        own = _filled(memory.get("control", {}), sent)
        return {name: part - own[name][tuple(map(slice, part.shape))] for name, part in sent.items()}

    def trained(self, memory: _Memory, sent: State, change: State, travelled: float) -> State:
        """Follow the control variate, and return by how much it changed."""
        moved = {name: -sent[name] - part / travelled for name, part in change.items()}
        memory["control"] = applied(_filled(memory.get("control", {}), change), moved)
        return {CONTROL + name: part for name, part in moved.items()}

    def step(self, memory: _Memory, state: State, mean: Update, covered: State) -> State:
        """Return the model, moved by the mean; the control variate of all moves by the share of those who took part."""
        change, control = split(mean.change)
        held = memory.setdefault("control", {name: torch.zeros_like(part) for name, part in state.items()})
        memory["control"] = applied(held, control, mean.parties / mean.of)
        return applied(state, change, self.rate)


def _filled(held: State, like: State) -> State:
    """Return a memory with zeros where it has less than some state; parts grow when a larger subnet is trained."""
    filled = dict(held)
    for name, part in like.items():
        have = held.get(name)
        shape = part.shape if have is None else tuple(map(max, have.shape, part.shape))
        if have is None or tuple(have.shape) != tuple(shape):
            grown = torch.zeros(shape, dtype=part.dtype)
            if have is not None:
                grown[tuple(map(slice, have.shape))] = have
            filled[name] = grown
    return filled


SHORT_NAMES = {
    "fedavg": "federated.algorithms:FedAvg",
    "feddyn": "federated.algorithms:FedDyn",
    "fedopt": "federated.algorithms:FedOpt",
    "fedprox": "federated.algorithms:FedProx",
    "scaffold": "federated.algorithms:Scaffold",
}
"""What short names in YAML stand for."""
