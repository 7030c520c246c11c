"""Which jobs are stored in a folder of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.errors import StoreError
from ssim.results.store import INDEX, Store

if TYPE_CHECKING:
    from pathlib import Path


def stored_names(folder: Path) -> list[str]:
    """Return the names of the jobs that are stored in a folder of results, in order."""
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob(INDEX))


def listed(folder: Path) -> str:
    """Return the names of the stored jobs as text, for a message."""
    names = ", ".join(stored_names(folder))
    return f"stored in {folder}: {names}" if names else f"nothing is stored in {folder}; `ssim run FILE` stores results"


def stored(folder: Path, name: str) -> Store:
    """Return the stored results of an experiment.

    Raises:
        StoreError: Nothing is stored under this name; lists the stored jobs.
    """
    if not (folder / name).is_dir():
        raise StoreError(str(folder), "no stored results of this name", repr(name), listed(folder))
    return Store(folder / name)
