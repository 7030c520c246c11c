"""Limited memory in experiment files: what is stored, and what is refused with its place."""

from __future__ import annotations

import math
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
name: little
seed: 1
trace: {kind: bursty, base_qps: 900, variant_qps: 900, cv2: 4, duration_s: 1, slo_ms: 36}
cluster: {workers: 4, memory_gb: 0.3, load_gb_per_s: 12.2}
latency_table: ofa-resnet50-rtx2080ti
keep: batches
policies: [slackfit, residentfit]
sweep: {cluster.weights: [shared, separate], cluster.memory_gb: [0.6, 0.3]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "little.yaml").write_text(EXPERIMENT)
    return tmp_path


def run(folder: Path, *overrides: str) -> Ended:
    given = [word for setting in overrides for word in ("--set", setting)]
    return ssim(folder, "run", "little.yaml", "--no-figures", "--jobs", "1", *given)


def test_loads_are_counted_as_batches_have_them_and_a_supernet_is_never_loaded(folder: Path) -> None:
    assert run(folder).returncode == 0
    drawn = ssim(folder, "figures", "little", "--only", "residence", "--format", "svg", "-o", "drawn")
    assert drawn.returncode == 0, drawn.stderr
    assert (folder / "drawn/residence.svg").is_file()
    summary = pd.read_csv(folder / "results/little/summary.csv")
    for row in summary.to_dict("records"):
        batches = pd.read_parquet(folder / "results/little" / row["run"] / "batches.parquet")
        assert (batches.load_ns > 0).sum() == row["loads"]
        assert batches.load_ns.sum() / 1e9 == row["loading_s"]
    loads = summary.set_index(["policy", "cluster.weights", "cluster.memory_gb"]).loads
    assert loads[:, "shared"].sum() == loads[:, "separate", 0.6].sum() == 0
    assert loads["slackfit", "separate", 0.3] > loads["residentfit", "separate", 0.3]
    comparison = pd.read_csv(folder / "results/little/comparison.csv")
    assert comparison.loads.sum() == summary.loads.sum()


def test_the_limit_of_one_point_holds_beside_points_without_one(folder: Path) -> None:
    """A policy is tabulated once for all points that use it alike: a point without a limit may be compiled."""
    load_numba = ["--set", "engine=compiled", "--set", "sweep=null", "--set", "cluster={workers: 4}", "-o", "compiled"]
    assert (
        ssim(folder, "run", "little.yaml", "--no-figures", *load_numba, "--set", "policies=[slackfit]").returncode == 0
    )
    free, little = "{workers: 4}", "{workers: 4, memory_gb: 0.3, load_gb_per_s: 12.2, weights: separate}"
    assert run(folder, f"sweep={{cluster: [{free}, {little}]}}", "policies=[slackfit]").returncode == 0
    for table in ("summary", "comparison"):
        loads = pd.read_csv(folder / f"results/little/{table}.csv").loads
        assert math.isnan(loads[0])
        assert loads[1] > 0
    assert run(folder, "cluster.weights=separate", "sweep=null", "policies=[slackfit]").returncode == 0
    assert pd.read_csv(folder / "results/little/summary.csv").loads[0] == loads[1]


def test_a_file_without_limits_has_the_identity_that_it_had(folder: Path) -> None:
    text = EXPERIMENT.partition("sweep")[0]
    plain, limited = text.replace(", memory_gb: 0.3, load_gb_per_s: 12.2", ""), text
    identities = []
    for each in (plain, limited):
        (folder / "little.yaml").write_text(each)
        identities.append(read_job(folder / "little.yaml").runs[0].identity["cluster"])
    assert not {"memory", "weights", "bytes_per_weight"} & set(identities[0])
    assert set(identities[1]) - set(identities[0]) == {"memory", "weights", "bytes_per_weight"}


KINDS = "cluster={kinds: [{name: a, workers: 1, memory_gb: 0.6, load_gb_per_s: 9}, {name: b, workers: 1, KEYS}]}"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            ["cluster.weights=separate", "cluster.memory_gb=0.19"],
            "cluster.memory_gb: does not hold the weights of subnet",
        ),
        (
            ["cluster.memory_gb=0.19"],
            "cluster.memory_gb: does not hold the weights of the supernet (0.19 GB); 0.19244 or more",
        ),
        (["cluster.memory_gb=0"], "cluster.memory_gb: "),
        (["cluster={workers: 4, memory_gb: 0.3}"], "table of "),
        (["cluster={workers: 4, load_gb_per_s: 9}"], "cluster.load_gb_per_s: has no meaning where memory holds all"),
        (["cluster={workers: 4, weights: separate}"], "cluster.weights: has no meaning where memory holds all"),
        (["cluster={workers: 4, bytes_per_weight: 2}"], "cluster.bytes_per_weight: has no meaning where memory holds"),
        (["cluster.weights=mine"], "cluster.weights: "),
        (["cluster.actuation_ms=table"], "cluster.actuation_ms: counts the loading that memory_gb counts"),
        (["cluster.occupancy=0.5"], "cluster.occupancy: can't be combined with a limited memory"),
        (
            ["engine=compiled"],
            "engine: the compiled engine can't run this (workers with limited memory",
        ),
        ([KINDS.replace("KEYS", "memory_gb: 0.1, load_gb_per_s: 9")], "cluster.kinds.1.memory_gb: does not hold"),
        ([KINDS.replace("KEYS", "load_gb_per_s: 9")], "cluster.kinds.1.load_gb_per_s: has no meaning"),
        (
            [KINDS.replace("]}", "], memory_gb: 1}").replace("KEYS", "memory_gb: 1")],
            "cluster.memory_gb: is given beside",
        ),
    ],
)
def test_what_can_t_be_is_refused_with_its_place(folder: Path, settings: list[str], told: str) -> None:
    (folder / "little.yaml").write_text(EXPERIMENT.partition("sweep")[0])
    assert_refused(run(folder, *settings), told)
    assert not (folder / "results").exists()


def test_live_runs_refuse_limited_memory(folder: Path) -> None:
    (folder / "little.yaml").write_text(EXPERIMENT.partition("sweep")[0])
    assert_refused(ssim(folder, "run", "little.yaml", "--live"), "cluster.memory_gb: can't be used in a live run")
