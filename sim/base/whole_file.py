"""Atomic file writes, and errors of the file system as `StoreError`."""

from __future__ import annotations

import errno
import fcntl
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
    """Give a temporary path beside the target, which replaces the target at the end.

    Readers see the old file or the complete new one. After an error the temporary file is removed.

    Args:
        path: The target; its folder is created if missing.

    Raises:
        StoreError: The disk is full, or the target can't be written.
    """
    # The dot and the suffix keep it out of searches for files of the target's suffix.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield unfinished
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 as a whole; errors are those of `whole_file`."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file, which need not exist; several threads and processes may do so at once.

    Args:
        path: The file.
        line: The line, without a newline.

    Raises:
        StoreError: The disk is full, or the file can't be written; nothing half written stays.
    """
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            is_cut = end and os.pread(file.fileno(), 1, end - 1) != b"\n"  # its writer was killed
            text = (b"\n" if is_cut else b"") + line + b"\n"
            if file.write(text) < len(text):
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def translate_os_errors(location: Path) -> Generator[None]:
    """Translate an error of the file system while writing to a `StoreError`.

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
