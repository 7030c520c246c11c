"""Whether the figures of an experiment show what is stored now; told without matplotlib, which takes half a second."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.base.whole_file import translate_os_errors, write_text
from ssim.jobs.identity import code_of, hash_of, own_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssim.results.store import Store


def note_drawn(store: Store, paths: Sequence[Path]) -> None:
    """Note that these files in the folder of figures show what is stored now.

    Raises:
        StoreError: It can't be written.
    """
    lines = [_runs_digest(store), _code_digest(), *(drawing.name for drawing in paths)]
    write_text(_file(store), "\n".join(lines))


def drawn(store: Store) -> list[Path]:
    """Return the files of the figures if they show what is stored now, drawn by this code; else nothing."""
    runs, code, files = _noted(store)
    is_current = runs == _runs_digest(store) and code == _code_digest() and all(file.exists() for file in files)
    return files if is_current else []


def remove_stale(store: Store) -> None:
    """Delete the figures that show other runs than those that are stored now.

    Raises:
        StoreError: A file can't be deleted.
    """
    runs, _, files = _noted(store)
    if files and runs != _runs_digest(store):
        with translate_os_errors(store.folder):
            for path in (*files, _file(store)):
                path.unlink(missing_ok=True)


def _file(store: Store) -> Path:
    return store.folder / ".drawn"


def _noted(store: Store) -> tuple[str, str, list[Path]]:
    """Return the runs and the code that the figures were drawn from, as digests, and the files of the figures."""
    try:
        runs, code, *names = _file(store).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return "", "", []
    return runs, code, [store.folder / "figures" / Path(name).name for name in names]


def _runs_digest(store: Store) -> str:
    return hash_of([(run, sorted(manifest["outputs"])) for run, manifest in store.runs()])


def _code_digest() -> str:
    return own_hash(code_of("figures"))
