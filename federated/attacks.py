"""Clients that attack: a role program of which a share of the workers sends something else than it should."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import annotated_types as at
import torch
from torch.nn import functional

from federated.trainer import Trainer
from sim.base.errors import SpecError
from sim.base.parameters import Positive  # noqa: TC001 - fields are checked by their annotations
from supernet.calls import logits_of

if TYPE_CHECKING:
    from torch import nn

    from supernet.data.source import Examples
    from topology.io import IO


@dataclass(eq=False)
class Attacker(Trainer):
    """A trainer, if it is not among the attackers of its role; these are drawn by the seed.

    Attributes:
        share: Share of the workers of the role that attack.
        attack: `sign_flip` sends minus the update, `gaussian` random numbers with the standard deviation `scale`;
            `label_flip` trains on the labels in reverse order, the last class for the first.
        scale: Factor of the flipped update, or the standard deviation.
    """

    steps = Trainer.steps.after("train", "falsify")

    share: Annotated[float, at.Ge(0), at.Le(1)] = 0.2
    attack: Literal["sign_flip", "gaussian", "label_flip"] = "sign_flip"
    scale: Positive = 1.0
    flips_labels = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attack == "label_flip" and self.scale != 1:
            raise SpecError("scale", "not used by label_flip", f"{self.scale:g}", "remove it")

    async def train(self, io: IO) -> None:
        """Train, an attacker perhaps on other labels."""
        self.flips_labels = self.attack == "label_flip" and self.is_attacker(io)
        await super().train(io)

    def objective(self, network: nn.Module, batch: Examples) -> torch.Tensor:
        """Return the loss of each example, of an attacker perhaps for another label."""
        outputs = logits_of(network(*batch.inputs))
        labels = outputs.shape[1] - 1 - batch.labels if self.flips_labels else batch.labels
        losses: torch.Tensor = getattr(functional, self.loss)(outputs, labels, reduction="none")
        return losses

    def is_attacker(self, io: IO) -> bool:
        """Return whether this worker attacks."""
        count = len(io.plan.roles[io.worker.role])
        order = self.job.rng("attackers", io.worker.role, 0).permutation(count)
        number = int(io.worker.id.rpartition("/")[2])
        return number in order[: round(self.share * count)]

    def falsify(self, io: IO) -> None:
        """Replace its update, if it attacks."""
        if self.attack == "label_flip" or not self.is_attacker(io):
            return
        rng = self.job.rng("attack", io.worker.id, self.task.version)
        delta = {}
        for name, part in self.update.delta.items():
            noise = torch.from_numpy(rng.normal(0.0, self.scale, tuple(part.shape))).to(part.dtype)
            delta[name] = -self.scale * part if self.attack == "sign_flip" else noise
        self.update = replace(self.update, delta=delta)
