"""Placements in experiment files: found before a run or given, stored with it, and refused with their place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from ssim.jobs.reading import read_job
from tests.ssim.in_process import assert_refused, ssim

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ssim.in_process import Ended

EXPERIMENT = """\
schema: experiment/1
name: models
seed: 1
cluster: {workers: 3, memory_gb: 0.2, load_gb_per_s: 12.2, placement: greedy, drop: hopeless}
latency_table: ofa-resnet50-rtx2080ti
queues:
  - {name: a, own_weights: true, trace: {kind: gamma, mean_qps: 900, cv2: 4, duration_s: 0.3, slo_ms: 36}}
  - {name: b, own_weights: true, trace: {kind: gamma, mean_qps: 200, cv2: 4, duration_s: 0.3, slo_ms: 36}}
keep: batches
policies: [slackfit]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.yaml").write_text(EXPERIMENT)
    return tmp_path


def run(folder: Path, *settings: str) -> Ended:
    given = [word for setting in settings for word in ("--set", setting)]
    return ssim(folder, "run", "models.yaml", "--no-figures", "--jobs", "1", *given)


def manifests(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "results/models").glob("*/manifest.json"))]


def test_a_placement_that_was_found_is_stored_and_gives_the_same_run_again(folder: Path) -> None:
    assert run(folder).returncode == 0
    (found,) = manifests(folder)
    assert found["identity"]["placement"] == "greedy"
    workers = {name: row["placement"] for name, row in found["queues"].items()}
    assert sorted(worker for of in workers.values() for worker in of) == [0, 1, 2]
    assert [*map(len, workers.values())] == [2, 1]
    queues = pd.read_csv(folder / "results/models/queues.csv", dtype=str)
    assert queues["placement"].tolist() == [" ".join(map(str, of)) for of in workers.values()]
    assert run(folder, f"cluster.placement={json.dumps(workers)}", "name=given").returncode == 0
    columns = ["worker", "subnet", "start_ns", "finish_ns", "size"]
    one, other = (pd.read_parquet(path)[columns] for path in sorted((folder / "results").glob("*/*/batches.parquet")))
    assert one.equals(other)


def test_a_given_placement_needs_no_memory_and_loads_nothing(folder: Path) -> None:
    assert run(folder, "cluster={workers: 3, placement: {a: [0, 1], b: [2]}}").returncode == 0
    (found,) = manifests(folder)
    assert "load_ns" not in pd.read_parquet(next((folder / "results/models").glob("*/batches.parquet")))
    assert found["queues"]["b"]["placement"] == [2]
    assert found["identity"]["cluster"]["placement"] == {"a": [0, 1], "b": [2]}


def test_a_file_without_a_placement_has_the_identity_that_it_had(folder: Path) -> None:
    (folder / "models.yaml").write_text(
        EXPERIMENT.replace("placement: greedy, ", "").replace("own_weights: true, ", "")
    )
    identity = read_job(folder / "models.yaml").runs[0].identity
    assert "placement" not in {**identity, **identity["cluster"]}
    assert all("own_weights" not in queue for queue in identity["queues"]["of"])


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("cluster.placement={a: [0, 1], c: [2]}", "cluster.placement: names an unknown queue ('c')"),
        ("cluster.placement={a: [0, 1]}", "cluster.placement: leaves out a queue ('b'); the workers that serve it"),
        ("cluster.placement={a: [0, 1], b: []}", "cluster.placement.b: no worker serves this queue ([])"),
        ("cluster.placement={a: [0, 1], b: [3]}", "cluster.placement.b: unknown worker (3); 0 to 2"),
        ("cluster.placement={a: [0, 1], b: [-1]}", "cluster.placement.b: unknown worker (-1); 0 to 2"),
        ("cluster.placement={a: [0, 0], b: [1]}", "cluster.placement.a: names a worker twice (0)"),
        ("cluster.placement={a: [0, 1], b: [1]}", "worker 1 does not hold the models of its queues (a, b: 0.38488"),
        ("cluster.placement=best", "cluster.placement: "),
        (
            "cluster.memory_gb=0.19",
            "queues.0: 'a': its model fits into no worker's memory (0.19244 GB, memory 0.19 GB)",
        ),
        ("cluster={workers: 3, placement: greedy}", "cluster.placement: has nothing to search for"),
        ("cluster.routing=shortest", "cluster.placement: can't be combined with routing"),
        ("cluster.max_workers=5", "cluster.placement: can't be combined with workers that come and go"),
        ("planner={use: proteus}", "cluster.placement: can't be combined with a planner"),
        ("engine=compiled", "engine: the compiled engine can't run this (workers with limited memory"),
        ("queues.0.own_weights=2", "queues.0.own_weights: "),
    ],
)
def test_what_can_t_be_is_refused_with_its_place(folder: Path, setting: str, told: str) -> None:
    assert_refused(run(folder, setting), told)
    assert not (folder / "results").exists()


def test_a_placement_without_queues_and_live_is_refused(folder: Path) -> None:
    (folder / "models.yaml").write_text(
        EXPERIMENT.replace("queues:", "trace:")
        .replace("  - {name: a, own_weights: true, trace: {kind", "  {kind")
        .replace("slo_ms: 36}}\n  -", "slo_ms: 36}\n#")
    )
    assert_refused(run(folder), "cluster.placement: has no meaning without queues")
    (folder / "models.yaml").write_text(
        EXPERIMENT.replace("memory_gb: 0.2, load_gb_per_s: 12.2, placement: greedy, ", "")
    )
    live = ssim(folder, "run", "models.yaml", "--live", "--set", "cluster.placement={a: [0], b: [1]}")
    assert_refused(live, "cluster.placement: can't be used in a live run")


def test_the_number_of_workers_is_not_looked_for_beside_a_given_placement(folder: Path) -> None:
    placed = "cluster={workers: 3, placement: {a: [0, 1], b: [2]}}"
    asked = ssim(folder, "capacity", "models.yaml", "--rate", "900", "--set", placed)
    assert_refused(asked, "cluster.placement: names workers by number")
