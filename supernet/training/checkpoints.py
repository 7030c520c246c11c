"""What is done of a training, in a file that appears whole or not at all, and from which it goes on to the same weights.

There is no state of a random generator in it: all chance is a function of the seed, the phase and the step.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sim.errors import DataError
from sim.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

SCHEMA = "training/1"
"""What a file says that it is."""

_ANEW = "delete it to train from the beginning"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What is done of a training.

    Attributes:
        identity: What decides the training: it goes on only from a checkpoint of its own.
        phase: The phase (index) that it is in.
        step: How many steps of this phase are done.
        weights: The state dict of the shared network.
        optimizer: That of the optimizer.
        teacher: That of the frozen teacher, if there is one.
        losses: The loss of each step so far, float64, shape (steps,).
    """

    identity: str
    phase: int
    step: int
    weights: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    teacher: Mapping[str, Any] | None
    losses: torch.Tensor

    def write(self, path: Path) -> None:
        """Write the checkpoint; whoever looks sees the old file or this one.

        Raises:
            StoreError: The disk is full, or the file can't be written.
        """
        content = {name: getattr(self, name) for name in _KINDS}
        with whole_file(path) as unfinished:
            torch.save({"schema": SCHEMA, **content}, unfinished)

    @classmethod
    def read(cls, path: Path, identity: str) -> Checkpoint:
        """Return a checkpoint.

        Args:
            path: The file.
            identity: That of the training that is to go on.

        Raises:
            DataError: The file is damaged, or no checkpoint, or that of another training.
        """
        content = load(path, SCHEMA, _KINDS, _ANEW)
        if content["identity"] != identity:
            raise DataError(str(path), "is a checkpoint of another training", content["identity"], f"{identity}; {_ANEW}")
        return cls(**content)


_KINDS: dict[str, Any] = {
    "identity": str,
    "phase": int,
    "step": int,
    "weights": dict,
    "optimizer": dict,
    "teacher": dict | None,
    "losses": torch.Tensor,
}


def load(path: Path, schema: str, kinds: Mapping[str, Any], mend: str) -> dict[str, Any]:
    """Return what a file of torch's holds, without the schema that it says it is of.

    Args:
        path: The file.
        schema: What it should say that it is.
        kinds: The type of each entry that it should have.
        mend: What messages say is to be done.

    Raises:
        DataError: The file can't be read, is damaged, or is another.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(str(path), "can't be read", error.strerror or str(error), mend) from error
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise DataError(str(path), "is damaged, or no file of ours", str(error).splitlines()[0], mend) from error
    if not isinstance(content, dict) or content.get("schema") != schema:
        found = str(content.get("schema", "")) if isinstance(content, dict) else type(content).__name__
        raise DataError(str(path), f"is no {schema}", found, mend)
    for name, kind in kinds.items():
        if not isinstance(content.get(name, _Absent), kind):
            raise DataError(str(path), f"has no {name} as it should", str(content.get(name))[:60], mend)
    return {name: content[name] for name in kinds}


class _Absent:
    """Stands for an entry that is not there."""


def fill(module: nn.Module, state: Mapping[str, Any], where: str) -> None:
    """Put a state dict into a module.

    Raises:
        DataError: It is that of another layout; names the first tensor that does not fit.
    """
    own = module.state_dict()
    for name in sorted({*own, *state}):
        if name not in state or name not in own:
            what = "lacks a tensor" if name not in state else "has a tensor that the network has not"
            raise DataError(where, what, name, f"a {type(module).__name__} of this layout")
        expected, found = (getattr(part[name], "shape", None) for part in (own, state))
        if expected != found:
            raise DataError(f"{where}, {name}", "has another shape", str(_listed(found)), str(_listed(expected)))
    module.load_state_dict(dict(state))


def _listed(shape: Any) -> Any:
    return None if shape is None else tuple(shape)
