"""Repeats that can't differ are one run: of policies without chance on a recorded trace."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import policies
from ssim.files.own_modules import forget_modules
from ssim.jobs.experiment.policies import build_policy, may_draw
from ssim.jobs.experiment.spec import PolicySpec
from ssim.jobs.reading import read_job
from tests.policies.required import required
from tests.ssim.in_process import ssim

EXPERIMENT = """\
schema: experiment/1
name: rep
seed: 3
repeats: 4
trace: {trace}
cluster: {{workers: 1}}
latency_table: ofa-resnet50-rtx2080ti
policies: [slackfit, "own_still:Still", "own_draws:Draws", "own_borrows:Borrows", "own_steps:Steps"]
"""

OWN = """\
from dataclasses import dataclass

import numpy as np

from helper_of_rules import chosen
from sim import Dispatch, StepPolicy


@dataclass
class Still:
    calls: int = 0

    def decide(self, view):
        self.calls += 1  # a state, but no chance
        return Dispatch(self.calls % 3, 4)
"""

HELPER = "def chosen(view):\n    return int(view.system.rng.integers(4))\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savetxt(tmp_path / "log.csv", np.cumsum(np.full(40, 0.004)), header="arrival_s", comments="")
    head, still = OWN.split("\n\n\n")
    imports = head.replace("from helper_of_rules import chosen\n", "")
    decide = "    def decide(self, view):\n        return Dispatch({}, 4)\n"
    step = "    def step(memory, now_ns, slack_ns, queue_length, arrived, latency_ns):\n        return 0, 4\n"
    memory = "    def memory(self, table, dispatch_ns):\n        return np.zeros(1)  # no random state\n\n"
    texts = {
        "own_still": f"{imports}\n\n\n{still}",
        "own_draws": f"{imports}\n\n\n@dataclass\nclass Draws:\n{decide.format('int(view.system.rng.integers(4))')}",
        "own_borrows": f"{head}\n\n\n@dataclass\nclass Borrows:\n{decide.format('chosen(view)')}",
        "own_steps": f"{imports}\n\n\n@dataclass\nclass Steps(StepPolicy):\n{memory}    @staticmethod\n{step}",
        "helper_of_rules": HELPER,
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "rep.yaml").write_text(EXPERIMENT.format(trace="{kind: file, path: log.csv, slo_ms: 36}"))
    forget_modules()  # of the same names, in the folders of other tests
    return tmp_path


def seeds_of(folder: Path, *overrides: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for run in read_job(folder / "rep.yaml", overrides).runs:
        found.setdefault(run.label.rpartition(":")[2], []).append(run.seed)
    return found


def test_only_what_may_differ_is_repeated(folder: Path) -> None:
    every = [3, 4, 5, 6]
    fixed = {"slackfit": [3], "Still": [3], "Draws": every, "Borrows": every, "Steps": [3]}
    assert seeds_of(folder) == fixed
    drawn = "trace={kind: poisson, mean_qps: 100, duration_s: 1, slo_ms: 36}"
    assert seeds_of(folder, drawn) == dict.fromkeys(fixed, every)


def test_what_runs_once_would_have_been_the_same_for_every_seed(folder: Path) -> None:
    summaries = {}
    for seed in (3, 4):
        words = ("--set", "repeats=1", "--set", f"seed={seed}", "--no-figures", "--out", str(seed), "--jobs", "1")
        assert ssim(folder, "run", "rep.yaml", *words).returncode == 0
        lines = (folder / str(seed) / "rep/summary.csv").read_text().splitlines()
        names = lines[0].split(",")
        keep = [place for place, name in enumerate(names) if name not in {"seed", "wall_s", "run"}]
        summaries[seed] = {line.split(",")[0]: [line.split(",")[place] for place in keep] for line in lines[1:]}
    same = {policy for policy, row in summaries[3].items() if row == summaries[4][policy]}
    assert {"slackfit", "own_still:Still", "own_steps:Steps"} <= same
    assert "own_draws:Draws" not in same


def test_one_run_is_said_and_has_no_interval(folder: Path) -> None:
    ended = ssim(folder, "run", "rep.yaml", "--set", "policies=[slackfit, maxacc]", "--no-figures", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    assert "(one seed, no interval)" in " ".join(ended.stdout.split())
    assert "±" not in ended.stdout
    assert (
        "slackfit, maxacc: one run instead of 4, without an interval; neither the trace nor the policy" in ended.stdout
    )
    assert len(list((folder / "results/rep").glob("seed*"))) == 2


def test_one_run_is_paired_with_every_seed_of_the_others(folder: Path) -> None:
    words = ("--set", "policies=[slackfit, 'own_draws:Draws']", "--no-figures", "--jobs", "1")
    ended = ssim(folder, "run", "rep.yaml", *words)
    assert ended.returncode == 0, ended.stderr
    assert "over 4 seeds" in ended.stdout
    (line,) = (line for line in ended.stdout.splitlines() if "against slackfit" in line)
    assert "±" in line
    capacity = ("--set", "capacity={rate: speedup, target: 0.5, precision: 1}")
    ended = ssim(folder, "capacity", "rep.yaml", *words[:2], *capacity, "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    assert "of 4 seeds)" not in ended.stdout


def test_no_policy_of_the_toolkit_draws(tmp_path: Path) -> None:
    for file in Path(policies.__file__).parent.glob("*.py"):
        if file.stem not in {"checks", "__init__"}:
            assert not re.search(r"\brng\b|random", file.read_text(encoding="utf-8"), re.IGNORECASE), file
    for name in policies.SHORT_NAMES:
        policy = build_policy(PolicySpec(use=name, params=required(name)), tmp_path)
        assert not may_draw(policy, tmp_path)
