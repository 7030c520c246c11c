"""What all trainings have in common: who they are, and where they are stored."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sim.base.whole_file import translate_os_errors
from ssim.results.store import Store

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class StoredTraining(ABC):
    """A training with one seed, stored in `<results>/<name>/seed<seed>-<id>`.

    Attributes:
        plan: What the file asks for.
        seed: The seed of this repeat.
        results: Where results go.
    """

    plan: Any
    seed: int
    results: Path

    @cached_property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that decides the weights."""

    @cached_property
    def id(self) -> str:
        """The first 8 hex digits of the SHA-256 of the identity."""
        text = json.dumps(self.identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def folder(self) -> Path:
        """Where the run is stored."""
        name: str = self.plan.spec.name
        return self.results / name / f"seed{self.seed}-{self.id}"

    @property
    def store(self) -> Store:
        """The run's folder, to be held for writing."""
        return Store(self.folder)

    @property
    def is_trained(self) -> bool:
        """Whether it is trained to the end."""
        return (self.folder / "manifest.json").is_file()

    def forget(self) -> None:
        """Delete all that is stored of the run but its lock, and what was drawn of it.

        Raises:
            StoreError: A file can't be deleted.
        """
        with translate_os_errors(self.folder):
            for path in self.folder.iterdir():
                if path.is_file() and path.name != ".lock":
                    path.unlink()
