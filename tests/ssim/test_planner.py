"""Planners in an experiment file: results, cost, identity, and what is refused with its place."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from click.testing import CliRunner

from sim.base.errors import SsimError
from sim.engines import LIMITED_MEMORY
from ssim.commands.planner import planner
from ssim.jobs.experiment.drawing import spells
from ssim.jobs.reading import read_job
from ssim.results.record import WORKERS, read_output
from ssim.results.store import Store
from tests.ssim.in_process import assert_refused, ssim

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ssim.in_process import Ended

EXPERIMENT = """\
schema: experiment/1
name: scaled
seed: 1
trace: {kind: bursty, base_qps: 900, variant_qps: 1300, cv2: 4, duration_s: 3, slo_ms: 36}
cluster: {workers: 2, max_workers: 6, min_workers: 1, startup_s: 0.5}
latency_table: ofa-resnet50-rtx2080ti
keep: summary
planner: {use: threshold, period_s: 0.25}
policies: [slackfit]
"""

KINDS = """\
cluster:
  kinds:
    - {name: a40, workers: 2, table: ofa-resnet50-a40, price_per_h: 0.4, watts: {idle: 60, busy: 300}}
    - {name: turing, workers: 1, max_workers: 4, startup_s: 0.5, price_per_h: 0.2, watts: {idle: 50, busy: 250}}
  currency: EUR
"""

OWN = """\
from dataclasses import dataclass
from sim import WorkerPlan

@dataclass(frozen=True)
class Fixed:
    workers: object = None
    late: bool = False
    queues: object = None

    def plan(self, view):
        quiet = self.late and view.now_ns != 10**9
        return WorkerPlan() if quiet else WorkerPlan(self.workers or {}, queues=self.queues or {})

@dataclass(frozen=True)
class Raises:
    def plan(self, view):
        return 1 / 0

@dataclass(frozen=True)
class Nonsense:
    def plan(self, view):
        return 3

@dataclass(frozen=True)
class NoPlan:
    def decide(self, view):
        return 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scaled.yaml").write_text(EXPERIMENT)
    (tmp_path / "own_planner.py").write_text(OWN)
    return tmp_path


def run(folder: Path, *overrides: str) -> Ended:
    given = [word for setting in overrides for word in ("--set", setting)]
    return ssim(folder, "run", "scaled.yaml", "--no-figures", "--jobs", "1", *given)


def test_each_worker_is_stored_and_paid_from_its_start_up_on(folder: Path) -> None:
    plain, kinds = EXPERIMENT.index("cluster:"), EXPERIMENT.index("latency_table:")
    (folder / "scaled.yaml").write_text(EXPERIMENT[:plain] + KINDS + EXPERIMENT[kinds:])
    ended = run(folder)
    assert ended.returncode == 0, ended.stderr
    (row,) = pd.read_csv(folder / "results/scaled/summary.csv").itertuples()
    kinds = pd.read_csv(folder / "results/scaled/kinds.csv").set_index("kind")
    workers = pd.read_parquet(folder / "results/scaled" / row.run / "workers.parquet")
    assert (workers.kind == "turing").sum() > 1, "the planner adds workers to this load"
    late = workers[workers.asked_ns > 0]
    assert (late.ready_ns - late.asked_ns == 500_000_000).all()
    assert (kinds.worker_h.sum(), kinds.startup_h.sum()) == pytest.approx((row.worker_h, row.startup_h))
    assert row.startup_h * 3600 == pytest.approx(0.5 * len(late))
    hours = kinds.worker_h
    assert kinds.cost.to_dict() == pytest.approx({"a40": hours.a40 * 0.4, "turing": hours.turing * 0.2})
    busy_h = (kinds.worker_h - kinds.startup_h) * kinds.utilisation
    watts = pd.DataFrame({"idle": {"a40": 60, "turing": 50}, "busy": {"a40": 300, "turing": 250}})
    energy = (kinds.worker_h * watts.idle + busy_h * (watts.busy - watts.idle)) / 1000
    assert kinds.energy_kwh.to_dict() == pytest.approx(energy.to_dict())
    comparison = pd.read_csv(folder / "results/scaled/comparison.csv")
    assert {"worker_h", "startup_h", "cost"} <= set(comparison.columns)


def test_a_planner_that_changes_nothing_gives_the_same_queries(folder: Path) -> None:
    assert run(folder, "planner.use=own_planner:Fixed", "planner.params={workers: {}}", "keep=requests").returncode == 0
    (with_planner,) = (folder / "results/scaled").glob("seed1-*")
    bytes_with = {name: (with_planner / name).read_bytes() for name in ("requests.parquet", "batches.parquet")}
    bounds = EXPERIMENT.replace(", max_workers: 6, min_workers: 1, startup_s: 0.5", "")
    (folder / "scaled.yaml").write_text(bounds.replace("planner:", "#"))
    assert run(folder, "keep=requests", "engine=simpy", "name=plain").returncode == 0
    (plain,) = (folder / "results/plain").glob("seed1-*")
    assert bytes_with == {name: (plain / name).read_bytes() for name in bytes_with}
    assert not (plain / "workers.parquet").exists()


