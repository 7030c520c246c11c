"""The command line in this process: torch takes longer to load than all else."""

from __future__ import annotations

import io
from contextlib import chdir, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ssim.cli import main
from ssim.files.own_modules import forget_modules

if TYPE_CHECKING:
    from pathlib import Path


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def assert_refused(ended: Ended, told: str) -> None:
    """Check that a command ended as bad input ends: told in lines, without a traceback."""
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2


def ssim(folder: Path, *words: str) -> Ended:
    """Run a command in a folder."""
    forget_modules()  # as a process of its own would
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(list(words))
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())
