"""Clients that attack: a role program of which a share of the workers sends something else than it should."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import annotated_types as at
import torch

from federated.programs import Trainer
from sim.base.parameters import Positive  # noqa: TC001 - fields are checked by their annotations

if TYPE_CHECKING:
    from topology.io import IO


@dataclass(eq=False)
class Attacker(Trainer):
    """A trainer, if it is not among the attackers of its role; these are drawn by the seed.

    Attributes:
        share: Share of the workers of the role that attack.
        attack: `sign_flip` sends minus the update, `gaussian` random numbers with the standard deviation `scale`.
        scale: Factor of the flipped update, or the standard deviation.
    """

    steps = Trainer.steps.after("train", "falsify")

    share: Annotated[float, at.Ge(0), at.Le(1)] = 0.2
    attack: Literal["sign_flip", "gaussian"] = "sign_flip"
    scale: Positive = 1.0

    def is_attacker(self, io: IO) -> bool:
        """Return whether this worker attacks."""
        count = len(io.plan.roles[io.worker.role])
        order = self.job.rng("attackers", io.worker.role, 0).permutation(count)
        number = int(io.worker.id.rpartition("/")[2])
        return number in order[: round(self.share * count)]

    def falsify(self, io: IO) -> None:
        """Replace its update, if it attacks."""
        if not self.is_attacker(io):
            return
        rng = self.job.rng("attack", io.worker.id, self.task.version)
        delta = {}
        for name, part in self.update.delta.items():
            noise = torch.from_numpy(rng.normal(0.0, self.scale, tuple(part.shape))).to(part.dtype)
            delta[name] = -self.scale * part if self.attack == "sign_flip" else noise
        self.update = replace(self.update, delta=delta)
