"""Kinds of workers in an experiment file: results by kind, cost, identity, and what is refused with its place."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from ssim.jobs.reading import read_job
from tests.ssim.in_process import assert_refused, ssim
from tests.ssim.stored import manifests

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ssim.in_process import Ended

EXPERIMENT = """\
schema: experiment/1
name: two
seed: 1
trace: {kind: bursty, base_qps: 900, variant_qps: 1300, cv2: 4, duration_s: 1, slo_ms: 36}
cluster:
  kinds:
    - {name: a40, workers: 4, table: ofa-resnet50-a40, price_per_h: 0.4, watts: {idle: 60, busy: 300}}
    - {name: turing, workers: 3, price_per_h: 0.2, watts: {idle: 50, busy: 250}}
  currency: EUR
latency_table: ofa-resnet50-rtx2080ti
keep: summary
policies: [slackfit, maxbatch]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "two.yaml").write_text(EXPERIMENT)
    return tmp_path


def run(folder: Path, *overrides: str) -> Ended:
    given = [word for setting in overrides for word in ("--set", setting)]
    return ssim(folder, "run", "two.yaml", "--no-figures", "--jobs", "1", *given)


def test_kinds_add_up_and_cost_what_their_hours_cost(folder: Path) -> None:
    ended = run(folder)
    assert ended.returncode == 0, ended.stderr
    summary, kinds = (pd.read_csv(folder / "results/two" / name) for name in ("summary.csv", "kinds.csv"))
    assert kinds.groupby("run").workers.sum().tolist() == [7, 7]
    by_run = kinds.groupby("run")[["cost", "energy_kwh", "met"]].sum()
    runs = summary.set_index("run")
    assert runs.cost.to_dict() == pytest.approx(by_run.cost.to_dict())
    assert runs.energy_kwh.to_dict() == pytest.approx(by_run.energy_kwh.to_dict())
    assert (runs.met_per_cost * runs.cost).to_dict() == pytest.approx(by_run.met.to_dict())
    for row in kinds.itertuples():
        price, idle, busy = {"a40": (0.4, 60, 300), "turing": (0.2, 50, 250)}[row.kind]
        assert row.cost == pytest.approx(row.worker_h * price)
        watts = idle + row.utilisation * (busy - idle)
        assert row.energy_kwh == pytest.approx(row.worker_h * watts / 1000)
    comparison = pd.read_csv(folder / "results/two/comparison.csv")
    assert {"cost", "met_per_cost", "energy_kwh", "met_per_kwh"} <= set(comparison.columns)


def test_the_same_workers_without_kinds_have_no_such_files_and_the_same_figures(folder: Path) -> None:
    alike = "cluster.kinds=[{name: turing, workers: 5}]"
    assert run(folder, alike, "cluster.currency=null").returncode == 0
    with_kinds = pd.read_csv(folder / "results/two/summary.csv")
    head, rest = EXPERIMENT.split("cluster:")
    tail = rest[rest.index("latency_table:") :]
    (folder / "two.yaml").write_text(f"{head}cluster: {{workers: 5}}\n{tail}")
    assert run(folder).returncode == 0
    plain = pd.read_csv(folder / "results/two/summary.csv")
    assert not (folder / "results/two/kinds.csv").exists()
    same = [name for name in plain.columns if name not in {"wall_s", "run"}]
    assert with_kinds[same].equals(plain[same])


@pytest.mark.parametrize("keep", ["summary", "batches"])
def test_figures_do_not_depend_on_the_engine(folder: Path, keep: str) -> None:
    pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")
    found = []
    for engine in ("simpy", "compiled"):
        (folder / "results").mkdir()
        ended = run(folder, f"engine={engine}", f"keep={keep}", "cluster.drop=hopeless", "cluster.offer=fastest")
        assert ended.returncode == 0, ended.stderr
        found.append([pd.read_csv(folder / "results/two" / name) for name in ("summary.csv", "kinds.csv")])
        stored = manifests(folder / "results/two").values()
        assert {manifest["circumstances"]["engine"] for manifest in stored} == {engine}
        shutil.rmtree(folder / "results")
    for one, other in zip(*found, strict=True):
        same = [name for name in one.columns if name != "wall_s"]
        assert one[same].equals(other[same])


