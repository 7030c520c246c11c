"""Compression of updates with error feedback: the part that is left out of an update is added to the next one.

Stich, Cordonnier and Jaggi (NeurIPS 2018) for the largest k; Seide et al. (Interspeech 2014) for few bits. Bytes on
channels are those of the tensors that are sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from federated.state import Memory, State, padded, prefix_slice
from sim.base.parameters import Parameters, Share

if TYPE_CHECKING:
    from federated.averaging import Update

_LEVELS = 127  # of a signed 8-bit integer


class CompressedTensor(Protocol):
    """A tensor in fewer bytes."""

    def decompress(self) -> torch.Tensor:
        """Return the tensor."""
        ...


class Compression(Protocol):
    """A frozen dataclass whose fields are its parameters; YAML selects it by `kind`."""

    def compress(self, tensor: torch.Tensor) -> CompressedTensor:
        """Return a tensor in fewer bytes."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SparseTensor:
    """Some elements of a tensor, the others being 0: indices int32, values of the tensor's data type."""

    shape: tuple[int, ...]
    indices: torch.Tensor
    values: torch.Tensor

    def decompress(self) -> torch.Tensor:
        """Return the tensor."""
        flat = torch.zeros(math.prod(self.shape), dtype=self.values.dtype)
        flat[self.indices.long()] = self.values
        return flat.reshape(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """A uniformly quantized tensor: levels int8, and the step size as a tensor of shape (1,)."""

    levels: torch.Tensor
    scale: torch.Tensor

    def decompress(self) -> torch.Tensor:
        """Return the tensor."""
        return self.levels.to(self.scale.dtype) * self.scale


@dataclass(frozen=True)
class TopK(Parameters):
    """The elements of largest magnitude of each parameter.

    Attributes:
        share: Share of the elements that are sent, at least one.
    """

    share: Share = 0.1

    def compress(self, tensor: torch.Tensor) -> SparseTensor:
        """Return the largest elements."""
        flat = tensor.flatten()
        count = max(1, round(self.share * len(flat)))
        indices = flat.abs().topk(count).indices.sort().values
        return SparseTensor(tuple(tensor.shape), indices.to(torch.int32), flat[indices])


@dataclass(frozen=True)
class EightBit:
    """Each element rounded to one of 255 uniform levels up to the largest magnitude of the parameter."""

    def compress(self, tensor: torch.Tensor) -> QuantizedTensor:
        """Return the levels."""
        scale = (tensor.abs().max() / _LEVELS).clamp(min=torch.finfo(tensor.dtype).tiny)
        return QuantizedTensor((tensor / scale).round().clamp(-_LEVELS, _LEVELS).to(torch.int8), scale.reshape(1))


def compress_delta(delta: State, compression: Compression, memory: Memory) -> dict[str, CompressedTensor]:
    """Return a delta in fewer bytes; the compression error is kept in the memory and added to the next delta."""
    residual: State = dict(memory.get("residual", {}))
    compressed: dict[str, CompressedTensor] = {}
    for name, part in delta.items():
        residual[name] = padded(residual.get(name), part)
        error = prefix_slice(residual[name], part.shape)
        wanted = part + error
        compressed[name] = compression.compress(wanted)
        error.copy_(wanted - compressed[name].decompress())
    memory["residual"] = residual
    return compressed


def decompress_update(update: Update) -> Update:
    """Return an update with all its tensors decompressed."""
    parts: dict[str, Any] = dict(update.delta)
    if all(isinstance(part, torch.Tensor) for part in parts.values()):
        return update
    plain = {name: part if isinstance(part, torch.Tensor) else part.decompress() for name, part in parts.items()}
    return replace(update, delta=plain)


SHORT_NAMES = {
    "eight_bit": "federated.compression:EightBit",
    "top_k": "federated.compression:TopK",
}
"""Short names in YAML."""
