"""Logits held against labels: of each example, or of each token of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.errors import DataError

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""The label of a token that does not count, such as padding; the one that `torch.nn.functional.cross_entropy` skips."""


def flat(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels without the dimension of tokens, and without ignored tokens.

    Args:
        logits: Shape (batch, classes), or (batch, tokens, classes).
        labels: Shape (batch), or (batch, tokens).

    Raises:
        DataError: The shapes do not fit each other, or a label is not one of the classes.
    """
    if logits.shape[:-1] != labels.shape:
        value = f"labels of shape {tuple(labels.shape)}, logits of shape {tuple(logits.shape)}"
        raise DataError("data", "labels do not fit the network's result", value, "logits for each label")
    if labels.dim() > 1:
        counts = labels != IGNORED
        logits, labels = logits[counts], labels[counts]
    if len(labels):
        lowest, highest = (int(label) for label in labels.aminmax())
        if lowest < 0 or highest >= logits.shape[1]:
            hint = f"0 to {logits.shape[1] - 1}, the classes of the network"
            raise DataError("data", "label out of range", str(lowest if lowest < 0 else highest), hint)
    return logits, labels
