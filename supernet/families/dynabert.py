"""DynaBERT (Hou et al., NeurIPS 2020): BERT of variable depth and width, and a small one of the shape of MiniLM-L6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from sim.base.errors import SpecError
from sim.base.parameters import PositiveInt, check_parameters
from supernet.families.bert import Bert
from supernet.ratios import RatioDecoder
from supernet.space import SubnetSpace

if TYPE_CHECKING:
    from supernet.structure import Structure

WIDTHS = (0.25, 0.5, 0.75, 1.0)
"""The shares of active heads and neurons, the same in all layers."""


@dataclass(frozen=True, slots=True)
class DynaBert:
    """DynaBERT on BERT-base, 12 layers of 12 heads: 3 depths times 4 widths.

    The depth is the number of active layers; evenly spaced ones are dropped. The width is the share of active heads and
    feed-forward neurons.

    Attributes:
        classes: The classes; 3 for MNLI.
        vocabulary: The number of tokens.
        positions: The tokens of the longest text.
        layers: The number of layers.
        hidden: The features of a token.
        heads: The attention heads of each layer.
        ffn: The neurons of each layer's feed-forward part.
        depths: The allowed numbers of active layers, ending with all.
    """

    classes: PositiveInt = 3
    vocabulary: PositiveInt = 30522
    positions: PositiveInt = 512
    layers: PositiveInt = 12
    hidden: PositiveInt = 768
    heads: PositiveInt = 12
    ffn: PositiveInt = 3072
    depths: tuple[int, ...] = (6, 9, 12)

    name: ClassVar[str] = "dynabert"
    default_size: ClassVar[int] = 128

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.hidden % self.heads:
            hint = f"a multiple of {self.heads}, the heads"
            raise SpecError(f"{self.name}.hidden", "not divisible by the heads", str(self.hidden), hint)
        if not self.depths or self.depths[-1] != self.layers or min(self.depths) < 1:
            hint = f"ending with {self.layers}"
            raise SpecError(f"{self.name}.depths", "do not end with all layers", str(self.depths), hint)

    @property
    def space(self) -> SubnetSpace:
        """A depth and a width."""
        return SubnetSpace(self.name, (self.depths,), (WIDTHS,), ())

    def network(self, width_divisor: int = 1) -> torch.nn.Module:
        """Return the largest subnet with random weights."""
        head = max(2, self.hidden // self.heads // width_divisor)
        ffn = max(2 * self.heads, self.ffn // width_divisor)
        positions = max(8, self.positions // width_divisor)
        vocabulary = max(8, self.vocabulary // width_divisor)
        return Bert(vocabulary, positions, self.layers, head * self.heads, self.heads, ffn, self.classes)

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return texts, int64, shape (batch, size); of 4 tokens by default."""
        return (torch.zeros(batch, size or 4, dtype=torch.long),)

    def decoder(self, structure: Structure) -> RatioDecoder:
        """Return the decoder: evenly spaced layers are dropped, and a share of heads and neurons is active."""
        return RatioDecoder(structure, ("every_other",), uniform=True, widths=(1.0,))

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return the names in checkpoints of classifiers, and the early names of norms.

        Examples:
            >>> DynaBert().original_names("pooler.dense.bias")
            ('bert.pooler.dense.bias', 'pooler.dense.bias')
        """
        early = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return tuple(dict.fromkeys(f"{prefix}{known}" for prefix in ("bert.", "") for known in (name, early)))


@dataclass(frozen=True, slots=True)
class DynaBertSmall(DynaBert):
    """The same on a network of the shape of MiniLM-L6 (Wang et al., NeurIPS 2020), 6 layers of 12 heads."""

    classes: PositiveInt = 2
    layers: PositiveInt = 6
    hidden: PositiveInt = 384
    ffn: PositiveInt = 1536
    depths: tuple[int, ...] = (2, 4, 6)

    name: ClassVar[str] = "dynabert_small"
