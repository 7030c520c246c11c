"""Whole commands, each in a new process: start-up, what is stored already, sweeps by threads and by processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.jobs import QUICK, rounds

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SWEEP = Path(__file__).with_name("sweep.yaml")
FEWER = ("--set", "repeats=1", "--set", "sweep={}") if QUICK else ()
SHORT = ("--set", "trace.duration_s=1") if QUICK else ()


def ssim(*words: object) -> None:
    """Run a command in a new process."""
    command = [sys.executable, "-m", "ssim", *map(str, words)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def bench_help(benchmark: Any) -> None:
    """`ssim --help`."""
    benchmark.extra_info |= {"what": "ssim --help", "unit": "calls", "count": 1}
    benchmark.pedantic(ssim, ("--help",), rounds=rounds(9), warmup_rounds=rounds(2) - 1)


def bench_stored(benchmark: Any, tmp_path: Path) -> None:
    """`ssim run experiments/azure.yaml` when all of it is stored and drawn."""
    words = ("run", EXPERIMENTS / "azure.yaml", "--out", tmp_path, *SHORT)
    ssim(*words)
    benchmark.extra_info |= {"what": "ssim run azure.yaml, stored", "unit": "calls", "count": 1}
    benchmark.pedantic(ssim, words, rounds=rounds(7))


def bench_small(benchmark: Any, tmp_path: Path) -> None:
    """`ssim run` of one small run: 64,000 queries, pictures included."""
    words = ("run", SWEEP, "--out", tmp_path, "--set", "repeats=1", "--set", "sweep={}", "--set", "policies=[slackfit]")
    benchmark.extra_info |= {"what": "ssim run, 64,000 queries", "unit": "calls", "count": 1}
    benchmark.pedantic(
        ssim, words, setup=lambda: shutil.rmtree(tmp_path), rounds=rounds(5), warmup_rounds=rounds(2) - 1
    )


PROCESSES = (
    "import sys, ssim.execution.runner as r; r.threads = r.processes; from ssim.cli import main; main(sys.argv[1:])"
)
"""A command line that sends runs of the compiled engine to processes, which it does not do by itself."""

SWEEPS = {
    "1,000 runs of 64,000 queries": (1000, ()),
    "50 runs of 768,000 queries": (50, ("--set", "trace.duration_s=120", "--set", "repeats=5", "--set", "sweep={}")),
}
WAYS = {"one at a time": (1, ("-m", "ssim")), "2 threads": (2, ("-m", "ssim")), "2 processes": (2, ("-c", PROCESSES))}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sweep", SWEEPS)
def bench_sweep(benchmark: Any, sweep: str, way: str, tmp_path: Path) -> None:
    """Sweeps of which the figures are kept, by the compiled engine."""
    (runs, settings), (jobs, start) = SWEEPS[sweep], WAYS[way]
    words = ("run", str(SWEEP), "--out", str(tmp_path), "--jobs", str(jobs), "--no-figures", *settings, *FEWER, *SHORT)
    count = 10 if QUICK else runs
    benchmark.extra_info |= {"what": f"{sweep}, {way}", "job": sweep, "unit": "runs", "count": count}
    run = lambda: subprocess.run([sys.executable, *start, *words], capture_output=True, check=True)  # noqa: E731
    benchmark.pedantic(run, setup=lambda: shutil.rmtree(tmp_path), rounds=rounds(3), warmup_rounds=rounds(2) - 1)


@pytest.mark.parametrize("jobs", [1, 2])
def bench_sweep_simpy(benchmark: Any, jobs: int, tmp_path: Path) -> None:
    """40 runs of 64,000 queries by the SimPy engine."""
    words = ("run", SWEEP, "--out", tmp_path, "--jobs", jobs, "--set", "engine=simpy", "--no-figures", *SHORT)
    way = "one at a time" if jobs == 1 else "2 processes"
    benchmark.extra_info |= {"what": f"40 runs of 64,000 queries in SimPy, {way}", "unit": "runs", "count": 40}
    setup = lambda: shutil.rmtree(tmp_path)  # noqa: E731 - as above
    benchmark.pedantic(ssim, (*words, "--set", "repeats=1"), setup=setup, rounds=rounds(3), warmup_rounds=rounds(2) - 1)


@pytest.mark.parametrize("policy", ["slackfit"])
def bench_day(benchmark: Any, policy: str, tmp_path: Path) -> None:
    """The whole Azure day, 910 million queries, drawn and replayed by two threads."""
    words = ("run", EXPERIMENTS / "azure_day.yaml", "--out", tmp_path, "--set", f"policies=[{policy}]", "--no-figures")
    benchmark.extra_info |= {"what": "the whole day", "unit": "queries", "count": 910_042_048}
    setup = lambda: shutil.rmtree(tmp_path)  # noqa: E731 - as above
    benchmark.pedantic(ssim, (*words, *SHORT), setup=setup, rounds=rounds(3))
