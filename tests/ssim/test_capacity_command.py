"""`ssim capacity` as a user meets it, against capacities that follow from the latency table."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.ssim.in_process import ssim
from tests.ssim.stored import manifests

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
schema: experiment/1
name: most
seed: 3
repeats: 2
trace: {kind: constant, mean_qps: 300, duration_s: 4, slo_ms: 20}
cluster: {workers: 1}
latency_table: one.csv
policies: [maxbatch]
sweep: {cluster.workers: [1, 2, 4]}
capacity: {precision: 0.01}
"""
ONE_SUBNET = "subnet,accuracy,batch_size,latency_ms\nonly,75,1,10\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "most.yaml").write_text(FILE)
    (tmp_path / "one.csv").write_text(ONE_SUBNET)
    return tmp_path


def capacities(folder: Path) -> list[dict[str, str]]:
    with (folder / "results/most/capacity/capacity.csv").open() as file:
        return list(csv.DictReader(file))


def test_workers_that_take_10_ms_a_query_serve_100_a_second_each(folder: Path) -> None:
    done = ssim(folder, "capacity", "most.yaml")
    assert done.returncode == 0, done.stderr
    assert (folder / "results/most/capacity/figures/capacity.png").exists()
    rows = capacities(folder)  # nothing depends on the seed, so there is one
    assert [(row["cluster.workers"], row["seed"]) for row in rows] == [(w, s) for w in "124" for s in "3"]
    for row in rows:
        # Within 4 s the queue may grow by one query of 10 ms before an SLO of 20 ms is missed.
        served = 100 * int(row["cluster.workers"])
        assert served * 0.99 <= float(row["capacity"]) <= served * 1.03
        assert float(row["attainment"]) >= 0.999 > float(row["attainment_above"])
        assert float(row["misses_at"]) == pytest.approx(1.01 * float(row["capacity"]))
        assert row["uncertain_from"] == row["uncertain_to"] == ""

    again = ssim(folder, "capacity", "most.yaml")
    assert again.stdout == done.stdout
    assert " runs for " not in again.stderr, "all of it was stored"


def test_what_is_unusual_in_a_recording_is_said_once(folder: Path) -> None:
    (folder / "ticks.csv").write_text("arrival_s\n" + "".join(f"{n // 10}\n" for n in range(50)))
    text = FILE.replace("constant, mean_qps: 300, duration_s: 4", "file, path: ticks.csv")
    (folder / "most.yaml").write_text(text.replace("precision: 0.01", "precision: 0.1, rate: speedup"))
    done = ssim(folder, "capacity", "most.yaml")
    assert done.stderr.count("5 distinct times among 50 arrivals, a clock of 1 s") == 1, done.stderr


def test_what_the_search_says_is_what_a_run_at_that_rate_says(folder: Path) -> None:
    text = FILE.replace("constant, mean_qps", "gamma, cv2: 2, mean_qps").replace("slo_ms: 20", "slo_ms: 100")
    (folder / "most.yaml").write_text(text)
    assert ssim(folder, "capacity", "most.yaml", "--set", "repeats=1", "--set", "capacity.target=0.9").returncode == 0
    for row in capacities(folder):
        for rate, attainment in ((row["capacity"], "attainment"), (row["misses_at"], "attainment_above")):
            settings = ("--set", "repeats=1", "--set", f"trace.mean_qps={rate}", "--no-figures")
            assert ssim(folder, "run", "most.yaml", *settings).returncode == 0
            with (folder / "results/most/summary.csv").open() as file:
                found = {each["cluster.workers"]: each["slo_attainment"] for each in csv.DictReader(file)}
            assert found[row["cluster.workers"]] == row[attainment]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("capacity.rate=rate", "a trace of kind constant has no such rate ('rate'); known:"),
        ("capacity.rate=mean_qsp", "has no such rate ('mean_qsp'); did you mean 'mean_qps'?"),
        ("capacity.target=0", "capacity.target: must be greater than 0 (0)"),
        ("capacity.target=2", "capacity.target: must be less than or equal to 1 (2)"),
        ("capacity.precison=1", "capacity.precison: unknown key; did you mean 'precision'?"),
        ("capacity.precision=0", "capacity.precision: must be"),
        ("sweep={trace.mean_qps: [1, 2]}", "capacity.rate: is swept, too ('trace.mean_qps')"),
        ("sweep={capacity.target: [0.9, 0.99]}", "sweep.capacity.target: can't be swept"),
    ],
)
def test_a_search_that_makes_no_sense_is_bad_input(folder: Path, setting: str, said: str) -> None:
    ended = ssim(folder, "capacity", "most.yaml", "--set", setting)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert not manifests(folder)


