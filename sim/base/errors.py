"""What can go wrong, as one tree.

    SsimError
    ├── SpecError        an experiment file, an option or a parameter asks for something that does not exist or fit
    ├── DataError        a trace, a table or a stored result breaks its own rules
    │   ├── NoArrivalsError  a trace has no query
    │   └── TooLongError     a trace has more queries than can be held at once
    ├── BatchSizeError   a batch is larger than any that was measured     (also a LookupError)
    ├── PolicyError      a policy failed, or its decision cannot be carried out
    ├── TrainingError    training can't go on: the loss is no number
    ├── ProgramError     a role program failed, or asked for something that it can't have
    ├── DeadlineError    a role program waited for a message, and none came in time      (also a TimeoutError)
    ├── ClosedError      a role program waits for a message, and nobody is left to send one
    ├── StoreError       results cannot be written or read: folder in use, disk full
    └── FetchError       a data set cannot be fetched: host out of reach, transfer broken off

A message reads `location: problem (value); hint`. The parts are the exception's `args`, as they
are, and the sentence is made in `__str__`: SimPy and pickle rebuild exceptions by `type(error)(*error.args)`.
"""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


_LONGEST = 1000

PACKAGES = ("sim", "policies", "supernet", "profiler", "topology", "federated", "figures", "ssim")
"""The top-level packages of the toolkit."""


class SsimError(Exception):
    """Something this toolkit was asked to do that it can't, in words for the person who asked.

    Attributes:
        location: The file and line, the array and row, or the parameter.
        problem: What is wrong.
        value: The offending value as text, or "".
        hint: How to correct it, or "".
    """

    exit_code: ClassVar[int] = 1
    """What a command ends with: 2 for bad input, 1 for a failure."""

    def __init__(self, location: str, problem: str, value: str = "", hint: str = "") -> None:
        super().__init__(location, problem, value, hint)
        self.location = location
        self.problem = problem
        self.value = value
        self.hint = hint

    def __str__(self) -> str:
        value = f" ({self.value})" if self.value else ""
        hint = f"; {self.hint}" if self.hint else ""
        return one_line(f"{self.location}: {self.problem}{value}{hint}")


class SpecError(SsimError, ValueError):
    """An experiment file, an option or a parameter asks for something that does not exist or does not fit."""

    exit_code = 2


class DataError(SsimError, ValueError):
    """A trace, a table or a stored result breaks its own rules."""

    exit_code = 2


class NoArrivalsError(DataError):
    """A trace has no query."""


class TooLongError(DataError):
    """A trace has more queries than can be held at once."""


class BatchSizeError(SsimError, LookupError):
    """A batch is larger than any that was measured."""

    exit_code = 2


class PolicyError(SsimError):
    """A policy failed, or its decision cannot be carried out."""


class TrainingError(SsimError):
    """Training can't go on: the loss is no finite number."""


class ProgramError(SsimError):
    """A role program failed, or asked its port or engine for something that it can't have."""


class DeadlineError(SsimError, TimeoutError):
    """A role program waited for a message, and none came in time."""


class ClosedError(SsimError):
    """A role program waits for a message, and nobody is left who could send one."""


class StoreError(SsimError):
    """Results cannot be written or read: the folder is in use, or the disk is full."""


class FetchError(SsimError):
    """A data set cannot be fetched: the host is out of reach, or the transfer breaks off."""


def one_line(text: str) -> str:
    """Return a text with line breaks and what can't be printed as blanks, cut where it gets too long to read."""
    shown = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} ..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for a name that is not among the known ones.

    Example:
        >>> did_you_mean("slakfit", ["slackfit", "clipper"])
        "did you mean 'slackfit'?"
        >>> did_you_mean("x", ["slackfit", "clipper"])
        'known: clipper, slackfit'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def raised(error: BaseException, situation: str = "") -> tuple[str, str]:
    """Return the problem and value of a message about an exception that a user's code raised.

    Args:
        error: The exception, with its traceback.
        situation: What the code was called with, if that helps to find the cause.

    Returns:
        Such as `("raised ZeroDivisionError: division by zero", "mine.py:6, in decide; slack 12.3 ms, queue 4")`.
    """
    text, kind = str(error), type(error).__name__
    what = text if isinstance(error, SsimError) else f"raised {kind}: {text}" if text else f"raised {kind}"
    return what, "; ".join(filter(None, (user_frame(error), situation)))


def user_frame(error: BaseException) -> str:
    """Return the innermost frame of a user's own code in an exception's traceback, or "" if there is none.

    Frames of the toolkit, of Python and of installed packages are passed over.

    Returns:
        Such as `"mine.py:6, in decide"`.
    """
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        if path.endswith(".py") and not any(Path(path).resolve().is_relative_to(place) for place in _others_places()):
            found = f"{Path(path).name}:{line}, in {frame.f_code.co_name}"
    return found


@lru_cache(maxsize=1)
def _others_places() -> tuple[Path, ...]:
    """Return the folders of code that is not the user's: the toolkit, Python, installed packages."""
    root = Path(__file__).resolve().parents[2]
    installed = (Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return (*(root / package for package in PACKAGES), *installed)
