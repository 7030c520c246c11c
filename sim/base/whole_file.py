"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sim.base.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Give a path beside the target to write to; what was written takes the target's place at the end.

    Whoever looks sees the old file or the whole new one. After an error nothing is left behind.

    Args:
        path: The target; its folder is made if need be.

    Raises:
        StoreError: The disk is full, or the target can't be written.
    """
    # A dot and an ending of its own: no search by suffix takes it for the real one.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield unfinished
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def translate_os_errors(location: Path) -> Generator[None]:
    """Tell an error of the file system while writing as a `StoreError`.

    Raises:
        StoreError: The disk is full, or the file can't be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        problem = "disk full" if full else "can't be written"
        hint = "free some space; finished runs are kept" if full else ""
        raise StoreError(str(location), problem, error.strerror or str(error), hint) from error
