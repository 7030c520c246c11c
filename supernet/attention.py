"""`nn.MultiheadAttention` on its first heads: the module of torch computes only with as many as its width has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from supernet.operators import ChannelSlice, WeightSlice, shallow_copy

if TYPE_CHECKING:
    from supernet.structure import ActiveConfig

_PARTS = ("q", "k", "v")


def supports_heads(module: nn.MultiheadAttention) -> bool:
    """Return whether the heads of an attention module can be sliced: unless it adds keys and values of its own."""
    return type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn


class SlicedAttention(nn.MultiheadAttention):
    """Attention with fewer heads of the same size, on views of the weights of another one.

    Attributes:
        all_heads: The number of heads of the whole module; masks may have one part for each.
    """

    all_heads: int

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what `nn.MultiheadAttention` returns; arguments are its own."""
        is_batched, is_first = query.dim() == 3, self.batch_first  # noqa: PLR2004 - batch, length, width
        inputs = [
            x if is_batched and is_first else x.transpose(0, 1) if is_batched else x[None] for x in (query, key, value)
        ]
        q, k, v = (
            functional.linear(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))
            .unflatten(-1, (self.num_heads, self.head_dim))
            .transpose(1, 2)
            for name, x in zip(_PARTS, inputs, strict=True)
        )
        scores = q @ k.transpose(-2, -1) / self.head_dim**0.5
        for mask in (self._per_head(attn_mask), None if key_padding_mask is None else self._padding(key_padding_mask)):
            if mask is not None:
                scores = scores.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        weights = functional.dropout(scores.softmax(-1), self.dropout, self.training)
        result = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        result = result if is_batched and is_first else result.transpose(0, 1) if is_batched else result[0]
        if not need_weights:
            return result, None
        weights = weights.mean(1) if average_attn_weights else weights
        return result, weights if is_batched else weights[0]

    def _per_head(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """Return a mask of attention, shape (length, keys) or (batch x heads, length, keys), for the heads in use."""
        if mask is None or mask.dim() == 2:  # noqa: PLR2004 - the same for all heads
            return mask
        by_head: torch.Tensor = mask.unflatten(0, (-1, self.all_heads))
        return by_head[:, : self.num_heads]

    def _padding(self, mask: torch.Tensor) -> torch.Tensor:
        """Return a mask of keys, shape (batch, keys) or (keys), for all heads and queries."""
        return mask[:, None, None] if mask.dim() == 2 else mask  # noqa: PLR2004 - a batch of them


@dataclass(frozen=True, slots=True)
class HeadSlice:
    """Slices an `nn.MultiheadAttention` to its first heads.

    Attributes:
        heads: The heads.
    """

    heads: ChannelSlice

    def view(self, module: nn.MultiheadAttention, config: ActiveConfig) -> nn.Module:
        """Return the module on its first heads; the module itself where all are in use."""
        heads = self.heads.size(config)
        if heads == self.heads.count:
            return module
        width, size = module.embed_dim, heads * module.head_dim
        features = ChannelSlice(width, self.heads.group, self.heads.units)
        attributes: dict[str, Any] = {
            "num_heads": heads,
            "all_heads": module.num_heads,
            "_qkv_same_embed_dim": False,  # keeps `nn.TransformerEncoderLayer` from a kernel for whole modules
            "_modules": {"out_proj": WeightSlice(features, ChannelSlice(width)).view(module.out_proj, config)},
        }
        tensors: dict[str, torch.Tensor | None] = {}
        for index, name in enumerate(_PARTS):
            rows = slice(index * width, index * width + size)
            own = getattr(module, f"{name}_proj_weight")  # None if the three are one
            tensors[f"{name}_weight"] = module.in_proj_weight[rows] if own is None else own[:size]
            bias: torch.Tensor | None = getattr(module, "in_proj_bias")  # noqa: B009 - its annotation leaves out None
            tensors[f"{name}_bias"] = None if bias is None else bias[rows]
        view = shallow_copy(module, attributes, {**tensors, "in_proj_weight": None, "in_proj_bias": None})
        view.__class__ = SlicedAttention
        vars(view)["sliced_parameters"] = tuple(tensors)
        return view
