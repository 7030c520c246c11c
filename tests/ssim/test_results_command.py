"""`ssim results`: what it says of experiments that are whole, broken off, failed and damaged."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from ssim.results.store import Store
from tests.ssim.test_run_command import SMALL, complete_runs, ssim, started

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def test_a_whole_experiment_and_what_is_taken_from_it(folder: Path) -> None:
    assert ssim(folder, "run", "small.yaml", "--no-figures").returncode == 0
    ended = ssim(folder, "results", "status", "small")
    assert ended.returncode == 0
    assert "small: 6 of 6 runs stored; no process is writing" in ended.stdout
    gone, damaged, *_ = sorted(complete_runs(folder))
    shutil.rmtree(folder / "results/small" / gone)
    (folder / "results/small" / damaged / "batches.parquet").write_bytes(b"")
    ended = ssim(folder, "results", "status", "small")
    assert ended.returncode == 1
    assert "small: 4 of 6 runs stored" in ended.stdout
    assert "run the same command again to finish it" in ended.stdout
    listed = ssim(folder, "results", "ls").stdout.split()
    assert listed[listed.index("small") :][1:4] == ["6", "4", "0"]
    assert ssim(folder, "run", "small.yaml", "--no-figures").returncode == 0
    assert ssim(folder, "results", "status", "small").returncode == 0


def test_a_run_that_failed_is_named_with_its_reason_until_it_succeeds(folder: Path) -> None:
    policy = "from dataclasses import dataclass\nfrom sim import Dispatch\n@dataclass(frozen=True)\nclass Odd:\n"
    policy += "    def decide(self, view):\n"
    (folder / "odd.py").write_text(policy + "        return Dispatch(0 if view.now_ns < 10**9 else 99, 1)\n")
    (folder / "small.yaml").write_text(SMALL.replace("- infaas", "- 'odd:Odd'"))
    assert ssim(folder, "run", "small.yaml", "--no-figures").returncode == 1
    ended = ssim(folder, "results", "status", "small")
    assert ended.returncode == 1
    assert "4 of 6 runs stored" in ended.stdout
    assert "failed: odd:Odd, seed 7" in ended.stdout
    assert "unknown subnet (99; odd.py:5, in decide; slack " in ended.stdout
    (folder / "odd.py").write_text(policy + "        return Dispatch(0, 1)\n")
    assert ssim(folder, "run", "small.yaml", "--no-figures").returncode == 0
    assert ssim(folder, "results", "status", "small").returncode == 0


def test_who_writes_is_told_while_it_does_and_not_once_it_was_killed(folder: Path) -> None:
    process = started(folder)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (folder / "results/small/job.json").exists():
        time.sleep(0.02)
    said = ssim(folder, "results", "status", "small")
    assert said.returncode == 1
    assert f"process {process.pid} is writing" in said.stdout
    process.kill()
    process.communicate()
    assert "no process is writing" in ssim(folder, "results", "status", "small").stdout


def test_a_process_that_has_ended_does_not_write(tmp_path: Path) -> None:
    store = Store(tmp_path / "x")
    assert store.writer() is None
    with store.writing():
        assert store.writer() == os.getpid()
    assert store.writer() is None


def test_the_number_of_a_killed_process_that_another_has_now_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(str(os.getpid()))
    assert Store(tmp_path).writer() is None


def test_a_damaged_index_does_not_hide_the_others(folder: Path) -> None:
    assert ssim(folder, "run", "small.yaml", "--no-figures").returncode == 0
    (folder / "results/other").mkdir()
    (folder / "results/other/job.json").write_text("{")
    ended = ssim(folder, "results", "ls")
    assert ended.returncode == 0, ended.stderr
    assert "small" in ended.stdout
    assert "damaged" in ended.stdout


def test_nothing_stored_is_told(folder: Path) -> None:
    assert "nothing is stored" in ssim(folder, "results", "ls").stdout
    ended = ssim(folder, "results", "status", "small")
    assert ended.returncode == 1
    assert "no stored results of this name ('small')" in ended.stderr
