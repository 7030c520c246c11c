"""The arguments of a network: an example that is given once, or the batches of a data loader."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sim.base.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from torch import nn


class Call(NamedTuple):
    """The arguments of a call of a network."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def call_of(inputs: Any) -> Call:
    """Return a call with an example: a mapping gives arguments by name, a tuple or list several, all else is one."""
    if isinstance(inputs, Mapping):
        return Call((), dict(inputs))
    return Call(tuple(inputs), {}) if type(inputs) in {tuple, list} else Call((inputs,), {})


def call_of_batch(model: nn.Module, batch: Any) -> Call:
    """Return a call with a batch.

    A list, as `torch.utils.data.DataLoader` makes it, may end with labels: of a network that takes n arguments, the
    first n are passed. A tuple or a mapping is passed whole.

    Raises:
        SpecError: A list does not say which of its parts are arguments, or an argument by name is unknown.
    """
    parameters = inspect.signature(model.forward).parameters
    if isinstance(batch, Mapping):
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        for name in batch:
            if name not in parameters and not takes_any:
                raise SpecError("batch", "unknown argument of the network", repr(name), did_you_mean(name, parameters))
        return Call((), dict(batch))
    if type(batch) is not list:
        return call_of(batch)
    positional = [p for p in parameters.values() if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    required = sum(parameter.default is parameter.empty for parameter in positional)
    takes_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values())
    if len(batch) > max(required, 1) and (takes_any or len(positional) > max(required, 1)):
        value = f"a list of {len(batch)}; forward{inspect.signature(model.forward)}"
        raise SpecError("batch", "which parts are arguments of the network is ambiguous", value, "a tuple or a dict")
    return Call(tuple(batch[: max(required, 1)]), {})


def logits_of(result: Any) -> torch.Tensor:
    """Return the logits in a result: the result itself, or `logits` of an output of transformers.

    Raises:
        SpecError: It is neither.
    """
    found = getattr(result, "logits", result)
    if not isinstance(found, torch.Tensor):
        hint = "a tensor of logits, or an output with an attribute `logits`"
        raise SpecError("network", "returns no logits", type(result).__name__, hint)
    return found


def check_batches(batches: Any) -> None:
    """Check that batches are not a single one.

    Raises:
        SpecError: They are a tensor or a mapping.
    """
    if isinstance(batches, (torch.Tensor, Mapping)):
        raise SpecError("batches", "a single batch", type(batches).__name__, "a list of batches, or a DataLoader")
