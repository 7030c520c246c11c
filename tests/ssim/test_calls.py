"""The way of a file through `ssim`: how often a reader who follows the calls enters each file.

*Following the calls* of `ssim run FILE` in the order in which they happen, a reader reads each function once, where it
is called first. A file is *entered* when one of its functions is read, called from another file, and the file is not on
the way there already (a call back into it is no new entry). What one function, with the helpers of its own file,
asks of another file is one entry, however many calls it takes.

Not counted are files that call no other file of `ssim/` (leaves: they are looked up, not followed), and what Python
calls by itself: modules while they are imported, `__str__` and the like.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import lru_cache
from inspect import CO_NEWLOCALS, CO_OPTIMIZED
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ssim
from tests.ssim import in_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

ROOT = f"{Path(ssim.__file__).resolve().parent}/"
MOST = 2
FILE = """\
schema: experiment/1
name: small
seed: 7
trace: {kind: poisson, mean_qps: 100, duration_s: 1, slo_ms: 36}
cluster: {workers: 2}
latency_table: ofa-resnet50-rtx2080ti
policies: [slackfit, infaas]
"""


def file_of(code: CodeType) -> str:
    """Return the file of a function of `ssim/` that somebody calls by name, or ""."""
    is_function = code.co_flags & CO_OPTIMIZED and code.co_flags & CO_NEWLOCALS
    is_called = is_function and not (code.co_name.startswith("__") and code.co_name != "__init__")
    return code.co_filename.removeprefix(ROOT) if is_called and code.co_filename.startswith(ROOT) else ""


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the calls that led to a frame, innermost first, up to a module that is being imported."""
    while frame is not None and frame.f_code.co_name != "<module>":
        if frame.f_code.co_filename.startswith(ROOT):
            yield frame
        frame = frame.f_back


class Walk:
    """What a profile function notes of calls between files: see above."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
        self.callers: set[str] = set()
        self._read: set[CodeType] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        file = file_of(frame.f_code) if event == "call" else ""
        way = [(file_of(outer.f_code), outer.f_code.co_qualname) for outer in outwards(frame.f_back)] if file else []
        if not way or not all(name for name, _ in way):
            return
        caller = way[0][0]
        if caller != file:
            self.callers.add(caller)
        is_read, is_back = frame.f_code in self._read, any(name == file for name, _ in way)
        self._read.add(frame.f_code)
        if not is_read and not is_back:
            depth = next((n for n, (name, _) in enumerate(way) if name != caller), len(way))
            self.entries[file][way[depth - 1]] = None

    def counted(self) -> dict[str, list[str]]:
        """Return from where each file is entered, leaves left out."""
        found = {file: [f"{caller}: {function}" for caller, function in ways] for file, ways in self.entries.items()}
        return {file: ways for file, ways in found.items() if file in self.callers}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("walked")
    (folder / "small.yaml").write_text(FILE)
    own = [module for name, module in sys.modules.items() if name.startswith("ssim.")]
    for each in (value for module in own for value in vars(module).values()):
        if isinstance(each, type(lru_cache(file_of))):  # what an earlier test left there would not be called here
            each.cache_clear()
    walk, before = Walk(), sys.getprofile()
    sys.setprofile(walk)
    try:
        ended = in_process.ssim(folder, "run", "small.yaml", "--jobs", "1", "--no-figures")
    finally:
        sys.setprofile(before)
    assert ended.returncode == 0, ended.stderr
    return walk.counted()


def test_no_file_is_entered_more_than_twice(walked: dict[str, list[str]]) -> None:
    assert {file: ways for file, ways in walked.items() if len(ways) > MOST} == {}


def test_the_way_leads_through_all_rooms(walked: dict[str, list[str]]) -> None:
    assert {
        "commands/run.py",
        "commands/present/job.py",
        "jobs/reading.py",
        "jobs/job.py",
        "jobs/experiment/kind.py",
        "execution/runner.py",
        "jobs/experiment/run.py",
        "results/record.py",
        "commands/present/experiment.py",
    } <= set(walked)
