"""Errors in a user's own code name its file and line."""

from __future__ import annotations

import configparser
import json
import pickle
import runpy
from pathlib import Path

import pytest

from sim.base.errors import PACKAGES, SsimError, raised, user_frame

OWN = """\
import json


def outer():
    inner()


def inner():
    json.loads("{")


{CALL}
"""


def failure_of(path: Path, call: str) -> Exception:
    path.write_text(OWN.replace("{CALL}", call))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of any type
        runpy.run_path(str(path))
    return caught.value


def without_tests(error: Exception) -> Exception:
    """Return an error without the frames of this file, which is a user's as well as any."""
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)


def test_the_innermost_own_frame_is_named(tmp_path: Path) -> None:
    error = failure_of(tmp_path / "mine.py", "outer()")
    assert user_frame(error) == "mine.py:9, in inner"


def test_python_toolkit_and_installed_packages_are_passed_over() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    assert user_frame(without_tests(caught.value)) == ""
    assert user_frame(ValueError("never raised")) == ""


def test_the_message_has_error_place_and_situation(tmp_path: Path) -> None:
    error = failure_of(tmp_path / "zero.py", "1 / 0")
    assert raised(error, "queue 4") == (
        "raised ZeroDivisionError: division by zero",
        "zero.py:12, in <module>; queue 4",
    )
    assert raised(AssertionError()) == ("raised AssertionError", "")


def test_the_packages_are_those_that_are_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    found = setup["options.packages.find"]["include"].split()
    assert [name for name in found if not name.endswith(".*")] == list(PACKAGES)


@pytest.mark.parametrize("kind", [kind for kind in SsimError.__subclasses__() if kind.__module__ == "sim.base.errors"])
def test_an_error_is_rebuilt_from_its_args(kind: type[SsimError]) -> None:
    """SimPy, pickle and the runner do so; `OSError`, a base of one of them, keeps two of four."""
    error = kind("here", "is wrong", "5", "4")
    rebuilt = type(error)(*error.args)
    assert str(rebuilt) == str(error) == "here: is wrong (5); 4"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes
