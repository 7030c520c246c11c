"""A run's path over the decision surface of its policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sim.base.errors import StoreError
from ssim.commands.policy import _built, _visited
from ssim.results.store import Store
from ssim.results.visits import visits
from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from pathlib import Path

RECORDER = """\
from dataclasses import dataclass
from sim import Dispatch

@dataclass(frozen=True)
class Recorder:
    path: str

    def decide(self, view):
        with open(self.path, "a") as file:
            print(view.now_ns, view.slack_ns, view.queue_length, file=file)
        return Dispatch(0, min(view.queue_length, 4))
"""

EXPERIMENT = """\
schema: experiment/1
name: seen
seed: 3
trace: {{kind: gamma, mean_qps: 1500, cv2: 6, duration_s: 1, slo_ms: 36}}
cluster: {{workers: 2, dispatch_ms: 1.5, dispatch_per_query_ms: 0.1, network_ms: 3, drop: {drop}}}
latency_table: ofa-resnet50-rtx2080ti
engine: simpy
policies: [slackfit, {{use: "recorder:Recorder", params: {{path: {log}}}}}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("seen")
    (made / "recorder.py").write_text(RECORDER)
    (made / "seen.yaml").write_text(EXPERIMENT.format(log=made / "log.txt", drop="never"))
    ended = ssim(made, "run", "seen.yaml", "--no-figures", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    return made


def test_the_path_is_what_the_policy_saw(folder: Path) -> None:
    store = Store(folder / "results" / "seen")
    (run,) = (run for run in store.index()["runs"] if "Recorder" in run["label"])
    found = visits(store, run["id"])
    seen = np.loadtxt(folder / "log.txt", dtype=np.int64)
    seen = seen[seen[:, 0] > 0]  # without the question by which a policy is tried before a run
    assert len(seen) > 300
    assert np.array_equal(np.round(found.at_s * 1e9).astype(np.int64), seen[:, 0])
    assert np.allclose(found.slack_ms * 1e6, seen[:, 1], atol=0.5)
    assert np.array_equal(found.queue_length, seen[:, 2])


@pytest.mark.parametrize("name", ["path.png", "path.gif"])
def test_a_run_is_drawn_over_the_decisions(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("figures.burst.FRAMES", 3)
    for output in (name, f"again_{name}"):
        ended = ssim(folder, "policy", "plot", "slackfit", "--run", "seen/slackfit", "-o", output)
        assert ended.returncode == 0, ended.stderr
    assert (folder / name).read_bytes() == (folder / f"again_{name}").read_bytes()
    with Image.open(folder / name) as picture:
        assert getattr(picture, "n_frames", 1) == (3 if name.endswith("gif") else 1)


def test_a_run_of_another_policy_or_table_is_refused(folder: Path) -> None:
    for words, told in (
        (["slackfit", "--set", "buckets=20"], "is a run of another policy"),
        (["slackfit", "--table", "ofa-resnet50-a40"], "is a run with another latency table"),
    ):
        ended = ssim(folder, "policy", "plot", *words, "--run", "seen/slackfit", "-o", "no.png")
        assert (ended.returncode, told in ended.stderr) == (1, True), ended.stderr
        assert not (folder / "no.png").exists()


def test_a_run_that_drops_has_no_path(tmp_path: Path) -> None:
    (tmp_path / "recorder.py").write_text(RECORDER)
    text = EXPERIMENT.replace("1500", "4000").format(log=tmp_path / "log.txt", drop="hopeless")
    (tmp_path / "seen.yaml").write_text(text)
    assert ssim(tmp_path, "run", "seen.yaml", "--no-figures", "--jobs", "1").returncode == 0
    store = Store(tmp_path / "results" / "seen")
    with pytest.raises(StoreError, match="dropped or lost"):
        visits(store, store.index()["runs"][0]["id"])


SEVERAL = {
    "several queues": ("cluster: {workers: 2}", "queues: [{name: only}]\n"),
    "a queue for each worker": ("cluster: {workers: 2, routing: random}", ""),
    "several kinds of workers": (
        "cluster: {kinds: [{name: a, workers: 1}, {name: b, workers: 1, table: ofa-resnet50-a40}]}",
        "",
    ),
    "a planner": ("cluster: {workers: 2, max_workers: 3}", "planner: {use: threshold}\n"),
}


@pytest.mark.parametrize("what", SEVERAL)
def test_a_run_without_a_single_decision_surface_is_refused(tmp_path: Path, what: str) -> None:
    cluster, more = SEVERAL[what]
    (tmp_path / "seen.yaml").write_text(
        "schema: experiment/1\nname: seen\nseed: 3\n"
        "trace: {kind: gamma, mean_qps: 300, cv2: 1, duration_s: 0.2, slo_ms: 36}\n"
        f"{cluster}\nlatency_table: ofa-resnet50-rtx2080ti\nengine: simpy\n{more}policies: [slackfit]\n"
    )
    ended = ssim(tmp_path, "run", "seen.yaml", "--no-figures", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    ended = ssim(tmp_path, "policy", "plot", "slackfit", "--run", "seen/slackfit", "-o", "no.png")
    assert (ended.returncode, "has no single decision surface" in ended.stderr) == (1, True), ended.stderr
    assert what in ended.stderr
    assert not (tmp_path / "no.png").exists()


@pytest.mark.parametrize(("plan", "factor"), [("", 1.0), (", plan: 2.0", 2.0)])
def test_the_surface_is_that_of_the_table_that_the_policy_saw(tmp_path: Path, plan: str, factor: float) -> None:
    (tmp_path / "seen.yaml").write_text(
        "schema: experiment/1\nname: seen\nseed: 3\n"
        "trace: {kind: gamma, mean_qps: 300, cv2: 1, duration_s: 0.2, slo_ms: 36}\n"
        "cluster: {workers: 2, dispatch_per_query_ms: 0.1}\nengine: simpy\npolicies: [slackfit]\n"
        f"latency_table: {{use: ofa-resnet50-rtx2080ti{plan}}}\n"
    )
    ended = ssim(tmp_path, "run", "seen.yaml", "--no-figures", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    built, table = _built("slackfit", "ofa-resnet50-rtx2080ti", (), ())
    _, seen = _visited(built, table, tmp_path / "results", "seen/slackfit")
    assert np.array_equal(seen.latency_ns, table.latency_ns * factor + 100_000 * np.array(table.batch_sizes))
