"""The benchmarks still run, small, and their report has a row for each of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")


@pytest.mark.slow
def test_benchmarks_run_and_are_reported(tmp_path: Path) -> None:
    measured = tmp_path / "bench.json"
    words = ("-m", "pytest", "-c", "benchmarks/pytest.ini", "benchmarks", f"--benchmark-json={measured}")
    # A worker of pytest-xdist would be asked for no figures.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = own | {"SSIM_BENCH_QUICK": "1"}
    ended = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout
    words = ("benchmarks/report.py", str(measured), str(tmp_path / "cost.svg"))
    report = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert report.returncode == 0, report.stderr
    names = [one["name"] for one in json.loads(measured.read_text())["benchmarks"]]
    drawn = [name for name in names if name.startswith(("bench_workers", "bench_queue_length"))]
    rows = [line for line in report.stdout.splitlines() if line.startswith("| ") and "---" not in line]
    headings = report.stdout.count("| what |")
    assert len(rows) - headings + len(drawn) == len(names)
    assert (tmp_path / "cost.svg").stat().st_size > 1000


def test_make_bench_finds_its_benchmarks_as_it_is_typed() -> None:
    """The command `pytest`, unlike `python -m pytest`, does not put the folder on the path."""
    words = ("-P", "-m", "pytest", "-c", "benchmarks/pytest.ini", "benchmarks", "--collect-only", "-q")
    hidden = ("PYTHONPATH", "PYTEST_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    ended = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=own, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout
    for path in (ROOT / "benchmarks").glob("bench_*.py"):
        assert path.name in ended.stdout
