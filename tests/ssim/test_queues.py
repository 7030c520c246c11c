"""Queues in an experiment file: results by queue, weighted, identity, and what is refused with its place."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from sim.base.parquet import read_parquet
from ssim.jobs.reading import read_job
from tests.ssim.in_process import assert_refused, ssim

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ssim.in_process import Ended

EXPERIMENT = """\
schema: experiment/1
name: three
seed: 1
cluster: {workers: 3, dispatch_ms: 0.5, drop: hopeless}
latency_table: ofa-resnet50-a40
queues:
  - {name: gold, weight: 4, floor: 79, trace: {kind: poisson, mean_qps: 200, duration_s: 0.5, slo_ms: 36}}
  - {name: silver, priority: 2, trace: {kind: poisson, mean_qps: 400, duration_s: 0.5, slo_ms: 50}}
  - {name: bronze, priority: 3, bound: 20, trace: {kind: poisson, mean_qps: 1500, duration_s: 0.5, slo_ms: 80}}
policies: [slackfit, maxbatch]
"""

COLUMN = """\
schema: experiment/1
name: column
seed: 1
trace: {kind: file, path: trace.csv, slo_ms: 36, class: {column: tenant}}
cluster: {workers: 1}
latency_table: ofa-resnet50-a40
queues: [{name: gold, slo_ms: 20}, {name: bronze}]
policies: [slackfit]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "three.yaml").write_text(EXPERIMENT)
    (tmp_path / "column.yaml").write_text(COLUMN)
    rows = "".join(f"{0.001 * i:.3f},{'gold' if i % 3 else 'bronze'}\n" for i in range(30))
    (tmp_path / "trace.csv").write_text(f"arrival_s,tenant\n{rows}")
    return tmp_path


def run(folder: Path, *overrides: str, file: str = "three.yaml", figures: bool = False) -> Ended:
    given = [word for setting in overrides for word in ("--set", setting)]
    return ssim(folder, "run", file, "--jobs", "1", *([] if figures else ["--no-figures"]), *given)


def test_queues_add_up_and_are_weighted(folder: Path) -> None:
    ended = run(folder, "cluster.order=fair")
    assert ended.returncode == 0, ended.stderr
    summary, queues = (pd.read_csv(folder / "results/three" / name) for name in ("summary.csv", "queues.csv"))
    runs = summary.set_index("run")
    for column in ("queries", "dropped", "late", "rejected", "unfinished"):
        assert queues.groupby("run")[column].sum().to_dict() == runs[column].to_dict()
    assert queues[queues.queue == "bronze"].rejected.min() > 0
    for name, rows in queues.groupby("run"):
        attained, weight = rows.slo_attainment, rows.weight
        assert runs.weighted_slo_attainment[name] == pytest.approx((attained * weight).sum() / weight.sum())
        assert runs.jain_index[name] == pytest.approx(attained.sum() ** 2 / (3 * (attained**2).sum()))
        assert rows.busy_share.sum() == pytest.approx(1)
        assert rows.set_index("queue").mean_serving_accuracy["gold"] >= 79
    comparison = pd.read_csv(folder / "results/three/comparison.csv")
    assert {"weighted_slo_attainment", "jain_index", "rejected"} <= set(comparison.columns)
    assert not (folder / "results/three/classes.csv").exists()
    for words in (("compare", "three"), ("report", "results/three", "-o", "report.html")):
        assert ssim(folder, *words).returncode == 0
    manifest = json.loads((folder / "results/three" / summary.run[0] / "manifest.json").read_text())
    assert manifest["circumstances"]["engine"] in {"simpy", "compiled"}
    requests = read_parquet(folder / "results/three" / summary.run[0] / "requests.parquet")
    assert set(requests["class"].to_pylist()) == {"gold", "silver", "bronze"}
    assert requests["outcome"].to_pylist().count("rejected") == summary.rejected[0]
    timeline = ssim(folder, "results", "trace", f"three/{summary.run[0]}", "-o", "run.json")
    assert timeline.returncode == 0
    assert "several queues" in timeline.stderr


@pytest.mark.slow
def test_the_figure_of_queues_is_drawn_over_what_is_swept(folder: Path) -> None:
    sweep = "sweep={cluster.order: [edf, fair], queues.2.trace.mean_qps: [500, 1000]}"
    ended = run(folder, sweep, "policies=[slackfit]", "keep=summary", figures=True)
    assert ended.returncode == 0, ended.stderr
    assert (folder / "results/three/figures/queues.png").stat().st_size > 0
    assert (folder / "results/three/figures/classes.png").stat().st_size > 0


def test_a_column_names_the_queue_and_a_queue_its_slo(folder: Path) -> None:
    assert run(folder, file="column.yaml").returncode == 0
    queues = pd.read_csv(folder / "results/column/queues.csv").set_index("queue")
    assert queues.queries.to_dict() == {"gold": 20, "bronze": 10}
    (row,) = pd.read_csv(folder / "results/column/summary.csv").itertuples()
    requests = read_parquet(folder / "results/column" / row.run / "requests.parquet").to_pandas()
    slos = ((requests.deadline_ns - requests.arrival_ns) / 1e6).groupby(requests["class"].astype(str)).unique()
    assert {name: values.tolist() for name, values in slos.items()} == {"gold": [20], "bronze": [36]}


