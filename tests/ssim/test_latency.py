"""`cluster.latency` and `plan` in experiment files: what is stored, what is refused, and what stays as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from ssim.jobs.reading import read_job
from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ssim.in_process import Ended

EXPERIMENT = """\
schema: experiment/1
name: vary
seed: 1
repeats: 2
trace: {kind: bursty, base_qps: 900, variant_qps: 1300, cv2: 4, duration_s: 2, slo_ms: 36}
cluster: {workers: 6, latency: lognormal}
latency_table: ofa-resnet50-a40
keep: summary
policies:
  - {use: slackfit, params: {buckets: 20}}
  - {use: slackfit, params: {buckets: 20}, plan: p99}
  - {use: slackfit, params: {buckets: 20}, plan: 1.1}
  - {use: clipper, params: {accuracy: 78.25}}
"""

SAMPLES = """\
subnet,accuracy,batch,repetition,latency_ms
small,70,1,1,4
small,70,1,2,5
small,70,1,3,30
large,80,1,1,8
large,80,1,2,9
large,80,1,3,40
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vary.yaml").write_text(EXPERIMENT)
    (tmp_path / "samples.csv").write_text(SAMPLES)
    return tmp_path


def run(folder: Path, *overrides: str) -> Ended:
    given = [word for setting in overrides for word in ("--set", setting)]
    return ssim(folder, "run", "vary.yaml", "--no-figures", "--jobs", "1", *given)


def test_who_plans_on_the_99th_percentile_is_late_less_often_and_says_so(folder: Path) -> None:
    ended = run(folder)
    assert ended.returncode == 0, ended.stderr
    assert "lognormal with the means and 99th percentiles of NVIDIA A40 48 GB (not measured" in ended.stderr
    found = pd.read_csv(folder / "results/vary/summary.csv").groupby("policy")["slo_attainment"].mean()
    plain, p99, margin = (found[f"slackfit(buckets=20{plan})"] for plan in ("", ", plan=p99", ", plan=1.1"))
    assert plain < 0.99 < p99
    assert plain < margin


def test_both_engines_store_the_same_of_drawn_latencies_and_plans(folder: Path) -> None:
    stored = []
    for engine in ("simpy", "compiled"):
        ended = ssim(folder, "run", "vary.yaml", "--no-figures", "--out", engine, "--set", f"engine={engine}")
        assert ended.returncode == 0, ended.stderr
        stored.append(pd.read_csv(folder / engine / "vary/summary.csv").drop(columns="wall_s"))
    quantiles = ["p50_latency_ms", "p99_latency_ms"]  # those of a stream are exact to 0.2 %
    pd.testing.assert_frame_equal(*(frame.drop(columns=quantiles) for frame in stored))
    pd.testing.assert_frame_equal(*(frame[quantiles] for frame in stored), rtol=0.002)


def test_repeats_of_a_recorded_trace_differ_by_their_quantiles_alone(folder: Path) -> None:
    (folder / "log.csv").write_text("arrival_s\n" + "\n".join(f"{0.003 * i:.3f}" for i in range(400)))
    recorded = "trace={kind: file, path: log.csv, slo_ms: 20}"
    policies = "policies=[maxbatch]"
    runs = [
        read_job(folder / "vary.yaml", [recorded, policies, f"cluster.latency={law}"]).runs
        for law in ("fixed", "lognormal")
    ]
    assert [len(each) for each in runs] == [1, 2]


def test_files_without_drawn_latencies_have_the_identity_that_they_had(folder: Path) -> None:
    fixed = "cluster.latency=fixed"
    first, planning, *_ = read_job(folder / "vary.yaml", [fixed]).runs
    assert "latency" not in first.identity["cluster"]
    assert "plan" not in first.identity
    without = {key: value for key, value in planning.identity.items() if key != "plan"}
    assert planning.identity["plan"] == "p99"
    assert without == first.identity
    drawn = read_job(folder / "vary.yaml").runs[0]
    assert drawn.identity["cluster"].pop("latency") == {"law": "lognormal", "p99_over_median": None, "of": "mean"}
    assert drawn.identity == first.identity


def test_samples_of_a_table_are_drawn(folder: Path) -> None:
    given = ["latency_table=samples.csv", "cluster.latency=samples", "cluster.workers=40", "keep=batches"]
    ended = run(folder, *given, "policies=[{use: clipper, params: {accuracy: 70}, plan: mean}]")
    assert ended.returncode == 0, ended.stderr
    (path, *_) = sorted((folder / "results/vary").glob("seed*/batches.parquet"))
    batches = pd.read_parquet(path)
    assert set((batches.finish_ns - batches.start_ns).unique()) == {4_000_000, 5_000_000, 30_000_000}


def test_the_bound_holds_and_says_how_loose_it_is(folder: Path) -> None:
    given = ["--set", "trace.duration_s=0.5", "--set", "repeats=1"]
    assert ssim(folder, "run", "vary.yaml", "--no-figures", *given).returncode == 0
    ended = ssim(folder, "optimum", "vary.yaml", "--jobs", "1", *given)
    assert ended.returncode == 0, ended.stderr
    assert "the bound takes the smallest of each cell, 0.60 to 0.88 of the latency in the table" in ended.stdout
    refused = ssim(folder, "optimum", "vary.yaml", "--exact", "--jobs", "1", *given)
    assert (refused.returncode, "the offline optimum is for fixed latencies" in refused.stderr) == (2, True)


REFUSED = {
    "cluster.latency=gamma": "cluster.latency.law: must be 'fixed', 'lognormal' or 'samples'",
    "cluster.latency=samples": "has no samples",
    "cluster.latency={law: lognormal, p99_over_median: 0.9}": "cluster.latency.p99_over_median: must be greater",
    "cluster.latency={law: lognormal, spread: 1.2}": "cluster.latency.spread: unknown key",
    "cluster.latency={law: samples, p99_over_median: 1.2}": "p99_over_median: has no meaning with law: samples",
    "latency_table=ofa-resnet50-rtx2080ti": "has no 99th percentiles",
    "latency_table.plan=p90": "latency_table.plan: must be 'median', 'mean', 'p95' or 'p99' or a number",
    "policies=[{use: slackfit, plan: 0}]": "plan",
    "policies=[{use: slackfit, plan: p99}, {use: slackfit, plan: p99}]": "duplicate policy (slackfit(plan=p99))",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_bad_input_is_refused_with_its_place(folder: Path, setting: str) -> None:
    ended = run(folder, setting)
    assert ended.returncode == 2
    assert REFUSED[setting] in ended.stderr
    assert not (folder / "results").exists()


def test_a_plan_that_the_table_lacks_is_refused_where_it_stands(folder: Path) -> None:
    ended = run(folder, "cluster.latency=fixed", "policies=[slackfit, {use: slackfit, plan: p95}]")
    assert ended.returncode == 2
    assert "policies.1.plan" in ended.stderr
    assert "plan: p95" in ended.stderr
