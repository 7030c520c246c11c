"""Values that are made once, by threads and by processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sim.base.errors import StoreError
from ssim.jobs.experiment.kept import Kept, mapped

if TYPE_CHECKING:
    from pathlib import Path


def test_threads_that_ask_at_once_get_what_one_of_them_made() -> None:
    kept: Kept[str, object] = Kept(2)
    made: list[object] = []
    gate = threading.Barrier(8)

    def make() -> object:
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    def ask() -> None:
        gate.wait()
        got.append(kept.get("a", make))

    got: list[object] = []
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert got == made * 8


def test_the_last_used_are_kept_and_what_failed_is_tried_again() -> None:
    kept: Kept[str, int] = Kept(2)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 // 0)
    assert kept.get("a", lambda: 1) == 1
    assert kept.get("b", lambda: 2) == 2
    assert kept.get("a", lambda: 3) == 1, "used again"
    assert kept.get("c", lambda: 4) == 4
    assert kept.get("a", lambda: 5) == 1
    assert kept.get("b", lambda: 6) == 6, "c took its place"


CHILD = """
import sys, time
from pathlib import Path
import numpy as np
from ssim.jobs.experiment.kept import mapped

def make():
    (Path(sys.argv[1]).parent / f"making-{sys.argv[2]}").touch()
    time.sleep(float(sys.argv[3]))
    return np.arange(1000)

print(int(mapped(Path(sys.argv[1]), make).sum()))
"""


def child(path: Path, name: str, slow_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(path), name, str(slow_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_one_process_makes_it_and_the_others_map_it(tmp_path: Path) -> None:
    children = [child(tmp_path / "x.npy", str(number), 0.5) for number in range(3)]
    assert [one.communicate(timeout=60)[0].strip() for one in children] == ["499500"] * 3
    assert len(list(tmp_path.glob("making-*"))) == 1
    array = mapped(tmp_path / "x.npy", lambda: np.zeros(1, np.int64))
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_who_waits_for_a_process_that_is_killed_makes_it(tmp_path: Path) -> None:
    first = child(tmp_path / "x.npy", "first", 600)
    deadline = time.monotonic() + 60
    while not (tmp_path / "making-first").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    second = child(tmp_path / "x.npy", "second", 0)
    time.sleep(0.3)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert second.communicate(timeout=60)[0].strip() == "499500"


def test_an_error_while_it_is_made_is_not_one_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        mapped(tmp_path / "x.npy", lambda: np.fromfile("/nowhere"))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="x"):
        mapped(tmp_path / "gone" / "x.npy", lambda: np.zeros(1, np.int64))
