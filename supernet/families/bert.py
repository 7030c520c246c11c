"""A BERT classifier (Devlin et al., NAACL 2019) as an ordinary module.

Parameters have the names of the original PyTorch port, which DynaBERT's checkpoints (Hou et al., NeurIPS 2020,
github.com/huawei-noah/Pretrained-Language-Model, `DynaBERT/transformers/modeling_bert.py`) and most others have.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

LAYER_NORM_EPS = 1e-12
"""As in the original."""
DROPOUT = 0.1
INITIAL_STD = 0.02


class Bert(nn.Module):
    """Embeddings, layers of a transformer, and a classifier on the first token.

    Takes tokens, shape (batch, tokens), and gives logits, shape (batch, classes).

    Args:
        vocabulary: The number of tokens.
        positions: The tokens of the longest text.
        layers: The number of layers.
        hidden: The features of a token.
        heads: The attention heads of each layer.
        ffn: The neurons of each layer's feed-forward part.
        classes: The classes.
    """

    def __init__(
        self, vocabulary: int, positions: int, layers: int, hidden: int, heads: int, ffn: int, classes: int
    ) -> None:
        super().__init__()
        self.embeddings = Embeddings(vocabulary, positions, hidden)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(hidden, heads, ffn) for _ in range(layers))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(hidden, hidden)})
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(hidden, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INITIAL_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor | None = None, types: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the logits of a batch of texts.

        Args:
            ids: The tokens, int64, shape (batch, tokens).
            mask: 1 for a token, 0 for padding after them, same shape; all are tokens by default.
            types: The sentence of each token, 0 or 1, int64, same shape; 0 by default.
        """
        x = self.embeddings(ids, types)
        seen = None if mask is None else mask[:, None, None, :].bool()  # (batch, heads, queries, keys)
        for layer in cast("nn.ModuleList", self.encoder["layer"]):
            x = layer(x, seen)
        first = torch.tanh(self.pooler["dense"](x[:, 0]))
        logits: torch.Tensor = self.classifier(self.dropout(first))
        return logits


class Embeddings(nn.Module):
    """The normalised sum of the embeddings of token, position and sentence."""

    def __init__(self, vocabulary: int, positions: int, hidden: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, hidden)
        self.position_embeddings = nn.Embedding(positions, hidden)
        self.token_type_embeddings = nn.Embedding(2, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, LAYER_NORM_EPS)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, ids: torch.Tensor, types: torch.Tensor | None) -> torch.Tensor:
        """Return features of shape (batch, tokens, hidden)."""
        places = torch.arange(ids.shape[1], device=ids.device)
        sentence = self.token_type_embeddings(torch.zeros_like(ids) if types is None else types)
        total = self.word_embeddings(ids) + self.position_embeddings(places) + sentence
        features: torch.Tensor = self.dropout(self.LayerNorm(total))
        return features


class Layer(nn.Module):
    """One layer: attention and a feed-forward part, each added to its input and normalised afterwards."""

    def __init__(self, hidden: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": Attention(hidden, heads), "output": ResidualLinear(hidden, hidden)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, ffn)})
        self.output = ResidualLinear(ffn, hidden)

    def forward(self, x: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        """Return features of shape (batch, tokens, hidden)."""
        x = self.attention["output"](self.attention["self"](x, seen), x)
        result: torch.Tensor = self.output(functional.gelu(self.intermediate["dense"](x)), x)
        return result


class Attention(nn.Module):
    """Scaled dot-product attention; the number of heads follows from the query layer's output."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.head_size = hidden // heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)

    def forward(self, x: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        """Return the attended values of each token, shape (batch, tokens, heads x head size)."""
        query, key, value = (
            layer(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )  # each (batch, heads, tokens, head size)
        dropout = DROPOUT if self.training else 0.0
        result = functional.scaled_dot_product_attention(query, key, value, seen, dropout)
        return result.transpose(1, 2).flatten(2)


class ResidualLinear(nn.Module):
    """A linear layer whose output is added to a residual, and normalised."""

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, LAYER_NORM_EPS)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Return features of shape (batch, tokens, hidden)."""
        result: torch.Tensor = self.LayerNorm(self.dropout(self.dense(x)) + residual)
        return result