def test_a_policy_that_holds_at_no_rate_or_at_all_is_told(folder: Path) -> None:
    ended = ssim(folder, "capacity", "most.yaml", "--set", "trace.slo_ms=9", "--set", "trace.duration_s=1")
    assert ended.returncode == 0, ended.stderr
    assert "misses the target at every rate that was tried, down to 0." in ended.stdout
    (folder / "most.yaml").write_text(FILE.replace("[1, 2, 4]", "[1]").replace("repeats: 2", "repeats: 1"))
    ended = ssim(folder, "capacity", "most.yaml", "--set", "trace.slo_ms=1e7", "--set", "trace.duration_s=0.1")
    assert ended.returncode == 0, ended.stderr
    assert "meets the target at every rate that was tried, up to 3" in ended.stdout
    assert capacities(folder)[0]["capacity"] == ""


def test_what_a_sweep_leaves_as_it_is_has_a_row_at_each_point(folder: Path) -> None:
    policies = "[{use: clipper, params: {accuracy: 75}}, {use: slackfit, params: {buckets: 4}}]"
    text = FILE.replace("[maxbatch]", policies).replace(
        "cluster.workers: [1, 2, 4]", "policies.1.params.buckets: [4, 8]"
    )
    (folder / "most.yaml").write_text(text)
    ended = ssim(folder, "capacity", "most.yaml", "--set", "repeats=1")
    assert ended.returncode == 0, ended.stderr
    rows = [(row["policies.1.params.buckets"], row["policy"]) for row in capacities(folder)]
    fixed = "clipper(accuracy=75)"
    assert rows == [("4", fixed), ("4", "slackfit(buckets=4)"), ("8", fixed), ("8", "slackfit(buckets=8)")]
    index = json.loads((folder / "results/most/capacity/job.json").read_text())
    ids = [run["id"] for run in index["runs"]]
    assert len(ids) == len(set(ids)), "each run once"


def test_a_policy_that_breaks_ends_its_own_search_alone(folder: Path) -> None:
    (folder / "odd.py").write_text(
        "from dataclasses import dataclass\n"
        "from sim import Dispatch\n"
        "@dataclass(frozen=True)\n"
        "class Odd:\n"
        "    def decide(self, view):\n"
        "        if view.now_ns > 10**9: raise ValueError('too late')\n"
        "        return Dispatch(0, 1)\n"
    )
    (folder / "most.yaml").write_text(FILE.replace("[maxbatch]", "[maxbatch, 'odd:Odd']"))
    ended = ssim(folder, "capacity", "most.yaml", "--set", "repeats=1")
    assert ended.returncode == 1
    assert "3 of 6 searches failed" in ended.stderr
    assert "too late" in ended.stderr
    assert [bool(row["capacity"]) for row in capacities(folder)] == [True, False] * 3


def test_an_interrupted_search_goes_on_where_it_was(folder: Path) -> None:
    slow = ("capacity", "most.yaml", "--set", "engine=simpy", "--set", "trace.duration_s=10", "--jobs", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "ssim", *slow], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not manifests(folder):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "what was tried is stored" in said
    stored = manifests(folder)
    assert stored
    assert ssim(folder, *slow).returncode == 0
    after = manifests(folder)
    assert {run: after[run] for run in stored} == stored
    index = json.loads((folder / "results/most/capacity/job.json").read_text())
    assert after.keys() == {run["id"] for run in index["runs"]}
