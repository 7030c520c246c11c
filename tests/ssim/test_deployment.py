"""Deployment files: who runs where is printed, and what is wrong has its line."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from pathlib import Path

SITES = """\
schema: deployment/1
sites:
  cloud: {roles: [aggregator], cpus: 1}
  eu: {groups: [eu], labels: {region: eu}, gpus: 0.5}
  na: {groups: [na], node: na-1, processes: 2, memory_gb: 4}
"""


def test_who_runs_where_is_printed(tmp_path: Path) -> None:
    (tmp_path / "sites.yaml").write_text(SITES)
    ended = ssim(tmp_path, "topology", "deploy", "hybrid", "sites.yaml")
    assert ended.returncode == 0, ended.stderr
    lines = [" ".join(line.split()) for line in ended.stdout.splitlines()]
    assert lines == [
        "site machine reserves workers",
        "cloud any 1 cpu aggregator/0",
        "eu region=eu 0.5 gpu 4: trainer/0, trainer/1, trainer/2, trainer/3",
        "na na-1 4 GB 2: trainer/4, trainer/6",
        "na na-1 4 GB 2: trainer/5, trainer/7",
        "9 workers of hybrid in 4 processes",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("groups: [eu]", "group: [eu]", "sites.yaml:4:8: sites.eu.group: unknown key; did you mean 'groups'?"),
        ("[aggregator]", "[top]", "sites.yaml:3:19: sites.cloud.roles.0: unknown role ('top'); known: "),
        ("gpus: 0.5", "gpus: -1", "sites.yaml:4:50: sites.eu.gpus: "),
        ("node: na-1", "node: na-1, labels: {a: b}", "sites.yaml:5:42: sites.na.labels: not used with node"),
        ("  na: {", "  eu: {", "sites.yaml:5:3: "),
        ("deployment/1", "topology/1", "is a file of schema topology/1; use `ssim topology check"),
        ("groups: [na]", "name: x, groups: [na]", "sites.na.name: already given ('x'); remove it"),
        (SITES, "schema: deployment/1\nsites: {}\n", "sites.yaml:2:8: sites: "),
    ],
)
def test_what_is_wrong_has_its_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in SITES
    (tmp_path / "sites.yaml").write_text(SITES.replace(old, new))
    ended = ssim(tmp_path, "topology", "deploy", "hybrid", "sites.yaml")
    assert ended.returncode == 2
    assert told in ended.stderr


def test_a_deployment_that_nobody_uses_or_that_does_not_fit_is_told(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="federated training needs the extra [torch]")
    (tmp_path / "sites.yaml").write_text(SITES)
    ended = ssim(tmp_path, "train", "federated/digits", "--deployment", "sites.yaml")
    assert ended.returncode == 2
    assert "--deployment: not used by digits, whose engine is sim" in ended.stderr
    ended = ssim(tmp_path, "train", "federated/digits", "--engine", "ray", "--deployment", "sites.yaml")
    assert ended.returncode == 2
    assert "sites.yaml:4:17: sites.eu.groups.0: unknown group ('eu')" in ended.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_the_cluster_is_compared_and_used(tmp_path: Path) -> None:
    """On a cluster that is started here; the same weights as without a deployment."""
    pytest.importorskip("ray", reason="this engine needs the extra [ray]")
    pytest.importorskip("torch", reason="federated training needs the extra [torch]")
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300, "env": environment}
        return subprocess.run([sys.executable, "-m", "ssim", *command], check=False, **options)

    (tmp_path / "sites.yaml").write_text(SITES)
    ended = run("topology", "deploy", "hybrid", "sites.yaml", "--check")
    assert ended.returncode == 2
    assert "site eu: no machine has the labels region=eu; site na: no machine 'na-1'" in ended.stderr
    sites = "sites: {a: {roles: [aggregator]}, b: {roles: [trainer], datasets: [tr*], processes: 2}}\n"
    (tmp_path / "sites.yaml").write_text("schema: deployment/1\n" + sites)
    ended = run("topology", "deploy", "federated/digits", "sites.yaml", "--check")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("the cluster has what each process needs\n")
    terms = ("train", "federated/digits", "--set", "rounds=2")
    ended = run(*terms, "--engine", "ray", "--deployment", "sites.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("round 2 of 2") == 1
    assert "deployment/1" in next(tmp_path.glob("results/digits/seed*/manifest.json")).read_text()
