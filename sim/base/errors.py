"""The hierarchy of errors.

    SsimError
    ├── SpecError        an experiment file, an option or a parameter is invalid
    ├── DataError        a trace, a table or a stored result breaks its own rules
    │   ├── NoArrivalsError  a trace has no query
    │   └── TooLongError     a trace has more queries than fit into memory
    ├── BatchSizeError   a batch is larger than the largest measured one     (also a LookupError)
    ├── PolicyError      a policy failed, or its decision cannot be carried out
    ├── TrainingError    training failed: the loss is not finite
    ├── ProgramError     a role program failed or made an invalid request
    ├── DeadlineError    a role program's deadline for a message passed      (also a TimeoutError)
    ├── ClosedError      a role program waits for a message without remaining senders
    ├── StoreError       results cannot be written or read: folder in use, disk full
    ├── ServingError     a live run can't go on: no worker starts, or the load generator is gone
    └── FetchError       a data set cannot be fetched: host unreachable, transfer interrupted

A message reads `location: problem (value); hint`. The parts are the exception's `args`, as they
are, and the sentence is made in `__str__`: SimPy and pickle rebuild exceptions by `type(error)(*error.args)`.
"""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


_LONGEST = 1000

PACKAGES = ("sim", "policies", "supernet", "profiler", "topology", "federated", "serving", "figures", "ssim")
"""The top-level packages of the toolkit."""


class SsimError(Exception):
    """Base of all errors of this toolkit, with a message for the user.

    Attributes:
        location: The file and line, the array and row, or the parameter.
        problem: What is wrong.
        value: The offending value as text, or "".
        hint: How to correct it, or "".
    """

    exit_code: ClassVar[int] = 1
    """Exit code of a command: 2 for bad input, 1 for a failure."""

    def __init__(self, location: str, problem: str, value: str = "", hint: str = "") -> None:
        super().__init__(location, problem, value, hint)
        self.args = (location, problem, value, hint)  # OSError, a base of DeadlineError, keeps two of them
        self.location = location
        self.problem = problem
        self.value = value
        self.hint = hint

    def __str__(self) -> str:
        value = f" ({self.value})" if self.value else ""
        hint = f"; {self.hint}" if self.hint else ""
        return one_line(f"{self.location}: {self.problem}{value}{hint}")


class SpecError(SsimError, ValueError):
    """An experiment file, an option or a parameter is invalid."""

    exit_code = 2


class DataError(SsimError, ValueError):
    """A trace, a table or a stored result breaks its own rules."""

    exit_code = 2


class NoArrivalsError(DataError):
    """A trace has no query."""


class TooLongError(DataError):
    """A trace has more queries than fit into memory."""


class BatchSizeError(SsimError, LookupError):
    """A batch is larger than the largest measured one."""

    exit_code = 2


class PolicyError(SsimError):
    """A policy failed, or its decision cannot be carried out."""


class TrainingError(SsimError):
    """Training failed: the loss is not finite."""


class ProgramError(SsimError):
    """A role program failed, or made an invalid request to its port or engine."""


class DeadlineError(SsimError, TimeoutError):
    """A role program's deadline for a message passed."""


class ClosedError(SsimError):
    """A role program waits for a message, and no sender remains."""


class StoreError(SsimError):
    """Results cannot be written or read: the folder is in use, or the disk is full."""


class ServingError(SsimError):
    """A live run cannot go on: no worker starts, or the load generator is gone."""


class FetchError(SsimError):
    """A data set cannot be fetched: the host is unreachable, or the transfer was interrupted."""


def one_line(text: str) -> str:
    """Return a text on one line, without unprintable characters, truncated if it is very long."""
    printable = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]} ..."


_ALIKE = 0.7
"""How alike two names must be, so that one is taken for the other mistyped and not for something else."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name.

    Examples:
        >>> did_you_mean("slakfit", ["slackfit", "clipper"])
        "did you mean 'slackfit'?"
        >>> did_you_mean("x", ["slackfit", "clipper"])
        'known: clipper, slackfit'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE)
    close = close or [one for one in names if name and one.startswith(name)]
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def raised(error: BaseException, situation: str = "") -> tuple[str, str]:
    """Return the problem and value of a message about an exception that a user's code raised.

    Args:
        error: The exception, with its traceback.
        situation: What the code was called with, if that helps to find the cause.

    Returns:
        Such as `("raised ZeroDivisionError: division by zero", "mine.py:6, in decide; slack 12.3 ms, queue 4")`.
    """
    text, kind, place = str(error), type(error).__name__, user_frame(error)
    if isinstance(error, SyntaxError) and error.filename:  # it was raised by Python: no frame of it is the user's
        text, place = error.msg, f"{Path(error.filename).name}:{error.lineno}"
    what = text if isinstance(error, SsimError) else f"raised {kind}: {text}" if text else f"raised {kind}"
    return what, "; ".join(filter(None, (place, situation)))


def user_frame(error: BaseException) -> str:
    """Return the innermost frame of a user's own code in an exception's traceback, or "" if there is none.

    Frames of the toolkit, of Python and of installed packages are passed over.

    Returns:
        Such as `"mine.py:6, in decide"`.
    """
    frames = ((frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__))
    own = [_place(code, line) for code, line in frames if _is_users(code)]
    return own[-1] if own else ""


def user_function(function: object) -> str:
    """Return where a function or method of a user's own code begins, or "" if it is none."""
    code = getattr(function, "__code__", None)
    return _place(code, code.co_firstlineno) if isinstance(code, CodeType) and _is_users(code) else ""


def _place(code: CodeType, line: int) -> str:
    return f"{Path(code.co_filename).name}:{line}, in {code.co_name}"


def _is_users(code: CodeType) -> bool:
    path, others = Path(code.co_filename), (*toolkit_folders(), *installed_folders())
    return path.suffix == ".py" and not any(path.resolve().is_relative_to(folder) for folder in others)


@lru_cache(maxsize=1)
def toolkit_folders() -> tuple[Path, ...]:
    """Return the folders of the toolkit's own code."""
    root = Path(__file__).resolve().parents[2]
    return tuple(root / package for package in PACKAGES)


@lru_cache(maxsize=1)
def installed_folders() -> tuple[Path, ...]:
    """Return the folders of Python's code and of installed packages."""
    return tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
