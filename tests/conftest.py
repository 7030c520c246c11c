"""How the tests run.

Hypothesis draws the same cases in CI every time, and never fails for being slow. A shell starts what runs in the
background with Ctrl-C ignored, and what the tests start would inherit that: here it is heard again.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from ssim.files.own_modules import forget_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

signal.signal(signal.SIGINT, signal.default_int_handler)

KEPT_MODULES: set[str] = set()
"""Modules that are known to come from no test: to look at thousands after each test would take a tenth of its time."""


@pytest.fixture(autouse=True)
def modules_of_other_tests_are_forgotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget what a test imported from its folder: the next one may have a module of the same name."""
    yield
    forget_modules()
    base = str(tmp_path_factory.getbasetemp())
    sys.path[:] = [entry for entry in sys.path if not entry.startswith(base)]
    for name in sys.modules.keys() - KEPT_MODULES:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(base):
            del sys.modules[name]
        elif file:
            KEPT_MODULES.add(name)
