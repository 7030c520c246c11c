"""`ssim run --live`: a trace is served in real time, and its results are stored as those of a simulation."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sim.base.parquet import read_parquet
from sim.tables.files import read_table
from ssim.execution.agreement import StoredLiveRun
from ssim.results.store import Store
from tests.ssim.in_process import ssim

FILE = """\
schema: experiment/1
name: quick
seed: 7
trace: {kind: bursty, base_qps: 200, variant_qps: 400, cv2: 4, duration_s: 0.4, slo_ms: 36}
cluster: {workers: 2}
latency_table: ofa-resnet50-rtx2080ti
live: {workers: paced, queue: 500}
policies: [slackfit]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the file was served twice, and simulated between."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "quick.yaml").write_text(FILE)
    for words in (("--live", "--no-figures"), ("--no-figures",), ("--live", "--no-figures")):
        ended = ssim(folder, "run", "quick.yaml", *words)
        assert ended.returncode == 0, ended.stderr
    assert "Live: delays in ms" in ended.stdout
    return folder


def manifests(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    return [(path.parent, json.loads(path.read_text())) for path in folder.glob("results/quick-live/*/manifest.json")]


def test_a_live_run_is_never_computed_already_and_leaves_simulations_alone(served: Path) -> None:
    assert len(manifests(served)) == 2
    assert len(list(served.glob("results/quick/*/manifest.json"))) == 1


def test_stored_files_agree_with_each_other_and_with_the_simulated_arrivals(served: Path) -> None:
    (simulated,) = served.glob("results/quick/*/requests.parquet")
    arrivals = read_parquet(simulated)["arrival_ns"].to_numpy()
    for folder, manifest in manifests(served):
        requests, live = read_parquet(folder / "requests.parquet"), read_parquet(folder / "live_requests.parquet")
        batches, live_batches = read_parquet(folder / "batches.parquet"), read_parquet(folder / "live_batches.parquet")
        np.testing.assert_array_equal(live["intended_ns"].to_numpy(), arrivals)
        assert live["received_ns"].to_pylist() == requests["arrival_ns"].to_pylist()
        assert live_batches["finish_ns"].to_pylist() == batches["finish_ns"].to_pylist()
        assert len(requests) == manifest["summary"]["queries"]
        assert manifest["circumstances"]["engine"] == "live"
        assert manifest["circumstances"]["live"]["slo_attainment_router"] == manifest["summary"]["slo_attainment"]
        assert {"live_requests.parquet", "live_batches.parquet", "live_log.parquet"} <= manifest["outputs"].keys()


@pytest.mark.parametrize("words", [("results", "ls"), ("compare", "quick-live"), ("report", "results/quick-live")])
def test_other_commands_take_a_live_run_as_any_other(served: Path, words: tuple[str, ...]) -> None:
    ended = ssim(served, *words)
    assert ended.returncode == 0, ended.stderr


def test_a_live_run_is_compared_with_the_simulator_and_its_stored_log_replays(served: Path) -> None:
    ended = ssim(served, "compare", "quick-live", "--live")
    assert ended.returncode == 0, ended.stderr
    assert "The log, fed to a new scheduler, gives the same decisions: yes." in ended.stdout
    (picture,) = served.glob("results/quick-live/figures/agreement-*.png")
    assert picture.stat().st_size > 0


def replace_stored(path: Path, table: pa.Table) -> dict[str, Any]:
    """Replace a stored file, and return the manifest of its run."""
    pq.write_table(table, path)
    manifest = path.with_name("manifest.json")
    content: dict[str, Any] = json.loads(manifest.read_text())
    content["outputs"][path.name]["bytes"] = path.stat().st_size
    manifest.write_text(json.dumps(content))
    return content


def test_a_stored_log_that_was_changed_does_not_replay(served: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(served / "results", copy)
    run = json.loads((copy / "quick-live" / "job.json").read_text())["runs"][0]["id"]
    log = copy / "quick-live" / run / "live_log.parquet"
    table = read_parquet(log)
    replace_stored(log, table.slice(0, len(table) // 2))
    ended = ssim(tmp_path, "compare", "quick-live", "--live")
    assert "gives the same decisions: NO." in ended.stdout


def test_a_table_from_a_live_run_is_a_table_for_the_simulator(served: Path) -> None:
    ended = ssim(served, "table", "from-run", "quick-live", "-o", "measured.parquet")
    assert ended.returncode == 0, ended.stderr
    settings = ("--set", "latency_table=measured.parquet", "--set", "cluster.latency=samples", "--set", "name=again")
    assert ssim(served, "run", "quick.yaml", "--no-figures", *settings).returncode == 0


def test_a_void_run_is_flagged_in_its_table_and_an_overhead_that_no_file_takes_is_no_key(
    served: Path, tmp_path: Path
) -> None:
    shutil.copytree(served / "results", tmp_path / "results")
    for path in tmp_path.glob("results/quick-live/*/live_batches.parquet"):
        table = read_parquet(path)
        finish_ns, late = table["finish_ns"].to_numpy().copy(), len(table) // 10 + 1
        finish_ns[-late:] += 10_000_000_000
        place = table.schema.get_field_index("finish_ns")
        content = replace_stored(path, table.set_column(place, table.field(place), pa.array(finish_ns)))
        content["circumstances"]["live"]["void"] = ["p99 of the send lag is 7.0 ms, above 5 ms"]
        path.with_name("manifest.json").write_text(json.dumps(content))
    ended = ssim(tmp_path, "table", "from-run", "quick-live", "-o", "measured.json")
    assert ended.returncode == 0, ended.stderr
    void = "The run is void: p99 of the send lag is 7.0 ms, above 5 ms. The machine was too busy."
    assert void in ended.stdout
    assert read_table(tmp_path / "measured.json").provenance["void"] == void
    assert "unusable as dispatch_p99_over_median" in ended.stdout
    assert "dispatch_p99_over_median:" not in ended.stdout
    assert "dispatch_per_query_ms" not in ended.stdout


def test_a_table_that_would_lose_its_samples_is_refused(served: Path) -> None:
    ended = ssim(served, "table", "from-run", "quick-live", "-o", "measured.csv")
    assert ended.returncode == 2
    assert "measured.csv: can't hold samples (.csv); write a .parquet or .json file" in ended.stderr
    assert not (served / "measured.csv").exists()


def test_a_form_that_a_live_comparison_does_not_have_is_refused(served: Path) -> None:
    ended = ssim(served, "compare", "quick-live", "--live", "--format", "csv")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--format: can't be used with --live (csv)" in ended.stderr


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A folder in which a part of a run was measured that rejected queries; the folder of the run, and its manifest."""
    folder = tmp_path_factory.mktemp("crowded")
    (folder / "quick.yaml").write_text(FILE)
    keys = ("live.queue=1", "cluster.workers=1", "cluster.dispatch_per_query_ms=0.01")
    keys += ("measure={from_s: 0.2, to_s: 0.8}", "trace.duration_s=1")
    ended = ssim(
        folder, "run", "quick.yaml", "--live", "--no-figures", *(word for key in keys for word in ("--set", key))
    )
    assert ended.returncode == 0, ended.stderr
    ((run, manifest),) = manifests(folder)
    assert f"{manifest['summary']['queries']} queries" in ended.stderr  # those that are measured
    return folder, run, manifest


def met_at_client(live: pa.Table, requests: pa.Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return whether each query had its answer in time, seen from the client."""
    took_ns = pc.subtract(live["client_ns"], live["intended_ns"])
    slo_ns = pc.subtract(requests["deadline_ns"], requests["arrival_ns"])
    return pc.fill_null(pc.less_equal(took_ns, slo_ns), fill_value=False).to_numpy()


def test_both_attainments_count_the_queries_of_the_measured_part(crowded: tuple[Path, Path, dict[str, Any]]) -> None:
    _, run, manifest = crowded
    requests, live = read_parquet(run / "requests.parquet"), read_parquet(run / "live_requests.parquet")
    arrival_ns = requests["arrival_ns"].to_numpy()
    inside = (arrival_ns >= 200_000_000) & (arrival_ns < 800_000_000)
    found = manifest["circumstances"]["live"]
    assert 0 < inside.sum() == manifest["summary"]["queries"] < len(requests)
    assert found["slo_attainment_router"] == manifest["summary"]["slo_attainment"]
    assert found["slo_attainment_client"] == met_at_client(live, requests)[inside].mean()


def test_a_comparison_says_what_it_leaves_out(crowded: tuple[Path, Path, dict[str, Any]]) -> None:
    folder, _, manifest = crowded
    ended = ssim(folder, "compare", "quick-live", "--live")
    assert ended.returncode == 0, ended.stderr
    rejected = manifest["circumstances"]["live"]["rejected"]
    assert rejected > 1
    assert f"{rejected} rejected queries are left out, by live.queue or as whole requests: " in ended.stdout
    client = manifest["circumstances"]["live"]["slo_attainment_client"]
    assert f"SLO attainment at the client: {client:.4f}." in ended.stdout


def test_a_comparison_is_about_the_measured_part(crowded: tuple[Path, Path, dict[str, Any]]) -> None:
    """Of the queries that were admitted: those of the summary, less those that were rejected."""
    _, run, manifest = crowded
    found = StoredLiveRun.read(Store(run.parent), run.name).agreement()
    summary = manifest["summary"]
    requests = read_parquet(run / "requests.parquet").to_pandas()
    inside = requests["arrival_ns"].between(200_000_000, 800_000_000, inclusive="left")
    met, rejected = (int((requests["outcome"][inside] == outcome).sum()) for outcome in ("met", "rejected"))
    assert rejected == summary["rejected"]
    assert found.live.slo_attainment == met / (summary["queries"] - rejected)
    assert found.live.mean_batch_size == pytest.approx(summary["mean_batch_size"])
    assert found.live.mean_serving_accuracy == pytest.approx(summary["mean_serving_accuracy"])


def test_a_measured_overhead_takes_the_place_of_that_of_each_query(
    crowded: tuple[Path, Path, dict[str, Any]],
) -> None:
    ended = ssim(crowded[0], "table", "from-run", "quick-live", "-o", "measured.parquet")
    assert ended.returncode == 0, ended.stderr
    assert ", dispatch_per_query_ms: 0" in ended.stdout


BOTH = """\
schema: experiment/1
name: quick
seed: 7
cluster:
  kinds: [{name: slow, workers: 1}, {name: fast, workers: 1, table: {use: ofa-resnet50-a40}}]
  order: fair
latency_table: {use: ofa-resnet50-rtx2080ti}
queues:
  - {name: gold, floor: 78, trace: {kind: poisson, mean_qps: 200, duration_s: 0.4, slo_ms: 40}}
  - {name: silver, bound: 2, trace: {kind: poisson, mean_qps: 900, duration_s: 0.4, slo_ms: 60}}
policies: [slackfit]
"""


def test_kinds_and_queues_are_reported_compared_and_measured_as_in_a_simulation(tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text(BOTH)
    ended = ssim(tmp_path, "run", "quick.yaml", "--live", "--no-figures")
    assert ended.returncode == 0, ended.stderr
    ((_, manifest),) = manifests(tmp_path)
    assert set(manifest["kinds"]) == {"slow", "fast"}
    queues = manifest["queues"]
    assert sum(queue["queries"] for queue in queues.values()) == manifest["summary"]["queries"]
    assert queues["silver"]["rejected"] == manifest["summary"]["rejected"] > 0 == queues["gold"]["rejected"]
    compared = ssim(tmp_path, "compare", "quick-live", "--live")
    assert "gives the same decisions: yes." in compared.stdout
    assert "left out" not in compared.stdout  # the simulator has the bound, too
    ended = ssim(tmp_path, "table", "from-run", "quick-live", "-o", "measured.parquet")
    assert ended.returncode == 0, ended.stderr
    for kind in ("slow", "fast"):
        assert read_table(tmp_path / f"measured-{kind}.parquet").samples_ns is not None


def test_a_simulated_run_is_refused(served: Path) -> None:
    ended = ssim(served, "compare", "quick", "--live")
    assert (ended.returncode, "is not a live run" in ended.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--set", "cluster.network_ms=2"), "cluster.network_ms: can't be used in a live run"),
        (("--set", "cluster.faults=[{worker: 0, at_s: 0.1}]"), "cluster.faults: can't be used in a live run"),
        (("--set", "cluster.occupancy=0.5"), "cluster.occupancy: can't be used in a live run"),
        (("--set", "live.workers=gpu"), "live.workers"),
        (("--set", "cluster.max_workers=3", "--set", "planner={use: predictive}"), "can't be used in a live run"),
        (("--set", "live.queue=0"), "live.queue"),
        (("--backend", "ray"), "--live: serves on this machine"),
        (("--jobs", "2"), "--jobs: has no effect on a live run"),
        (("--threads", "1"), "--threads: has no effect on a live run"),
        (("--device", "cpu"), "--device: has no effect on a live run"),
        (("--force",), "--force: has no effect on a live run"),
    ],
)
def test_what_is_not_served_live_is_refused(tmp_path: Path, words: tuple[str, ...], problem: str) -> None:
    (tmp_path / "quick.yaml").write_text(FILE)
    ended = ssim(tmp_path, "run", "quick.yaml", "--live", *words)
    assert ended.returncode == 2
    assert problem in ended.stderr
    assert not (tmp_path / "results").exists()


def test_a_run_that_fails_is_told_by_every_command_until_another_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="a supernet needs the extra [torch]")
    (tmp_path / "quick.yaml").write_text(FILE.replace("workers: paced", "workers: torch, supernet: ofa_resnet_small"))
    notes = []
    for _ in range(2):
        ended = ssim(tmp_path, "run", "quick.yaml", "--live", "--no-figures")
        assert (ended.returncode, "has a subnet that live.supernet does not have" in ended.stderr) == (2, True)
        notes += tmp_path.glob("results/quick-live/failed/*")
    first, second = notes
    assert first.name != second.name
    assert not first.exists()
    for words, told in (
        (("compare", "quick-live", "--live"), "has a subnet that live.supernet does not have"),
        (("figures", "quick-live"), "no run is stored; `ssim results status quick-live` says why"),
    ):
        ended = ssim(tmp_path, *words)
        assert (ended.returncode, told in ended.stderr) == (1, True), ended.stderr
    assert not (tmp_path / "results/quick-live/figures").exists()


def test_a_full_disk_stores_nothing_of_the_run_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    (tmp_path / "quick.yaml").write_text(FILE)
    ended = ssim(tmp_path, "run", "quick.yaml", "--live", "--no-figures")
    assert ended.returncode == 1
    assert "disk full (No space left on device)" in ended.stderr
    assert manifests(tmp_path) == []
    assert not list(tmp_path.glob("results/quick-live/*/*.parquet"))


SIGNALING = """\
import os
from dataclasses import dataclass
from policies.slackfit import SlackFit

@dataclass
class Policy:
    number: int

    def __post_init__(self):
        self._left, self._inner = 20, SlackFit()

    def decide(self, view):
        self._left -= 1
        if self._left == 0 and "SIGNALS" in os.environ:
            os.kill(os.getpid(), self.number)
        return self._inner.decide(view)
"""


def signaled(folder: Path, number: int, text: str = FILE) -> subprocess.CompletedProcess[str]:
    """Return what comes of a live run that gets a signal in the midst of it, and one that would follow."""
    (folder / "signaling.py").write_text(SIGNALING)
    first = f"{{use: 'signaling:Policy', params: {{number: {number:d}}}}}"
    (folder / "quick.yaml").write_text(text.replace("[slackfit]", f"[{first}, slackfit]"))
    (folder / "tmp").mkdir()
    words = ["run", "quick.yaml", "--live", "--no-figures", "--set", "trace.duration_s=60"]
    environment = os.environ | {
        "SIGNALS": "1",
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return subprocess.run(
        [sys.executable, "-m", "ssim", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_an_interrupted_run_is_stored_with_an_answer_to_every_query_and_the_next_is_not_begun(
    tmp_path: Path, number: int
) -> None:
    ended = signaled(tmp_path, number)
    assert ended.returncode == 1
    assert "interrupted: what was served is stored; the same command serves everything again" in ended.stderr
    ((folder, manifest),) = manifests(tmp_path)
    live = manifest["circumstances"]["live"]
    assert live["unsent"] > 0 == manifest["summary"]["unfinished"]
    assert f"{live['received']} queries were sent, {live['unsent']} were not" in ended.stdout
    assert len(read_parquet(folder / "requests.parquet")) == live["received"]
    compared = ssim(tmp_path, "compare", f"quick-live/{folder.name}", "--live")
    assert "gives the same decisions: yes." in compared.stdout


@pytest.mark.slow
def test_a_run_that_is_interrupted_before_its_measured_part_is_not_stored_and_says_so(tmp_path: Path) -> None:
    ended = signaled(tmp_path, signal.SIGTERM, FILE + "measure: {from_s: 50}\n")
    assert ended.returncode == 1
    assert "ended before the part that is measured" in ended.stderr
    assert "what was served is stored" not in ended.stderr
    assert manifests(tmp_path) == []


@pytest.mark.slow
def test_a_run_that_is_interrupted_in_its_measured_part_is_measured_to_its_end(tmp_path: Path) -> None:
    ended = signaled(tmp_path, signal.SIGTERM, FILE + "measure: {from_s: 0.001, to_s: 50}\n")
    assert "what was served is stored" in ended.stderr
    ((folder, manifest),) = manifests(tmp_path)
    arrival_ns = read_parquet(folder / "requests.parquet")["arrival_ns"].to_numpy()
    assert manifest["summary"]["queries"] == np.count_nonzero(arrival_ns >= 1_000_000) > 0
    compared = ssim(tmp_path, "compare", f"quick-live/{folder.name}", "--live")
    assert compared.returncode == 0, compared.stderr


def test_a_killed_run_leaves_no_files(tmp_path: Path) -> None:
    assert signaled(tmp_path, signal.SIGKILL).returncode == -signal.SIGKILL
    assert list((tmp_path / "tmp").iterdir()) == []


def test_only_experiments_are_served(tmp_path: Path) -> None:
    ended = ssim(tmp_path, "run", "supernet_digits", "--live")
    assert ended.returncode == 2
    assert "is a file of schema training/1" in ended.stderr