def test_all_that_a_queue_says_decides_a_run(folder: Path) -> None:
    settings = (
        (),
        ("cluster.order=fair",),
        *((f"queues.0.{key}",) for key in ("weight=2", "priority=2", "floor=78", "bound=9", "trace.slo_ms=30")),
        ("queues.0.latency_table={use: ofa-resnet50-a40, plan: 1.1}",),
        ("queues.0.policy=maxacc",),
        ("queues.0.policy={use: slackfit, plan: 1.1}",),
        ("queues.0.params={buckets: 9}", "policies=[slackfit]"),
    )
    jobs = [read_job(folder / "three.yaml", overrides) for overrides in settings]
    assert len({job.runs[0].id for job in jobs}) == len(settings)
    planned = jobs[9].runs[0].setup.cluster.queues[0].table
    assert (planned.latency_ns >= 1.09 * jobs[0].runs[0].setup.table.latency_ns).all()
    assert jobs[-1].runs[0].setup.policies()["gold"].buckets == 9
    assert jobs[-1].runs[0].setup.policies()["silver"].buckets != 9


def test_queues_may_have_models_of_their_own_on_each_kind(folder: Path) -> None:
    kinds = "cluster={kinds: [{name: a40, workers: 2}, {name: turing, workers: 2}]}"
    tables = "[{kind: a40, table: ofa-resnet50-a40}, {kind: turing, table: ofa-resnet50-rtx2080ti}]"
    settings = [f"queues.{i}.tables={tables}" for i in range(2)]
    other = tables.replace("ofa-resnet50-a40", "dynabert-predicted").replace(
        "ofa-resnet50-rtx2080ti", "dynabert-predicted"
    )
    settings.append(f"queues.2.tables={other}")
    ended = run(folder, kinds, "latency_table=null", *settings)
    assert ended.returncode == 0, ended.stderr
    kinds_csv = pd.read_csv(folder / "results/three/kinds.csv")
    assert kinds_csv.queries.min() > 0
    left_out = run(folder, kinds, "latency_table=null", *settings[:2])
    assert left_out.returncode == 2
    assert "cluster.kinds.0: has no latency table (a40)" in left_out.stderr


REFUSED = {
    "queues.0.weight=0": "queues.0.weight: must be greater than 0",
    "queues.0.name=silver": "queues: two queues have the same name ('silver')",
    "queues.0.bound=0": "queues.0.bound: must be greater than or equal to 1",
    "queues.0.priority=0": "queues.0.priority: must be greater than or equal to 1",
    "queues.0.floor=99": "queues.0: 'gold': no subnet reaches its floor (99 %)",
    "queues.0.trace=null": "queues.0.trace: is missing (gold)",
    "queues.0.trace.kind=poison": "queues.0.trace.kind: unknown trace kind ('poison')",
    "queues.0.slo_ms=20": "queues.0.slo_ms: is given beside that of the queue's trace (20)",
    "trace={kind: poisson, mean_qps: 9, duration_s: 1, slo_ms: 9}": "queues.0.trace: is given beside that of the file",
    "queues=[{name: gold}, {name: silver}]": "trace: is missing",
    "queues.0.latency_table=nonsense": "queues.0.latency_table",
    "queues.0.tables=[{kind: a40, table: ofa-resnet50-a40}]": "a latency table for an unknown kind of workers ('a40')",
    "queues.0.policy=slackfitt": "queues.0.policy.use: unknown policy ('slackfitt')",
    "queues.0.params={bucket: 3}": "queues.0.params: does not fit slackfit",
    "cluster.order=fastest": "cluster.order: must be 'edf', 'slack', 'priority' or 'fair'",
    "queues=[]": "trace: is missing",
    "queues.0.wait=3": "queues.0.wait: unknown key",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_bad_input_is_refused_with_its_place(folder: Path, setting: str) -> None:
    assert_refused(run(folder, setting), REFUSED[setting])
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["queues.1.name=silver"], "trace.class: names an unknown queue ('bronze')"),
        (["cluster.order=priority"], "cluster.order: all queues have the same priority"),
        (["trace.class=null"], "trace: does not say to which queue a query belongs"),
        (["queues=[]", "cluster.order=fair"], "cluster.order: has no meaning without queues ('fair')"),
        (
            [f"queues.{i}.latency_table=ofa-resnet50-a40" for i in range(2)],
            "latency_table: is not used: every queue has a table",
        ),
        (
            ["queues.0.policy=maxbatch", "queues.0.params={buckets: 3}"],
            "queues.0.params: is not used: the queue has its own policy (buckets)",
        ),
        (
            [f"queues.{i}.policy=maxbatch" for i in range(2)],
            "policies: is not used: every queue has its own policy",
        ),
        (
            ["engine=compiled", "cluster.memory_gb=100"],
            "engine: the compiled engine can't run this (workers with limited memory",
        ),
        (
            ["policies=[allocated]", "planner={use: proteus}", "cluster.routing=random"],
            "that the planner gives to others (ProteusAllocation(beta=1.05)); routing: central, or another planner",
        ),
    ],
)
def test_a_trace_that_does_not_fit_the_queues_is_refused(folder: Path, settings: list[str], told: str) -> None:
    ended = run(folder, *settings, file="column.yaml")
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode != 0


