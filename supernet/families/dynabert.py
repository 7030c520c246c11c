"""DynaBERT (Hou et al., NeurIPS 2020): BERT of variable depth and width, and a small one of the shape of MiniLM-L6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from sim.base.errors import SpecError
from sim.base.parameters import PositiveInt, check_parameters
from supernet.families.bert import Bert
from supernet.ratios import Ratios
from supernet.space import SubNetSpace

if TYPE_CHECKING:
    from supernet.structure import Structure

WIDTHS = (0.25, 0.5, 0.75, 1.0)
"""The shares of heads and neurons that run; one share goes for all layers."""


@dataclass(frozen=True, slots=True)
class DynaBert:
    """DynaBERT on BERT-base, 12 layers of 12 heads: 3 depths times 4 widths.

    The depth is how many layers run; they are dropped evenly spaced. The width cuts heads and feed-forward neurons.

    Attributes:
        classes: The classes; 3 for MNLI.
        vocabulary: The tokens that there are.
        positions: The tokens of the longest text.
        layers: All layers.
        hidden: The features of a token.
        heads: Of attention, in each layer.
        ffn: The neurons of each layer's feed-forward part.
        depths: How many layers may run, all of them last.
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
    usual_size: ClassVar[int] = 128

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.hidden % self.heads:
            raise SpecError(f"{self.name}.hidden", "is no multiple of the heads", str(self.hidden), str(self.heads))
        if not self.depths or self.depths[-1] != self.layers or min(self.depths) < 1:
            raise SpecError(f"{self.name}.depths", "do not end with all layers", str(self.depths), str(self.layers))

    @property
    def space(self) -> SubNetSpace:
        """A depth and a width."""
        return SubNetSpace(self.name, (self.depths,), (WIDTHS,), ())

    def network(self, narrower: int = 1) -> torch.nn.Module:
        """Return the largest subnet with random weights."""
        head = max(2, self.hidden // self.heads // narrower)
        ffn = max(2 * self.heads, self.ffn // narrower)
        positions = max(8, self.positions // narrower)
        vocabulary = max(8, self.vocabulary // narrower)
        return Bert(vocabulary, positions, self.layers, head * self.heads, self.heads, ffn, self.classes)

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return texts of so many tokens, int64, shape (batch, size); of 4, unless told otherwise."""
        return (torch.zeros(batch, size or 4, dtype=torch.long),)

    def rule(self, structure: Structure) -> Ratios:
        """Return the rule: evenly spaced layers are dropped, a share of heads and neurons is used."""
        return Ratios(structure, ("every_other",), uniform=True, widths=(1.0,))

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return the names in checkpoints of classifiers, and those that norms had in early ones.

        Example:
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
