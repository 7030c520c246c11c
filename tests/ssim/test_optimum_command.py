"""`ssim optimum` looks first whether there is anything to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
schema: experiment/1
name: small
seed: 1
trace: {kind: poisson, mean_qps: 200, duration_s: 1, slo_ms: 36}
cluster: {workers: 1}
latency_table: ofa-resnet50-rtx2080ti
keep: summary
policies: [slackfit]
sweep: {cluster.workers: [1, 2, 3]}
"""


def test_nothing_is_computed_where_nothing_is_stored(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(FILE)
    ended = ssim(tmp_path, "optimum", "small.yaml")
    assert ended.returncode == 1
    assert "no run of this experiment is stored; run `ssim run small.yaml`" in ended.stderr
    assert not (tmp_path / "results").exists()


def test_bounds_are_those_of_stored_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(FILE)
    assert ssim(tmp_path, "run", "small.yaml", "--no-figures", "--set", "sweep={cluster.workers: [2]}").returncode == 0
    ended = ssim(tmp_path, "optimum", "small.yaml")
    assert ended.returncode == 1, "two of three runs are missing"
    assert ended.stderr.count("not stored, therefore not compared") == 2
    assert len(list(tmp_path.glob("results/small/bounds/*.json"))) == 1
    assert len((tmp_path / "results/small/gap.csv").read_text().splitlines()) == 2
