"""Smaller updates. What compression leaves out is remembered and sent with the next one (error feedback).

Stich, Cordonnier and Jaggi (NeurIPS 2018) for the largest k; Seide et al. (Interspeech 2014) for few bits, both with
error feedback. Bytes are those of the tensors that are sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from sim.base.parameters import Parameters, Share

if TYPE_CHECKING:
    from federated.averaging import State, Update

_LEVELS = 127  # of 8 bits with a sign


class Packed(Protocol):
    """A tensor in fewer bytes."""

    def unpacked(self) -> torch.Tensor:
        """Return the tensor."""
        ...


class Compression(Protocol):
    """A frozen dataclass whose fields are its parameters; YAML names it by `kind`."""

    def packed(self, part: torch.Tensor) -> Packed:
        """Return a tensor in fewer bytes."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """Some elements of a tensor, the others being 0: indices int32, values of the tensor's type."""

    shape: tuple[int, ...]
    indices: torch.Tensor
    values: torch.Tensor

    def unpacked(self) -> torch.Tensor:
        """Return the tensor."""
        whole = torch.zeros(math.prod(self.shape), dtype=self.values.dtype)
        whole[self.indices.long()] = self.values
        return whole.reshape(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Coarse:
    """A tensor in steps of one size: levels int8, scale a tensor of one number."""

    levels: torch.Tensor
    scale: torch.Tensor

    def unpacked(self) -> torch.Tensor:
        """Return the tensor."""
        return self.levels.to(self.scale.dtype) * self.scale


@dataclass(frozen=True, slots=True)
class TopK(Parameters):
    """Of each parameter only the elements that changed most.

    Attributes:
        share: How many of them, at least one.
    """

    share: Share = 0.1

    def packed(self, part: torch.Tensor) -> Sparse:
        """Return the largest elements."""
        flat = part.flatten()
        count = max(1, round(self.share * len(flat)))
        indices = flat.abs().topk(count).indices.sort().values
        return Sparse(tuple(part.shape), indices.to(torch.int32), flat[indices])


@dataclass(frozen=True, slots=True)
class EightBit:
    """Each element in 8 bits: the nearest of 255 steps, up to the largest of the parameter."""

    def packed(self, part: torch.Tensor) -> Coarse:
        """Return the levels."""
        scale = (part.abs().max() / _LEVELS).clamp(min=torch.finfo(part.dtype).tiny)
        return Coarse((part / scale).round().clamp(-_LEVELS, _LEVELS).to(torch.int8), scale.reshape(1))


def compressed(change: State, compression: Compression, memory: dict[str, Any]) -> dict[str, Packed]:
    """Return a change in fewer bytes; what is left out of it stays in the memory, and is added to the next."""
    rest: State = memory.get("residual", {})
    packed: dict[str, Packed] = {}
    left: State = dict(rest)
    for name, part in change.items():
        place = tuple(map(slice, part.shape))
        held = rest.get(name)
        shape = part.shape if held is None else torch.Size(map(max, held.shape, part.shape))
        grown = torch.zeros(shape, dtype=part.dtype)
        if held is not None:
            grown[tuple(map(slice, held.shape))] = held
        wanted = part + grown[place]
        packed[name] = compression.packed(wanted)
        grown[place] = wanted - packed[name].unpacked()
        left[name] = grown
    memory["residual"] = left
    return packed


def opened(update: Update) -> Update:
    """Return an update with all its tensors unpacked."""
    parts: dict[str, Any] = dict(update.change)
    if all(isinstance(part, torch.Tensor) for part in parts.values()):
        return update
    whole = {name: part if isinstance(part, torch.Tensor) else part.unpacked() for name, part in parts.items()}
    return replace(update, change=whole)


SHORT_NAMES = {
    "eight_bit": "federated.compression:EightBit",
    "top_k": "federated.compression:TopK",
}
"""What short names in YAML stand for."""
