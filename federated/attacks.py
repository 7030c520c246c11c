"""Clients that attack: a role program of which a share of the workers sends something else than it should.

As the program of a variant it makes all workers of that variant attackers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any, Literal
from weakref import WeakKeyDictionary

import annotated_types as at
import torch

from federated.compression import compress_delta, decompress_update
from federated.trainer import Trainer
from sim.base.errors import SpecError
from sim.base.parameters import Positive  # noqa: TC001 - fields are checked by their annotations
from supernet.calls import logits_of
from supernet.training.scoring import IGNORED

if TYPE_CHECKING:
    from torch import nn

    from federated.job import TrainingTask
    from federated.state import State
    from supernet.data.source import Examples
    from topology.io import IO


@dataclass(eq=False)
class Attacker(Trainer):
    """A trainer, if it is not among the attackers of its role; these are drawn by the seed.

    Attributes:
        share: Share of the workers of the role that attack; of a variant, all of its workers do.
        attack: `sign_flip` sends minus the update, `gaussian` random numbers with the standard deviation `scale`;
            `label_flip` trains on the labels in reverse order, the last class for the first; `alie` sends the mean of
            the attackers' own updates less so many standard deviations that the majority hides it (ALIE).
        scale: Factor of the flipped update, or the standard deviation.
    """

    steps = Trainer.steps.after("train", "falsify")

    share: Annotated[float, at.Ge(0), at.Le(1)] = 0.2
    attack: Literal["sign_flip", "gaussian", "label_flip", "alie"] = "sign_flip"
    scale: Positive = 1.0
    flips_labels = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attack in {"label_flip", "alie"} and self.scale != 1:
            raise SpecError("scale", f"not used by {self.attack}", f"{self.scale:g}", "remove it")

    def load(self, io: IO) -> None:
        """Begin, and check the number of attackers.

        Raises:
            SpecError: Labels that are numbers are to be flipped; a share above 0 is rounded to no attacker, or is given
                to a variant; or ALIE needs several, and fewer than half of the clients.
        """
        super().load(io)
        variant = io.variants.get(io.worker.id)
        configs = {use.key: use.config for use in io.plan.tag.programs}
        if variant is not None and "share" in configs[f"{io.worker.role}/{variant}"]:
            problem, hint = "not used: all workers of a variant attack", f"set the share of the variant {variant!r}"
            raise SpecError(f"{io.worker.id}, share", problem, f"{self.share:g}", hint)
        if self.attack == "label_flip" and self.job.context.has_numbers:
            raise SpecError(
                f"{io.worker.id}, attack", "needs labels that are classes", self.attack, "sign_flip or alie"
            )
        count, total = len(self.attackers(io)), len(io.plan.roles[io.worker.role])
        if variant is None and self.share and not count:
            hint = f"more than {0.5 / total:g} for 1 attacker, or 0"
            raise SpecError(f"{io.worker.id}, share", f"is rounded to 0 attackers of {total}", f"{self.share:g}", hint)
        if self.attack == "alie" and count and not 1 < count < total / 2:
            place, hint = f"{io.worker.id}, share", "at least 2 attackers, and fewer than half of the clients"
            raise SpecError(place, f"alie with {count} attackers of {total}", f"{self.share:g}", hint)

    async def train(self, io: IO) -> None:
        """Train, an attacker perhaps on other labels."""
        self.flips_labels = self.attack == "label_flip" and self.is_attacker(io)
        await super().train(io)

    def objective(self, network: nn.Module, batch: Examples) -> torch.Tensor:
        """Return the loss of each example, of an attacker perhaps for another label."""
        outputs = logits_of(network(*batch.inputs))
        labels = torch.where(batch.labels == IGNORED, IGNORED, outputs.shape[-1] - 1 - batch.labels)
        labels = labels if self.flips_labels else batch.labels
        return self.losses.of_each(outputs, labels)

    def attackers(self, io: IO) -> list[str]:
        """Return the ids of the attackers among the workers of its role, or of its variant."""
        role, variant = io.worker.role, io.variants.get(io.worker.id)
        if variant is not None:
            return [f"{role}/{n}" for n in range(len(io.plan.roles[role])) if io.variants.get(f"{role}/{n}") == variant]
        count = len(io.plan.roles[role])
        order = self.job.rng("attackers", role, 0).permutation(count)
        return sorted(f"{role}/{number}" for number in order[: round(self.share * count)])

    def is_attacker(self, io: IO) -> bool:
        """Return whether this worker attacks."""
        return io.worker.id in self.attackers(io)

    def falsify(self, io: IO) -> None:
        """Replace its update, if it attacks."""
        if self.attack == "label_flip" or not self.is_attacker(io):
            return
        plain = decompress_update(self.update)
        rng = self.job.rng("attack", io.worker.id, self.task.version)
        if self.attack == "alie":
            delta = self.inconspicuous(io)
        elif self.attack == "sign_flip":
            delta = {name: -self.scale * part for name, part in plain.delta.items()}
        else:
            noise = {name: rng.normal(0.0, self.scale, tuple(part.shape)) for name, part in plain.delta.items()}
            delta = {name: torch.from_numpy(noise[name]).to(part.dtype) for name, part in plain.delta.items()}
        sent: Any = delta if self.job.compression is None else compress_delta(delta, self.job.compression, {})
        self.update = replace(plain, delta=sent)

    def inconspicuous(self, io: IO) -> State:
        """Return what all attackers of a round send: mean - z std of the updates that they would send if they did not.

        They know each other's data. It costs no virtual time: each of them trains for itself.
        """
        found, ids = _AGREED.setdefault(self.task, {}), tuple(self.attackers(io))
        if ids not in found:
            updates = [self.honest(io, id_) for id_ in ids]
            z = most_hidden(len(io.plan.roles[io.worker.role]), len(ids))
            found[ids] = {}
            for name, part in updates[0].items():
                rows = torch.stack([update[name] for update in updates]).to(torch.float64)
                found[ids][name] = (rows.mean(0) - z * rows.std(0, correction=0)).to(part.dtype)
        return found[ids]

    def honest(self, io: IO, id_: str) -> State:
        """Return the update that a worker would send without an attack, if it had trained in each round."""
        settings = self.settings.at_round(self.task.version, self.job.rounds, self.schedule, self.rate_decay)
        update = self.job.train(self.dataset(io, id_), self.task, {"trained": self.task.version}, settings)
        return decompress_update(update).delta


def most_hidden(clients: int, attackers: int) -> float:
    """Return the deviation, in standard deviations, up to which an attack has a majority on its side (ALIE).

    To be nearer to the mean than the attackers are, an honest update must be among those of the `supporters` that they
    lack for a majority (Baruch, Baruch and Goldberg, NeurIPS 2019, Algorithm 3).
    """
    supporters, honest = clients // 2 + 1 - attackers, clients - attackers
    return NormalDist().inv_cdf((honest - supporters) / honest)


_AGREED: WeakKeyDictionary[TrainingTask, dict[tuple[str, ...], State]] = WeakKeyDictionary()
"""What attackers agreed on for a task, by their ids, so that one of them computes it in each process."""