def test_who_plans_on_another_figure_does_so_on_every_kind(folder: Path) -> None:
    """The rule of offers, prices and plans decide a run; each has its own id."""
    settings = (
        (),
        ("cluster.offer=fastest",),
        ("cluster.kinds.0.price_per_h=0.5",),
        ("cluster.kinds.0.table.plan=p99",),
        ("policies=[{use: slackfit, plan: 1.1}, maxbatch]",),
    )
    jobs = [read_job(folder / "two.yaml", overrides) for overrides in settings]
    assert len({job.runs[0].id for job in jobs}) == len(settings)
    seen = jobs[-1].runs[0].setup.cluster.kinds[0].table.latency_ns
    assert (seen >= 1.09 * jobs[0].runs[0].setup.cluster.kinds[0].table.latency_ns).all()


REFUSED = {
    "cluster.workers=3": "cluster.workers: is given beside kinds, which have their own numbers",
    "cluster.kinds=[]": "cluster.workers: is missing",
    "cluster.currency=null": "cluster.currency: a price needs a currency",
    "cluster.kinds.1.table=ofa-resnet50-a40": "latency_table: is not used: every kind of workers has a table",
    "latency_table=null": "cluster.kinds.1: has no latency table (turing)",
    "cluster.kinds.1.name=a40": "cluster.kinds: two kinds have the same name ('a40')",
    "cluster.kinds.0.table=dynabert-predicted": "cluster.kinds.0: 'a40': its table lacks a subnet of other kinds (0)",
    "cluster.kinds.0.table=nonsense": "cluster.kinds.0.table",
    "cluster.kinds.0.workers=0": "cluster.kinds.0: 'a40': the number of workers is out of range (0); 1 or more",
    "cluster.kinds.0.price_per_h=-1": "cluster.kinds.0.price_per_h: must be greater than or equal to 0",
    "cluster.kinds.0.price_per_h=null": "cluster.kinds.0: 'a40': has no price",
    "cluster.kinds.0.watts={idle: 300, busy: 60}": "a busy worker takes less power than an idle one",
    "cluster.kinds.0.watts={idle: 300}": "cluster.kinds.0.watts.busy: is missing",
    "cluster.offer=fast": "cluster.offer: must be 'kind', 'fastest' or 'cheapest'",
    "cluster.faults=[{worker: 7, at_s: 0.1}]": "unknown worker (7); 0 to 6",
    "policies=[{use: aimd, params: {accuracy: 78.25}}]": "policies.0: a step policy works with one latency table",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_bad_input_is_refused_with_its_place(folder: Path, setting: str) -> None:
    assert_refused(run(folder, setting), REFUSED[setting])
    assert not (folder / "results").exists()


def test_runs_are_compared_with_the_bound_on_any_policy(folder: Path) -> None:
    assert run(folder, "trace.duration_s=0.2").returncode == 0
    ended = ssim(folder, "optimum", "two.yaml", "--jobs", "1", "--set", "trace.duration_s=0.2")
    assert ended.returncode == 0, ended.stderr
    gap = pd.read_csv(folder / "results/two/gap.csv")
    assert (gap.weighted_share <= 1).all()
    assert (gap.weighted_share > 0.5).all()


def test_no_number_of_workers_is_given_for_kinds(folder: Path) -> None:
    ended = ssim(folder, "capacity", "two.yaml", "--rate", "500", "--jobs", "1")
    assert "look for the cheapest mix: --cheapest" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2


def test_measured_energy_is_that_of_batches_whatever_is_kept(folder: Path) -> None:
    """And not that of the power of a busy worker."""
    rows = "small,70,1,10,1500\nsmall,70,4,22,4000\nlarge,80,1,20,3500\nlarge,80,4,45,11000\n"
    (folder / "energy.csv").write_text(f"subnet,accuracy,batch_size,latency_ms,energy_mj\n{rows}")
    found = []
    for busy, keep in ((300, "summary"), (300, "requests"), (900, "summary")):
        kinds = f"cluster={{kinds: [{{name: gpu, workers: 4, watts: {{idle: 60, busy: {busy}}}}}]}}"
        trace = "trace={kind: poisson, mean_qps: 200, duration_s: 1, slo_ms: 100}"
        ended = run(folder, kinds, trace, "latency_table=energy.csv", "policies=[slackfit]", f"keep={keep}")
        assert ended.returncode == 0, ended.stderr
        found.append(pd.read_csv(folder / "results/two/summary.csv").energy_kwh[0])
    assert found[0] == found[1] == found[2] > 0
