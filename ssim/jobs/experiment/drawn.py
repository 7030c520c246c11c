"""Whether the figures of an experiment show what is stored now; told without matplotlib, which takes half a second."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import figures
from sim.base.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssim.results.store import Store


def note_drawn(store: Store, paths: Sequence[Path]) -> None:
    """Note that these files in the folder of figures show what is stored now.

    Raises:
        StoreError: It can't be written.
    """
    with whole_file(_file(store)) as path:
        path.write_text(_stamp(store, [drawing.name for drawing in paths]), encoding="utf-8")


def drawn(store: Store) -> list[Path]:
    """Return the files of the figures if they show what is stored now, else nothing."""
    stamp = _file(store)
    if not stamp.exists():
        return []
    said = stamp.read_text(encoding="utf-8")
    names = said.splitlines()[1:]
    files = [store.folder / "figures" / name for name in names]
    return files if said == _stamp(store, names) and all(file.exists() for file in files) else []


def _file(store: Store) -> Path:
    return store.folder / ".drawn"


def _stamp(store: Store, names: Sequence[str]) -> str:
    """Return what decides the pictures (the runs that are stored, what of them, and the code that draws), and names."""
    found = [(run, store.manifest(run["id"])) for run in store.index()["runs"]]
    runs = [(run, sorted(manifest["outputs"])) for run, manifest in found if manifest is not None]
    code = sorted(Path(figures.__file__ or "").parent.glob("*.py"))
    digest = hashlib.sha256(json.dumps(runs, sort_keys=True).encode())
    for path in code:
        digest.update(path.read_bytes())
    return "\n".join([digest.hexdigest(), *names])
