"""The files that runs need from the folder of their experiment, bundled to be sent to another machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ssim.jobs.job import AnyRun

_NAME = "ssim-bundle-"

_TURN = Lock()
"""Held by the thread of a worker that unpacks."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files of an experiment.

    Attributes:
        folder: The folder of the experiment on the machine that sends them.
        inside: The path of that folder from the one that holds all files.
        files: The path of each file from there, and its content.
        name: The name of its folder where it is unpacked: the same for the same content.
    """

    folder: Path
    inside: Path
    files: tuple[tuple[Path, bytes], ...]
    name: str

    def unpack(self, below: Path) -> Path:
        """Return the folder of the experiment on this machine; its modules are found there from now on.

        Args:
            below: The folder to unpack in, which several processes may do at once.
        """
        below = below.resolve()  # as the folder of an experiment is
        target = below / self.name
        with _TURN:
            if not target.exists():
                self._unpack(target)
            others = [path for path in below.glob(f"{_NAME}*") if path != target]
            _forget_modules(others)
            here = target / self.inside
            _look_for_modules(here, self.folder, others)
        return here

    def _unpack(self, target: Path) -> None:
        fresh = Path(tempfile.mkdtemp(dir=target.parent))
        (fresh / self.inside).mkdir(parents=True, exist_ok=True)
        for path, content in self.files:
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            (fresh / path).write_bytes(content)
        try:
            fresh.rename(target)
        except OSError:
            shutil.rmtree(fresh)
            if not target.exists():  # else another process was quicker
                raise


def bundle_of(runs: Sequence[AnyRun]) -> Bundle:
    """Return the files of runs of one job."""
    folder = runs[0].point.folder
    paths = sorted({path for run in runs for path in run.files()})
    root = Path(os.path.commonpath([folder, *paths]))
    inside = folder.relative_to(root)
    files = tuple((path.relative_to(root), path.read_bytes()) for path in paths)
    content = [str(inside), *((str(path), hashlib.sha256(content).hexdigest()) for path, content in files)]
    return Bundle(folder, inside, files, _NAME + hashlib.sha256(repr(content).encode()).hexdigest()[:16])


def _forget_modules(folders: Iterable[Path]) -> None:
    """Forget modules from these folders, so that they are imported again: a worker may outlive an edit of them."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and any(Path(file).is_relative_to(folder) for folder in folders):
            del sys.modules[name]


def _look_for_modules(here: Path, instead_of: Path, others: Sequence[Path]) -> None:
    """Put a folder on the path of modules: last, or where another folder stands that it is to be instead of."""
    path = [entry for entry in sys.path if not any(Path(entry).is_relative_to(other) for other in others)]
    if str(here) not in path:
        stands = [at for at, entry in enumerate(path) if Path(entry).resolve() == instead_of]
        path.insert(stands[0] if stands else len(path), str(here))
    sys.path[:] = path
