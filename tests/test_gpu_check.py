"""The check of a GPU is rehearsed on the CPU: all steps, on a machine with little installed, and too little time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the profiler needs the extra [torch]")

from benchmarks import gpu_check
from benchmarks.gpu_steps import VARIANTS, Check, check_all, prepared, summary
from sim.base.parquet import read_parquet
from sim.tables.files import read_table

ROOT = Path(__file__).parents[1]

ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}

BARE = """
import importlib.machinery, importlib.metadata, sys
from benchmarks import gpu_check

def needs(name, found):
    if name not in found:
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            if "extra ==" not in line:
                try:
                    needs(importlib.metadata.distribution(line.split(";")[0].split(" ")[0].split(">")[0].split("=")[0]
                          .split("<")[0].split("!")[0].split("[")[0].strip()).name, found)
                except importlib.metadata.PackageNotFoundError:
                    pass
    return found

there = set()
for package in (*gpu_check.NEEDED.values(), *gpu_check.WANTED.values()):
    needs(package, there)
blocked = {
    module
    for module, packages in importlib.metadata.packages_distributions().items()
    if not there & set(packages) and module not in {"sim", "supernet", "profiler", "benchmarks"}
}
assert {"click", "pandas", "matplotlib", "pydantic", "ssim"} <= blocked

class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else super().find_spec(name, path, target)

sys.meta_path = [Bare if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
gpu_check.main(["--rehearse", "--out", sys.argv[1]])
"""


@pytest.mark.slow
def test_the_check_is_rehearsed_on_a_bare_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BARE, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=ONE_THREAD)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "a rehearsal, whose figures say nothing of a GPU" in said
    steps = [line.split(" | ")[0].removeprefix("| ") for line in said.splitlines() if line.startswith("| ")]
    order = ["tests", "fp32", "fp16", "actuation", *list(VARIANTS)[2:], "prediction"]
    assert steps[1 : 1 + len(order)] == order
    for name in VARIANTS:
        table = read_table(tmp_path / f"{name}.parquet")
        assert table.batch_sizes == (1, 2)
        assert table.samples_ns is not None
        assert "random weights, which do not influence the latency" in table.provenance["supernet"]
        assert len((tmp_path / f"{name}.csv").read_text(encoding="utf-8").splitlines()) == 5
        assert "![" not in (tmp_path / f"{name}.md").read_text(encoding="utf-8")
    assert "contiguous weights" in said
    assert "Actuation: " in said
    assert read_parquet(tmp_path / "fp32.parquet").num_rows == 4


class Clock:
    """Seconds that pass by steps alone."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def check(tmp_path: Path) -> Check:
    found = prepared(None, tmp_path, deadline_s=100.0)
    found.clock = Clock()
    return found


def test_steps_end_in_time_and_what_has_no_time_is_left_out(check: Check) -> None:
    given = []

    def step(limit_s: float) -> str:
        given.append(limit_s)
        check.clock.now += limit_s
        return "done"

    for name in "abcd":
        check.run(name, step, 40, 15)
    assert given == [40, 40, 20]
    assert [outcome for _, outcome, _ in check.steps] == ["done"] * 3 + ["left out: 0 s were left"]
    assert (check.out / "summary.md").read_text(encoding="utf-8") == summary(check)


def test_a_step_that_fails_does_not_stop_the_next(check: Check) -> None:
    def fails(_limit_s: float) -> str:
        msg = "no kernel image"
        raise RuntimeError(msg)

    check.run("one", fails, 10, 1)
    check.run("two", lambda _: "done", 10, 1)
    assert [outcome for _, outcome, _ in check.steps] == ["FAILED: RuntimeError: no kernel image", "done"]


def test_without_time_no_step_begins(check: Check) -> None:
    check.clock.now = 99.0
    check_all(check)
    assert all(outcome.startswith("left out: ") for _, outcome, _ in check.steps)
    assert len(check.steps) == len(VARIANTS) + 3


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu_check, "NEEDED", {"torch": "torch", "nowhere_to_be_found": "simpy"})
    with pytest.raises(SystemExit, match="2"):
        gpu_check.main(["--rehearse"])
    assert "pip download --no-deps -d wheels simpy" in capsys.readouterr().err


def test_a_folder_without_wheels_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--wheels: no \.whl file in this folder"):
        gpu_check.main(["--wheels", str(tmp_path)])
