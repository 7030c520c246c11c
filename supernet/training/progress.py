"""What is done of a training, in a file, from which it goes on to the same weights.

There is no state of a random generator in it: all chance is a function of the seed, the phase and the step.
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
"""What a file says that it is."""

_ANEW = "delete it to train from the beginning"


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """What is done of a training.

    Attributes:
        identity: What decides the training, which goes on from nothing but its own progress.
        phase: The phase (index) that it is in.
        step: How many steps of this phase are done.
        weights: The state dict of the shared network.
        optimizer: That of the optimizer.
        teacher: That of the frozen teacher; empty if there is none.
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
        """Write it to a file; whoever looks sees the old file or this one.

        Raises:
            StoreError: The disk is full, or the file can't be written.
        """
        write(path, {"schema": SCHEMA, **{name: getattr(self, name) for name in _KINDS}})

    @classmethod
    def read(cls, path: Path, identity: str) -> Progress:
        """Return what is in a file.

        Args:
            path: The file.
            identity: That of the training that is to go on.

        Raises:
            DataError: The file is damaged, or another, or of another training.
        """
        content = read(path)
        if content.get("schema") != SCHEMA:
            raise DataError(str(path), f"is no {SCHEMA}", repr(content.get("schema", "no schema")), _ANEW)
        for name, kind in _KINDS.items():
            if not isinstance(content.get(name), kind):
                raise DataError(str(path), "is damaged", f"{name} is a {type(content.get(name)).__name__}", _ANEW)
        if content["identity"] != identity:
            raise DataError(str(path), "is of another training", content["identity"], f"{identity}; {_ANEW}")
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
