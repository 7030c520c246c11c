"""Differential privacy of parties: updates are clipped, the holder of the model adds noise to their sum, and counts.

McMahan et al. (ICLR 2018), with a fixed weight for each party: what is protected is the model, from whoever sees it but
the holder. The accountant is that of dp-accounting (pip install dp-accounting), by Renyi divergences (Mironov 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import annotated_types as at
import torch

from sim.base.errors import SpecError
from sim.base.parameters import NonNegative, Parameters, Positive

if TYPE_CHECKING:
    import numpy as np

    from federated.averaging import Update
    from federated.extents import Extents

_Delta = Annotated[float, at.Gt(0), at.Lt(1)]
_WHOLE = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)
"""Orders of Renyi divergences for which sampling has a finite formula; without sampling, all are at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy(Parameters):
    """Gaussian noise for the whole of what a party sends.

    Attributes:
        clip: The longest that a party's change may be, over all its parameters together.
        noise: The standard deviation of the noise on the sum of changes, in units of `clip`; 0 only clips.
        delta: The probability that the guarantee does not hold.
    """

    clip: Positive = 1.0
    noise: NonNegative = 1.0
    delta: _Delta = 1e-5

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
        """Return the epsilon of all rounds so far, for data sets that differ by one party.

        A share below 1 counts as if each party had been drawn by itself with that probability (Poisson sampling), as in
        the paper; selectors draw a fixed number.

        Args:
            history: For each run of like rounds: the share of parties that chance drew, and how many rounds.

        Raises:
            SpecError: dp-accounting is not installed.
        """
        if not self.noise:
            return float("inf")
        accounting, rdp = _accounting()
        ledger = rdp.RdpAccountant(_WHOLE if any(share < 1 for share, _ in history) else None)
        for share, rounds in history:
            event = accounting.GaussianDpEvent(self.noise)
            ledger.compose(accounting.PoissonSampledDpEvent(share, event) if share < 1 else event, int(rounds))
        return float(ledger.get_epsilon(self.delta))


def _accounting() -> tuple[Any, Any]:
    try:
        import dp_accounting  # noqa: PLC0415 - an optional dependency
        from dp_accounting import rdp  # noqa: PLC0415
    except ImportError as error:
        right = "pip install 'superserve-sim[privacy]'"
        raise SpecError("privacy", "needs the package dp-accounting", str(error), right) from error
    return dp_accounting, rdp


def counted(history: list[list[float]], share: float) -> list[list[float]]:
    """Return a history with one more round in which chance drew such a share of the parties."""
    if history and history[-1][0] == share:
        return [*history[:-1], [share, history[-1][1] + 1]]
    return [*history, [share, 1]]
