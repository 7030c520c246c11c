"""Clients that train at once as one computation: `torch.func.vmap` over their weights and batches.

It pays for small networks, whose operations cost more to start than to do (docs/performance.md). Matrix products of
several clients are summed in another order, so weights agree with those of other trainings to rounding only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from federated.local import LocalResult, batches, is_random, optimizer_of
from federated.state import padded, prefix_slice
from sim.base.errors import SpecError, TrainingError
from supernet.calls import logits_of
from supernet.training.scoring import IGNORED, flat
from topology.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from federated.averaging import Update
    from federated.job import FederatedJob
    from federated.local import LocalSettings
    from federated.pool import LocalTraining
    from federated.state import State
    from supernet.data.source import ExampleSet
    from supernet.network import Supernet

_AT_ONCE = 128
"""Clients in one computation, at most: each has weights and activations of its own in memory."""


class VectorizedClients:
    """Clients that begin to train while others wait for the end of their training are trained with them.

    Those train together that have the same model, settings and number of examples; one that is alone trains as usual.

    Args:
        network: The network that they train.

    Raises:
        SpecError: It has batch norm or dropout.
    """

    def __init__(self, network: Supernet) -> None:
        random = [path for path, module in network.model.named_modules() if is_random(module)]
        for what, paths in (("batch norm", list(network.assembly.norms)), ("dropout", random)):
            if paths:
                raise SpecError(
                    "vectorized", f"not possible with {what}", paths[0], "remove it, or take another network"
                )
        self._waiting: list[_Begun] = []

    def begin(self, job: FederatedJob, training: LocalTraining) -> Deferred:
        """Begin a training.

        Raises:
            SpecError: The client has a loss of its own.
        """
        if training.settings.objective is not None:
            where, hint = f"{training.dataset.id}, vectorized", "remove it, or train with cross entropy"
            raise SpecError(where, "not possible with a loss or a training step of a client's own", "", hint)
        begun = _Begun(self, job, training)
        self._waiting.append(begun)
        return begun

    def train_with(self, wanted: _Begun) -> None:
        """Do a training, and all others that can be done with it."""
        others = [begun for begun in self._waiting if begun.alike == wanted.alike and begun is not wanted]
        together = [wanted, *others][:_AT_ONCE]
        self._waiting = [begun for begun in self._waiting if begun not in together]
        if len(together) == 1:
            wanted.update = wanted.job.train(*wanted.training)
            return
        updates = wanted.job.train_together([begun.training for begun in together])
        for begun, update in zip(together, updates, strict=True):
            begun.update = update


class _Begun(Deferred):
    """A training that was begun.

    Attributes:
        update: Its result; None before it is done.
        alike: Equal for trainings that can be done together.
    """

    def __init__(self, clients: VectorizedClients, job: FederatedJob, training: LocalTraining) -> None:
        self._clients, self.job, self.training = clients, job, training
        self.update: Update | None = None
        self.alike = id(training.task), training.settings, len(job.context.shards[training.dataset.id])

    def result(self) -> Update:
        """Do it, if it is not done, and return its update.

        Raises:
            SsimError: It failed.
        """
        while self.update is None:
            self._clients.train_with(self)
        return self.update


def check_vectorized(loss: str, is_simulated: bool, is_personal: bool) -> None:
    """Check that clients of a training can be trained as one computation.

    Raises:
        SpecError: They can't.
    """
    problem = ""
    if not is_simulated:
        problem = "only possible in virtual time, engine: sim"
    elif is_personal:
        problem = "not possible with parameters that stay with each client"
    elif loss != "cross_entropy":
        problem = "only possible with cross entropy"
    if problem:
        raise SpecError("vectorized", problem, "", "remove it")


def train_together(
    network: Supernet,
    subnet: str,
    parameters: Mapping[str, nn.Parameter],
    shards: Sequence[ExampleSet],
    settings: LocalSettings,
    proximal_mu: float,
    corrections: Sequence[State],
    seeds: Sequence[tuple[int, ...]],
) -> list[LocalResult]:
    """Train clients that have equal numbers of examples, and return what came of each.

    Args:
        network: Holds the initial weights, in training mode; they are not changed.
        subnet: Subnet id.
        parameters: Parameters that the subnet uses.
        shards: Training examples of each client.
        settings: Hyperparameters.
        proximal_mu: Strength of the pull towards the initial weights.
        corrections: Of each client, what is added to its gradients, on prefix slices.
        seeds: Of each client, a seed and numbers that decide the order of its examples.

    Raises:
        DataError: A label is not one of the classes.
        TrainingError: There are too few examples, or the network can't be vectorized.
    """
    model = network.actuate(subnet)
    names = {id(parameter): name for name, parameter in parameters.items()}
    used = {
        key: (names[id(base)], tensor.detach())
        for key, tensor in (*model.named_parameters(), *model.named_buffers())
        if id(base := tensor if tensor._base is None else tensor._base) in names  # noqa: SLF001 - what it is a view of
    }
    initial = {key: tensor for key, (_, tensor) in used.items()}
    weights = {key: tensor.repeat(len(shards), *[1] * tensor.dim()) for key, tensor in initial.items()}
    correction = {
        key: torch.stack([prefix_slice(padded(own.get(name), tensor), tensor.shape) for own in corrections])
        for key, (name, tensor) in used.items()
        if any(name in own for own in corrections)
    }
    optimizer = optimizer_of(weights, initial, settings, proximal_mu, correction)

    def loss(own: State, inputs: tuple[torch.Tensor, ...], labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = logits_of(functional_call(model, own, inputs))
        each = functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none")
        return each.sum() / (labels != IGNORED).sum(), each.detach()

    gradients_of = vmap(grad(loss, has_aux=True))
    losses, counts, steps, classes, unused = list[torch.Tensor](), list[torch.Tensor](), 0, 0, set[str]()
    for epoch in range(settings.epochs):
        drawn = (batches(shard, settings.batch, (*own, epoch)) for shard, own in zip(shards, seeds, strict=True))
        for parts in zip(*drawn, strict=True):
            inputs = tuple(map(torch.stack, zip(*(part.inputs for part in parts), strict=True)))
            labels = torch.stack([part.labels for part in parts])
            if not classes:
                logits, own_labels = flat(logits_of(model(*parts[0].inputs)), parts[0].labels)
                classes, mean = logits.shape[1], functional.cross_entropy(logits, own_labels)
                whole = [parameters[name] for name, _ in used.values()]
                computed = torch.autograd.grad(mean, whole, allow_unused=True)
                found = cast("tuple[torch.Tensor | None, ...]", computed)  # torch's annotation omits None
                unused = {key for key, gradient in zip(used, found, strict=True) if gradient is None}
            counted = labels != IGNORED
            known = labels[counted] if labels.dim() > 2 else labels.flatten()  # noqa: PLR2004 - clients, examples
            flat(torch.empty(()).expand(len(known), classes), known)  # only labels of classes that exist
            try:
                gradients, each = gradients_of(weights, inputs, labels)
            except RuntimeError as error:
                reason, hint = str(error).splitlines()[0], "remove `vectorized`"
                raise TrainingError("vectorized", "not possible with this network", reason, hint) from error
            optimizer.apply([None if key in unused else gradients[key] for key in used])
            if not epoch:
                losses.append(each)
                counts.append(counted.flatten(1).sum(1))
            steps += 1
    if not losses:
        raise TrainingError("local training", "no batch has two examples", "1 examples", "more examples")
    deltas = {name: torch.sub(weights[key], initial[key]).unbind() for key, (name, _) in used.items()}
    first, counts_of = torch.cat(losses, 1).to(torch.float64), torch.stack(counts).sum(0)
    return [
        LocalResult(
            {name: deltas[name][number] for name in parameters},
            float(own.sum() / count),
            float(own @ own / count),
            steps * settings.rate,
            steps,
        )
        for number, (own, count) in enumerate(zip(first, counts_of, strict=True))
    ]