def test_a_time_line_has_all_workers_and_says_what_it_lacks(folder: Path) -> None:
    assert run(folder, "keep=requests", "cluster.faults=[{worker: 0, at_s: 1}]").returncode == 0
    ended = ssim(folder, "results", "trace", "scaled", "-o", "line.json")
    assert "queue length, slack and drops are unknown where workers come and go" in ended.stdout + ended.stderr
    events = json.loads((folder / "line.json").read_text())["traceEvents"]
    tracks = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    (stored,) = (folder / "results/scaled").glob("*/workers.parquet")
    assert tracks == [f"worker {number}" for number in range(len(pd.read_parquet(stored)))]
    assert len(tracks) > 2


def test_workers_that_are_down_are_not_drawn_as_serving(folder: Path) -> None:
    """The time of the workers that are drawn is the time that workers could serve."""
    faults = "cluster.faults=[{worker: 0, at_s: 0.5, recover_s: 1}, {worker: 1, at_s: 1.2}]"
    assert run(folder, faults, "keep=requests").returncode == 0
    stored = Store(folder / "results/scaled")
    ((one, manifest),) = stored.runs()
    lives = read_output(stored, one["id"], WORKERS).to_pandas()
    drawn = spells(lives, manifest["identity"]["cluster"]["faults"])
    end_ns = int(1e9 * 3)

    def serving_ns(workers: pd.DataFrame) -> int:
        until = workers.gone_ns.fillna(end_ns).clip(upper=end_ns)
        return int((until - workers.ready_ns).clip(lower=0).sum())

    gone = lives.set_index("worker").gone_ns.fillna(end_ns).clip(upper=end_ns)
    down = max(0, min(1e9, gone[0]) - 0.5e9) + max(0, gone[1] - 1.2e9)
    assert down > 0
    assert serving_ns(drawn) == serving_ns(lives) - down


def test_what_a_planner_does_decides_a_run(folder: Path) -> None:
    settings = (
        (),
        ("planner.use=predictive",),
        ("planner.params={up: 0.5}",),
        ("planner.period_s=0.5",),
        ("cluster.startup_s=1",),
        ("cluster.max_workers=7",),
        ("cluster.min_workers=2",),
    )
    jobs = [read_job(folder / "scaled.yaml", overrides) for overrides in settings]
    assert len({job.runs[0].id for job in jobs}) == len(settings)


REFUSED = {
    "planner=null": "cluster.max_workers: the number of workers has bounds, but no planner changes it",
    "cluster={workers: 2}": "planner: no number of workers may change",
    "cluster={workers: 2, startup_s: 3}": "cluster.startup_s: has no meaning where the number of workers never changes",
    "cluster={workers: 2, min_workers: 1}": "cluster.min_workers: has no meaning where",
    "cluster.min_workers=7": "cluster.min_workers: is above max_workers (7); 6 at most",
    "cluster.workers=9": "cluster.workers: is outside of its bounds (9); 1 to 6",
    "cluster.max_workers=0": "cluster.max_workers: must be greater than or equal to 1",
    "cluster.startup_s=-1": "cluster.startup_s: must be greater than or equal to 0",
    "cluster={kinds: [{name: a, workers: 0}]}": "cluster.kinds.0: 'a': the number of workers is out of range (0)",
    "cluster={kinds: [{name: a, workers: 3, max_workers: 2}]}": "cluster.kinds.0: 'a': workers is outside of",
    "cluster={kinds: [{name: a, workers: 3, startup_s: 2}]}": "cluster.kinds.0.startup_s: has no meaning where",
    "cluster={kinds: [{name: a, workers: 3}], max_workers: 4}": "cluster.max_workers: is given beside kinds",
    "planner.period_s=0": "planner.period_s: must be greater than 0",
    "planner.use=thresh": "planner.use: unknown planner ('thresh'); did you mean 'threshold'?",
    "planner.params={up: 2}": "planner.params.up: must be less than or equal to 1",
    "planner.use=proteus": "planner: changes a parameter that the policy lacks ('allocation'); SlackFit",
    "planner={use: 'own_planner:NoPlan'}": "planner.use: NoPlan has no method plan(view) (own_planner.py:",
    "planner={use: 'own_planner:Raises'}": "planner: raised ZeroDivisionError: division by zero (own_planner.py:",
    "planner={use: 'own_planner:Nonsense'}": "planner: does not return a plan (3;",
    "planner={use: 'own_planner:Fixed', params: {workers: -1}}": "planner: wants an impossible number of workers (-1",
    "planner={use: 'own_planner:Fixed', params: {workers: 2.5}}": "planner: wants an impossible number of workers",
    "planner={use: 'own_planner:Fixed', params: {workers: {h100: 1}}}": "wants workers of an unknown kind ('h100'",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_bad_input_is_refused_with_its_place(folder: Path, setting: str) -> None:
    assert_refused(run(folder, setting), REFUSED[setting])
    assert not (folder / "results").exists()


QUEUES = """
queues: [{name: gold, weight: 3, trace: {kind: poisson, mean_qps: 400, duration_s: 2, slo_ms: 36}},
  {name: rest, bound: 40, trace: {kind: poisson, mean_qps: 900, duration_s: 2, slo_ms: 50}}]
"""


def with_queues(folder: Path) -> None:
    trace, cluster = EXPERIMENT.index("trace:"), EXPERIMENT.index("cluster:")
    (folder / "scaled.yaml").write_text(EXPERIMENT[:trace] + EXPERIMENT[cluster:] + QUEUES)


def test_a_planner_may_change_the_policy_of_a_queue(folder: Path) -> None:
    """A plan at the first turn is the same as a file that says so, once the turn comes before the first query."""
    with_queues(folder)
    early = "planner={use: 'own_planner:Fixed', params: {queues: {gold: {buckets: 1}}}, period_s: 1.0e-5}"
    parted = ("queues.0.params={buckets: 1}", "planner={use: 'own_planner:Fixed', period_s: 1.0e-5}")
    rows = []
    shorter = [
        f"queues.{place}.trace={{kind: poisson, mean_qps: 400, duration_s: 2.0e-2, slo_ms: 36}}" for place in (0, 1)
    ]
    for settings in ([early], parted, ["planner={use: 'own_planner:Fixed', period_s: 1.0e-5}"]):
        assert run(folder, *settings, *shorter).returncode == 0
        rows.append(pd.read_csv(folder / "results/scaled/queues.csv").drop(columns="run"))
    assert rows[0].equals(rows[1])
    assert not rows[0].equals(rows[2])


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ("{bronze: {}}", "planner: plans an unknown queue ('bronze'; own_planner.py:"),
        ("{gold: {bucket: 3}}", "planner: changes a parameter that the policy lacks ('bucket'"),
        ("{gold: 3}", "planner: gives queue 'gold' neither parameters nor a policy (3;"),
        ("many", "planner: plans queues, but names none ('many';"),
        ("{gold: {buckets: 0}}", "planner: SlackFit.buckets: is out of range (0)"),
    ],
)
def test_a_plan_for_queues_that_can_not_be_carried_out_is_refused(folder: Path, plan: str, told: str) -> None:
    with_queues(folder)
    assert_refused(run(folder, f"planner={{use: 'own_planner:Fixed', params: {{queues: {plan}}}}}"), told)
    assert not (folder / "results").exists()


