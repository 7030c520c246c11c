"""The progress of a training in a file, from which the training resumes to the same weights.

It contains no state of a random generator: all random numbers are a function of the seed, the phase and the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sim.base.errors import DataError
from supernet.checkpoint import read, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = "training-progress/1"
"""The format of the file."""

_HINT = "delete it to train from the beginning"


@dataclass(frozen=True, slots=True, eq=False)
class TrainingCheckpoint:
    """The progress of a training.

    Attributes:
        identity: The training that it belongs to; another training does not resume from it.
        phase: The current phase (index).
        step: The completed steps of this phase.
        weights: The state dict of the shared network.
        optimizer: The state dict of the optimizer.
        teacher: The state dict of the frozen teacher; empty if there is none.
        losses: The loss of each step so far, float64, shape (steps,).
    """

    identity: str
    phase: int
    step: int
    weights: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    teacher: Mapping[str, Any]
    losses: torch.Tensor

    def write(self, path: Path) -> None:
        """Write the file; a reader sees either the old file or this one.

        Raises:
            StoreError: The disk is full, or the file can't be written.
        """
        write(path, {"schema": SCHEMA, **{name: getattr(self, name) for name in _KINDS}})

    @classmethod
    def read(cls, path: Path, identity: str) -> TrainingCheckpoint:
        """Return the progress in a file.

        Args:
            path: The file.
            identity: Of the training to resume.

        Raises:
            DataError: The file is damaged, or belongs to another training.
        """
        content = read(path)
        if content.get("schema") != SCHEMA:
            raise DataError(str(path), f"not of schema {SCHEMA}", repr(content.get("schema", "no schema")), _HINT)
        for name, kind in _KINDS.items():
            if not isinstance(content.get(name), kind):
                raise DataError(str(path), "damaged", f"{name} is a {type(content.get(name)).__name__}", _HINT)
        if content["identity"] != identity:
            raise DataError(str(path), "belongs to another training", content["identity"], f"{identity}; {_HINT}")
        return cls(**{name: content[name] for name in _KINDS})


_KINDS: dict[str, type] = {
    "identity": str,
    "phase": int,
    "step": int,
    "weights": dict,
    "optimizer": dict,
    "teacher": dict,
    "losses": torch.Tensor,
}
