"""Differential privacy of parties: updates are clipped, the holder of the model adds noise to their sum, and counts.

McMahan et al. (ICLR 2018), with a fixed weight for each party. The accountants are Opacus' (pip install opacus).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import annotated_types as at
import torch

from sim.errors import SpecError
from sim.parameters import NonNegative, Positive, check_parameters

if TYPE_CHECKING:
    import numpy as np

    from federated.averaging import Update
    from federated.extents import Extents

_Delta = Annotated[float, at.Gt(0), at.Lt(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Gaussian noise for the whole of what a party sends.

    Attributes:
        clip: The longest that a party's change may be, over all its parameters together.
        noise: The standard deviation of the noise on the sum of changes, in units of `clip`; 0 only clips.
        delta: The probability that the guarantee does not hold.
        accountant: How privacy loss is added up: Renyi (Mironov 2017) or privacy random variables (Gopi et al. 2021).
    """

    clip: Positive = 1.0
    noise: NonNegative = 1.0
    delta: _Delta = 1e-5
    accountant: Literal["rdp", "prv"] = "rdp"

    def __post_init__(self) -> None:
        check_parameters(self)

    def noisy(self, mean: Update, extents: Extents, rng: np.random.Generator) -> Update:
        """Return a mean of clipped updates with noise: on each element, that of the sum over the element's weight."""
        if not self.noise:
            return mean
        change = {}
        for name, part in mean.change.items():
            weight = extents.mass(name, mean.weights)[tuple(map(slice, part.shape))]
            drawn = torch.from_numpy(rng.normal(0.0, self.noise * self.clip, tuple(part.shape)))
            spread = torch.where(weight > 0, drawn / weight, 0.0)
            change[name] = (part.to(torch.float64) + spread).to(part.dtype)
        return replace(mean, change=change)

    def epsilon(self, history: list[list[float]]) -> float:
        """Return the epsilon of all rounds so far.

        Args:
            history: For each run of like rounds: the share of parties that took part, and how many rounds.

        Raises:
            SpecError: Opacus is not installed.
        """
        if not self.noise:
            return float("inf")
        ledger: Any = _accountant(self.accountant)
        ledger.history = [(self.noise, share, int(rounds)) for share, rounds in history]
        return float(ledger.get_epsilon(delta=self.delta))


def _accountant(name: str) -> Any:
    try:
        from opacus import accountants  # noqa: PLC0415 - an optional dependency, and it takes three seconds
    except ImportError as error:
        right = "pip install -e '.[privacy]'"
        raise SpecError("privacy", "needs the accountants of Opacus", str(error), right) from error
    found: Any = accountants
    return found.RDPAccountant() if name == "rdp" else found.PRVAccountant()


def counted(history: list[list[float]], share: float) -> list[list[float]]:
    """Return a history with one more round in which such a share of the parties took part."""
    if history and history[-1][0] == share:
        return [*history[:-1], [share, history[-1][1] + 1]]
    return [*history, [share, 1]]