def test_a_plan_that_is_wrong_later_fails_the_run_with_its_time(folder: Path) -> None:
    ended = run(folder, "planner={use: 'own_planner:Fixed', params: {workers: -1, late: true}, period_s: 0.5}")
    assert "Fixed(workers=-1, late=True, queues=None) at 1000 ms: wants an impossible number of workers" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 1


def test_a_live_run_and_a_search_for_workers_know_no_planner(folder: Path) -> None:
    ended = ssim(folder, "run", "scaled.yaml", "--live")
    assert "planner: can't be used in a live run" in ended.stderr
    ended = ssim(folder, "capacity", "scaled.yaml", "--rate", "500", "--jobs", "1")
    assert "planner" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2


def test_the_bound_is_that_of_any_planner_at_the_cost_of_the_run(folder: Path) -> None:
    """A run costs no less than what its results cost at least, whatever the start-up."""
    with_queues(folder)
    assert run(folder, "sweep={cluster.startup_s: [0, 1]}").returncode == 0
    ended = ssim(folder, "optimum", "scaled.yaml", "--jobs", "1", "--set", "sweep={cluster.startup_s: [0, 1]}")
    assert ended.returncode == 0, ended.stderr
    gaps = pd.read_csv(folder / "results/scaled/gap.csv")
    runs = pd.read_csv(folder / "results/scaled/summary.csv")
    assert gaps.cost.tolist() == runs.worker_h.tolist()
    assert (gaps.least_cost > 0).all()
    assert (gaps.least_cost <= gaps.cost).all()
    assert (gaps.slo_attainment <= gaps.attainment_bound).all()
    assert (folder / "results/scaled/figures/costs.png").exists()


def test_the_command_checks_planners(folder: Path) -> None:
    def said(*words: str) -> str:
        ended = CliRunner().invoke(planner, words)
        if isinstance(ended.exception, SsimError):
            return str(ended.exception)
        return ended.output

    assert "threshold: Adds workers above a share of their capacity" in said("list")
    checked = said("check", "predictive", "--set", "headroom=0.5")
    assert "predictive: obeys the planner interface" in checked
    assert f"runs in both engines where its policy does; needs SimPy with: {LIMITED_MEMORY}\n" in checked
    assert re.search("predictive: on a load that rises, falls and returns, [12] to [3-8] workers, attainment", checked)
    for name, policy in (("proteus", "allocated"), ("nexus", "packed")):
        assert f"{name}: obeys the planner interface" in (checked := said("check", name))
        assert f"with the policy {policy}" in checked
    told = said("check", "proteus", "--policy", "slackfit")
    assert "changes a parameter that the policy lacks ('allocation')" in told
    assert told.endswith("this planner plans for the policy allocated")
    assert "raised ZeroDivisionError" in said("check", str(folder / "own_planner.py:Raises"))
