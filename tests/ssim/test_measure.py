"""`measure`: the part of a run that all stored figures are about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from sim.base.parquet import read_parquet
from ssim.results.reading import Results
from tests.ssim.in_process import ssim
from tests.ssim.stored import manifests

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = """\
schema: experiment/1
name: part
seed: 1
trace: {kind: bursty, base_qps: 300, variant_qps: 900, cv2: 4, duration_s: 4, slo_ms: 36}
cluster: {workers: 1, dispatch_ms: 1, faults: [{worker: 0, at_s: 2.2, recover_s: 2.4}]}
latency_table: ofa-resnet50-rtx2080ti
policies: [slackfit, {use: clipper, params: {accuracy: 78.25}}]
"""
MEASURE = "measure={from_s: 1.25, to_s: 3.5}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "part.yaml").write_text(EXPERIMENT)
    return tmp_path


def run(folder: Path, *overrides: str, out: str = "results") -> pd.DataFrame:
    """Run the experiment and return summary.csv."""
    given = [word for setting in overrides for word in ("--set", setting)]
    ended = ssim(folder, "run", "part.yaml", "--no-figures", "--jobs", "1", "--out", out, *given)
    assert ended.returncode == 0, ended.stderr
    return pd.read_csv(folder / out / "part/summary.csv").set_index("policy")


def test_the_summary_is_that_of_the_queries_and_batches_of_the_part(folder: Path) -> None:
    for policy, row in run(folder, MEASURE).iterrows():
        stored = folder / "results/part" / row["run"]
        requests = read_parquet(stored / "requests.parquet").to_pandas()
        batches = read_parquet(stored / "batches.parquet").to_pandas()
        assert len(requests) > row["queries"], "what is stored query by query is the whole run"
        part = requests[(requests.arrival_ns >= 1.25e9) & (requests.arrival_ns < 3.5e9)]
        assert len(part) == row["queries"]
        assert (part.outcome == "met").mean() == row["slo_attainment"], policy
        latency_ms = (part.finish_ns - part.arrival_ns) / 1e6
        assert latency_ms.quantile(0.99) == pytest.approx(row["p99_latency_ms"])
        begun = batches[(batches.start_ns >= 1.25e9) & (batches.start_ns < 3.5e9)]
        assert begun["size"].mean() == pytest.approx(row["mean_batch_size"])
        busy = np.minimum(batches.finish_ns, 3.5e9) - np.maximum(batches.start_ns, 1.25e9)
        assert busy[busy > 0].sum() / (2.25e9 - 0.2e9) == pytest.approx(row["utilisation"])
        windows = read_parquet(stored / "windows.parquet").to_pandas()
        assert windows.start_s.tolist() == [1.25, 2.25, 3.25]
        assert (windows.ingest_per_s * [1, 1, 0.25]).sum() == pytest.approx(row["queries"])


def test_both_engines_and_all_that_is_kept_say_the_same(folder: Path) -> None:
    pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")
    exact = run(folder, MEASURE, out="first").drop(columns="wall_s")
    rough = [name for name in exact.columns if name.endswith("latency_ms")]
    for engine in ("simpy", "compiled"):
        for keep in ("summary", "windows", "batches"):
            settings = (MEASURE, f"engine={engine}", f"keep={keep}")
            found = run(folder, *settings, out=f"{engine}-{keep}").drop(columns="wall_s")
            pd.testing.assert_frame_equal(found.drop(columns=rough), exact.drop(columns=rough))
            np.testing.assert_allclose(found[rough], exact[rough], rtol=0.0021)


def test_only_a_part_makes_other_runs(folder: Path) -> None:
    whole, part = run(folder, out="whole"), run(folder, MEASURE, out="part")
    assert not set(whole.run) & set(part.run)
    assert set(whole.run) == set(run(folder, "measure=null", out="null").run)
    for row in whole.itertuples():
        manifest = json.loads((folder / "whole/part" / str(row.run) / "manifest.json").read_text())
        assert "measure" not in manifest["identity"]
    until_the_end = run(folder, "measure={to_s: 4}", out="end")
    pd.testing.assert_frame_equal(until_the_end.drop(columns=["wall_s", "run"]), whole.drop(columns=["wall_s", "run"]))


def test_the_table_says_what_was_measured(folder: Path) -> None:
    ended = ssim(folder, "run", "part.yaml", "--no-figures", "--jobs", "1", "--set", MEASURE)
    assert "measured from 1.25 s to 3.5 s" in " ".join(ended.stdout.split())
    again = ssim(folder, "run", "part.yaml", "--no-figures", "--set", "sweep={measure.from_s: [0, 2]}", "--jobs", "1")
    assert again.returncode == 0, again.stderr
    assert "from_s policy" in " ".join(again.stdout.split())


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        ("{from_s: 4}", "part.yaml:8:19: measure.from_s: is outside of the run (4); the trace is 4 s long"),
        ("{to_s: 4.5}", "part.yaml:8:17: measure.to_s: is outside of the run (4.5); the trace is 4 s long"),
        ("{from_s: 2, to_s: 2}", "part.yaml:8:28: measure.to_s: must be above from_s (2)"),
        ("{from_s: -1}", "part.yaml:8:19: measure.from_s: must be greater than or equal to 0 (-1)"),
        ("{since_s: 1}", "part.yaml:8:11: measure.since_s: unknown key"),
    ],
)
def test_a_part_outside_of_the_run_is_refused_by_its_place(folder: Path, measure: str, says: str) -> None:
    (folder / "part.yaml").write_text(f"{EXPERIMENT}measure: {measure}\n")
    ended = ssim(folder, "run", "part.yaml")
    assert ended.returncode == 2
    assert says in ended.stderr
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        ("{from_s: 9}", "measure.from_s: is outside of the run (9); the trace is 3.05 s long"),
        ("{from_s: 0.5, to_s: 2}", "measure: no query arrives in the interval (0.5 s to 2 s)"),
    ],
)
@pytest.mark.parametrize("keep", ["summary", "requests"])
def test_a_part_without_a_query_of_a_recording_fails(folder: Path, measure: str, says: str, keep: str) -> None:
    (folder / "log.csv").write_text("arrival_s\n0\n0.1\n3\n3.05\n")
    settings = ("--set", "trace={kind: file, path: log.csv, slo_ms: 36}", "--set", f"measure={measure}")
    ended = ssim(folder, "run", "part.yaml", "--set", "cluster={workers: 1}", *settings, "--set", f"keep={keep}")
    assert ended.returncode == 2
    assert says in ended.stderr
    assert not manifests(folder / "results")


def test_a_part_has_no_bound(folder: Path) -> None:
    run(folder, MEASURE)
    ended = ssim(folder, "optimum", "part.yaml", "--set", MEASURE)
    assert ended.returncode == 2
    assert "measure: can't be combined with a bound" in ended.stderr


def test_the_slack_of_queries_is_that_of_the_part(folder: Path) -> None:
    summary = run(folder, MEASURE)
    counted, _ = Results(folder / "results").slacks("part")
    assert counted.groupby("policy")["queries"].sum().to_dict() == summary["queries"].to_dict()
    met = (counted["queries"] * (counted["slack_ms"] > 0)).groupby(counted["policy"]).sum() / summary["queries"]
    assert met.to_dict() == pytest.approx(summary["slo_attainment"].to_dict(), abs=0.01), "bins are 0.25 ms wide"
