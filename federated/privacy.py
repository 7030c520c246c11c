"""Client-level differential privacy: updates are clipped, and the server adds noise to their sum (central DP).

McMahan et al. (ICLR 2018), with equal weights of all clients. The model is protected from everybody but the server.
The privacy loss is computed by the package dp-accounting, by Renyi divergences (Mironov 2017).
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
    from federated.subnet_shapes import SubnetShapes

_Delta = Annotated[float, at.Gt(0), at.Lt(1)]
_INTEGER_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)
"""Renyi orders with a finite formula under sampling; without sampling any order has one."""


@dataclass(frozen=True, kw_only=True)
class Privacy(Parameters):
    """The Gaussian mechanism, applied to the whole delta of each client.

    Attributes:
        clip: Maximum L2 norm of a client's delta, over all its parameters together.
        noise: Standard deviation of the noise on the sum of deltas, in units of `clip`; 0 clips only.
        delta: Probability with which the guarantee may fail.
    """

    clip: Positive = 1.0
    noise: NonNegative = 1.0
    delta: _Delta = 1e-5

    def add_noise(self, mean: Update, shapes: SubnetShapes, rng: np.random.Generator) -> Update:
        """Return the mean of clipped updates with the noise of the sum, divided by the weight of each element."""
        if not self.noise:
            return mean
        delta = {}
        for name, part in mean.delta.items():
            weight = shapes.element_weights(name, mean.weights, part.shape)
            noise = torch.from_numpy(rng.normal(0.0, self.noise * self.clip, tuple(part.shape)))
            delta[name] = (part.to(torch.float64) + torch.where(weight > 0, noise / weight, 0.0)).to(part.dtype)
        return replace(mean, delta=delta)

    def epsilon(self, history: list[list[float]]) -> float:
        """Return the epsilon of all rounds so far, for data sets that differ by one client.

        A share below 1 is accounted as Poisson sampling, as in the paper, although selectors draw a fixed number.

        Args:
            history: Consecutive rounds with the same share of sampled clients, each as [share, rounds].

        Raises:
            SpecError: dp-accounting is not installed.
        """
        if not self.noise:
            return float("inf")
        accounting, rdp = _accounting()
        accountant = rdp.RdpAccountant(_INTEGER_ORDERS if any(share < 1 for share, _ in history) else None)
        for share, rounds in history:
            event = accounting.GaussianDpEvent(self.noise)
            accountant.compose(accounting.PoissonSampledDpEvent(share, event) if share < 1 else event, int(rounds))
        return float(accountant.get_epsilon(self.delta))


def _accounting() -> tuple[Any, Any]:
    try:
        import dp_accounting  # noqa: PLC0415 - an optional dependency
        from dp_accounting import rdp  # noqa: PLC0415
    except ImportError as error:
        hint = "pip install 'superserve-sim[privacy]'"
        raise SpecError("privacy", "needs the package dp-accounting", str(error), hint) from error
    return dp_accounting, rdp


def add_round(history: list[list[float]], share: float) -> list[list[float]]:
    """Return a history, as `Privacy.epsilon` takes it, with one more round that sampled a share of the clients."""
    if history and history[-1][0] == share:
        return [*history[:-1], [share, history[-1][1] + 1]]
    return [*history, [share, 1]]