def test_a_queue_without_a_measured_query_has_a_row(folder: Path) -> None:
    """And nothing of it counts: neither in the figures of all queues nor in the pictures and the report."""
    short = "queues.0.trace={kind: poisson, mean_qps: 200, duration_s: 0.1, slo_ms: 36}"
    ended = run(folder, short, "measure={from_s: 0.2}")
    assert ended.returncode == 0, ended.stderr
    queues = pd.read_csv(folder / "results/three/queues.csv")
    summary = pd.read_csv(folder / "results/three/summary.csv")
    queues = queues[queues.run == summary.run[0]]
    empty, others = queues.iloc[0], queues.iloc[1:]
    assert (empty.queries, empty.batches) == (0, 0)
    assert pd.isna(empty.slo_attainment)
    weighted = (others.weight * others.slo_attainment).sum() / others.weight.sum()
    assert summary.weighted_slo_attainment[0] == pytest.approx(weighted)
    for words in (("report", "results/three"), ("figures", "three")):
        ended = ssim(folder, *words)
        assert ended.returncode == 0, ended.stderr


def test_the_bound_is_over_all_queues_and_by_weight(folder: Path) -> None:
    assert run(folder).returncode == 0
    ended = ssim(folder, "optimum", "three.yaml", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    gaps = pd.read_csv(folder / "results/three/gap.csv")
    runs = pd.read_csv(folder / "results/three/summary.csv")
    assert gaps.queues_attainment.tolist() == runs.weighted_slo_attainment.tolist()
    assert (gaps.queues_attainment <= gaps.queues_bound).all()
    assert (gaps.slo_attainment <= gaps.attainment_bound).all()


def test_each_routing_is_a_run_of_its_own_and_central_is_the_default(folder: Path) -> None:
    base = read_job(folder / "column.yaml").runs[0]
    routings = ("central", "round_robin", "shortest", "random")
    runs = [read_job(folder / "column.yaml", [f"cluster.routing={routing}"]).runs[0] for routing in routings]
    assert runs[0].id == base.id
    assert len({run.id for run in runs}) == len(routings)
    assert [run.is_random for run in runs] == [False, False, False, True]


def test_the_engine_changes_nothing_but_the_time(folder: Path) -> None:
    files = {}
    for engine in ("simpy", "compiled"):
        ended = run(folder, f"engine={engine}")
        assert ended.returncode == 0, ended.stderr
        runs = sorted((folder / "results/three").glob("seed*"))
        manifests = [json.loads((one / "manifest.json").read_text())["circumstances"] for one in runs]
        assert [found["engine"] for found in manifests] == [engine] * len(runs)
        names = ("requests.parquet", "batches.parquet")
        files[engine] = [(one / name).read_bytes() for one in runs for name in names]
        files[engine].append((folder / "results/three/queues.csv").read_bytes())
        shutil.rmtree(folder / "results")
    assert files["simpy"] == files["compiled"]


@pytest.mark.parametrize("queues", [True, False])
def test_routing_is_run_by_both_engines_and_refused_where_it_is_unknown(folder: Path, queues: bool) -> None:
    more, found = () if queues else ("queues=[]",), []
    for engine in ("simpy", "compiled"):
        asked = "cluster.routing=shortest", "cluster.workers=3", f"engine={engine}"
        ended = run(folder, *asked, *more, file="column.yaml")
        assert ended.returncode == 0, ended.stderr
        (row,) = pd.read_csv(folder / "results/column/summary.csv").itertuples()
        assert row.queries == 30
        stored = folder / "results/column" / row.run
        found.append((stored / "requests.parquet").read_bytes())
        assert json.loads((stored / "manifest.json").read_text())["circumstances"]["engine"] == engine
        if engine == "simpy":
            shutil.rmtree(folder / "results")
    assert found[0] == found[1]
    timeline = ssim(folder, "results", "trace", f"column/{row.run}", "-o", "run.json")
    assert "several queues" in timeline.stderr
    assert "must be 'central', 'round_robin', 'shortest' or 'random'" in run(folder, "cluster.routing=best").stderr


@pytest.mark.slow
def test_two_swept_keys_are_drawn_if_one_has_words(folder: Path) -> None:
    sweep = "sweep={cluster.routing: [central, random], cluster.workers: [2, 3]}"
    ended = run(folder, sweep, "queues=[]", "keep=summary", file="column.yaml", figures=True)
    assert ended.returncode == 0, ended.stderr
    assert (folder / "results/column/figures/sweep.png").stat().st_size > 0
