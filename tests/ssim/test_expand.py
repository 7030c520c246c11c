"""Experiment files: what they expand to, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim import SpecError
from ssim.files.own_modules import forget_modules
from ssim.jobs.experiment.simulation import simulated
from ssim.jobs.identity import toolkit_files
from ssim.jobs.reading import read_job

ROOT = Path(__file__).parents[2]

GOOD = """\
schema: experiment/1
name: small
seed: 7
repeats: 2
trace: {kind: poisson, mean_qps: 100, duration_s: 1, slo_ms: 36}
cluster: {workers: 2}
latency_table: ofa-resnet50-rtx2080ti
policies:
  - slackfit
  - {use: clipper, params: {accuracy: 78.25}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text)
    return path


def lines(folder: Path, text: str, *overrides: str) -> list[str]:
    """Return what is said of a file, without the folder."""
    with pytest.raises(SpecError) as caught:
        read_job(write(folder, text), overrides)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_repeats_and_policies_make_runs_and_neighbours_share_a_trace(tmp_path: Path) -> None:
    experiment = read_job(write(tmp_path, GOOD))
    assert [(run.seed, run.label) for run in experiment.runs] == [
        (7, "slackfit"),
        (7, "clipper(accuracy=78.25)"),
        (8, "slackfit"),
        (8, "clipper(accuracy=78.25)"),
    ]
    assert len({run.id for run in experiment.runs}) == 4


def test_a_sweep_is_the_product_of_its_keys(tmp_path: Path) -> None:
    text = GOOD + "sweep: {cluster.dispatch_ms: [0, 2.5], trace.mean_qps: [100, 200, 300]}\n"
    experiment = read_job(write(tmp_path, text))
    points = list(dict.fromkeys(tuple(run.swept.values()) for run in experiment.runs))
    assert points == [(0, 100), (0, 200), (0, 300), (2.5, 100), (2.5, 200), (2.5, 300)]
    assert len(experiment.runs) == 6 * 4
    assert experiment.runs[-1].parts.cluster.dispatch_ns == 2_500_000


def test_a_sweep_reaches_into_policies(tmp_path: Path) -> None:
    experiment = read_job(write(tmp_path, GOOD + "sweep: {policies.0.params.buckets: [4, 8]}\n"))
    assert {run.label for run in experiment.runs} == {
        "slackfit(buckets=4)",
        "slackfit(buckets=8)",
        "clipper(accuracy=78.25)",
    }


def test_overrides_are_put_in_before_anything_is_checked(tmp_path: Path) -> None:
    experiment = read_job(write(tmp_path, GOOD), ["trace.mean_qps=50", "repeats=1", "policies=[maxacc]"])
    assert [run.label for run in experiment.runs] == ["maxacc"]
    assert experiment.runs[0].parts.source.mean_qps == 50


def test_a_run_s_id_depends_on_what_decides_its_result_and_on_nothing_else(tmp_path: Path) -> None:
    ids = lambda *overrides: [run.id for run in read_job(write(tmp_path, GOOD), overrides).runs]  # noqa: E731
    assert ids() == ids()
    assert ids("name=other") == ids()  # what an experiment is called decides nothing
    for change in (
        "seed=8",
        "trace.slo_ms=37",
        "cluster.workers=3",
        "cluster.drop=expired",
        "latency_table=ofa-resnet50-a40",
    ):
        assert not set(ids(change, "repeats=1")) & set(ids("repeats=1")), change
    defaults = ids("policies=[{use: slackfit, params: {buckets: 3}}]", "repeats=1")
    assert defaults == ids("policies=[slackfit]", "repeats=1")


LAB = """\
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from lab_helper import SIZE
from sim import Dispatch
from sim.traces.source import TraceSource


@dataclass(frozen=True)
class Mine:
    def decide(self, view):
        return Dispatch(0, SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(TraceSource):
    kind: ClassVar[str] = "listed"
    path: str

    def chunks(self, seed):
        yield np.loadtxt(self.path, dtype=np.int64)

    @property
    def duration_ns(self):
        return 100
"""


def test_an_edit_of_anything_that_decides_the_result_changes_the_id(tmp_path: Path) -> None:
    pieces = {
        "id_lab.py": LAB,
        "lab_helper.py": "SIZE = 1\n",
        "unrelated.py": "",
        "arrivals.txt": "1\n2\n3\n",
        "table.csv": "subnet,accuracy,batch_size,latency_ms,p99_ms\na,70,1,2,3\n",
        "experiment.yaml": GOOD.replace("- slackfit", "- id_lab:Mine")
        .replace("{kind: poisson, mean_qps: 100, duration_s: 1,", "{kind: 'id_lab:Listed', path: arrivals.txt,")
        .replace("ofa-resnet50-rtx2080ti", "table.csv")
        .replace("  - {use: clipper, params: {accuracy: 78.25}}\n", ""),
    }
    for name, text in pieces.items():
        (tmp_path / name).write_text(text)

    def identity() -> str:
        forget_modules()  # as a process of its own would
        return read_job(tmp_path / "experiment.yaml").runs[0].id

    first = identity()
    (tmp_path / "unrelated.py").write_text("CHANGED = 1\n")
    assert identity() == first
    changes = {"id_lab.py": "# changed\n", "lab_helper.py": "# changed\n", "arrivals.txt": "4\n"}
    for name, more in changes.items():
        (tmp_path / name).write_text(pieces[name] + more)
        assert identity() != first, name
        (tmp_path / name).write_text(pieces[name])
    (tmp_path / "table.csv").write_text(pieces["table.csv"].replace(",3\n", ",4\n"))  # the 99th percentile
    assert identity() != first
    (tmp_path / "table.csv").write_text(pieces["table.csv"])
    assert identity() == first


def test_the_id_covers_the_toolkit_s_own_policies_and_engine() -> None:
    rooms = {path.parent.name for path in toolkit_files()}
    assert {"base", "engine", "tables", "traces", "compiled", "policies"} <= rooms
    assert "bounds" not in rooms
    assert {"driver.py", "slack_table.py", "slackfit.py", "azure.py"} <= {path.name for path in toolkit_files()}


def test_modules_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "twin_lab.py").write_text(LAB.replace("from lab_helper import SIZE", "SIZE = 1"))
        (tmp_path / name / "experiment.yaml").write_text(GOOD.replace("- slackfit", "- twin_lab:Mine"))
    read_job(tmp_path / "a" / "experiment.yaml")
    with pytest.raises(SpecError, match="another module of this name comes first"):
        read_job(tmp_path / "b" / "experiment.yaml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "  - slackfit\n",
            "  - slackfit\n  - slackfit\n",
            "experiment.yaml:10:5: policies.1: duplicate policy (slackfit)",
        ),
        (
            "policies:",
            "sweep: {cluster.workers: [2, 4, 2]}\npolicies:",
            "sweep.cluster.workers.2: duplicate value (2)",
        ),
        ("policies:", "sweep: {cluster.workers: [2, 2.0]}\npolicies:", "duplicate value"),
    ],
)
def test_duplicates_would_count_as_extra_repeats(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert any(says in line for line in lines(tmp_path, GOOD.replace(old, new)))


def test_a_sweep_may_use_the_short_forms(tmp_path: Path) -> None:
    text = GOOD + "sweep: {latency_table: [ofa-resnet50-rtx2080ti, ofa-resnet50-a40], policies.0: [maxacc, infaas]}\n"
    assert len(read_job(write(tmp_path, text)).runs) == 2 * 2 * 2 * 2


def test_a_wrong_override_is_told_as_one(tmp_path: Path) -> None:
    assert lines(tmp_path, GOOD, "cluster.workers=0") == [
        "--set cluster.workers: must be greater than or equal to 1 (0)"
    ]


def test_a_wrong_table_is_told_beside_other_faults(tmp_path: Path) -> None:
    said = lines(tmp_path, GOOD.replace("seed: 7", "seed: -7").replace("rtx2080ti", "rtx"))
    assert any("did you mean 'ofa-resnet50-rtx2080ti'" in line for line in said)
    assert len(said) == 2


def test_every_experiment_that_comes_with_the_toolkit_is_right() -> None:
    files = [file for file in sorted((ROOT / "experiments").glob("*.yaml")) if "experiment/1" in file.read_text()]
    assert len(files) > 5
    for file in files:
        profiled_first = ["latency_table=ofa-resnet50-a40"] if file.stem == "own_supernet" else []
        assert read_job(file, profiled_first).name == file.stem


def test_all_faults_of_a_file_are_told_at_once_by_line_and_column(tmp_path: Path) -> None:
    text = """\
schema: experiment/1
name: small
seed: -1
trace: {kind: poisson, mean_qps: -5, duration: 1, slo_ms: 36ms}
cluster: {workers: 0, dispach_ms: 1}
latency_table: ofa-resnet50-rtx2080ti
policies:
  - slakfit
  - {use: clipper, params: {accuracy: 7825}}
swep: {}
"""
    assert lines(tmp_path, text) == [
        "experiment.yaml:3:7: seed: must be greater than or equal to 0 (-1)",
        "experiment.yaml:4:8: trace: Poisson needs the parameter 'duration_s'",
        "experiment.yaml:4:34: trace.mean_qps: must be greater than 0 (-5)",
        "experiment.yaml:4:38: trace.duration: unknown parameter of Poisson; did you mean 'duration_s'?",
        "experiment.yaml:4:59: trace.slo_ms: must be a number ('36ms')",
        "experiment.yaml:5:20: cluster.workers: must be greater than or equal to 1 (0)",
        "experiment.yaml:5:23: cluster.dispach_ms: unknown key; did you mean 'dispatch_ms'?",
        (
            "experiment.yaml:8:5: policies.0.use: unknown policy ('slakfit'); did you mean 'slackfit'? "
            "(or module:Class for one of your own)"
        ),
        "experiment.yaml:9:39: policies.1.params.accuracy: must be less than or equal to 100 (7825)",
        "experiment.yaml:10:1: swep: unknown key; did you mean 'sweep'?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed: 7", "seed: 7\nseed: 8", "experiment.yaml:4:1: duplicate key ('seed'); keep one"),
        ("seed: 7", "seed: '7'", "experiment.yaml:3:7: seed: must be a whole number ('7')"),
        ("seed: 7", "seed: 1.5", "experiment.yaml:3:7: seed: must be a whole number"),
        ("schema: experiment/1\n", "", "experiment.yaml:1:1: schema: is missing"),
        (
            "experiment/1",
            "experiment/2",
            "experiment.yaml:1:9: schema: unknown schema ('experiment/2'); did you mean 'experiment/1'?",
        ),
        (
            "kind: poisson",
            "kind: poison",
            "trace.kind: unknown trace kind ('poison'); did you mean 'poisson'?",
        ),
        ("kind: poisson, ", "", "experiment.yaml:5:8: trace.kind: is missing; such as kind: azure"),
        ("mean_qps: 100", "mean_qps: '100'", "trace.mean_qps: must be a number ('100')"),
        ("mean_qps: 100", "mean_qps: .nan", "trace.mean_qps: must be"),
        ("mean_qps: 100", "mean_qps: .inf", "trace.mean_qps: must be"),
        ("mean_qps: 100", "mean_qps: true", "trace.mean_qps: must be a number (True)"),
        ("workers: 2", "workers: 2, drop: nevr", "cluster.drop: must be 'never', 'expired' or 'hopeless' ('nevr')"),
        (
            "workers: 2",
            "workers: 2, actuation_ms: tabel",
            "cluster.actuation_ms: must be a number or 'table' ('tabel')",
        ),
        ("workers: 2", "workers: 2, actuation_ms: table", "no loading time"),
        (
            "workers: 2",
            "workers: 2, faults: [{worker: 5, at_s: 1}]",
            "faults: worker 5 at 1000000000 ns: unknown worker (5)",
        ),
        (
            "workers: 2",
            "workers: 2, faults: [{worker: 0, at_s: 2, recover_s: 1}]",
            "recovery does not come after the failure",
        ),
        ("ofa-resnet50-rtx2080ti", "ofa-resnet50-rtx2080", "did you mean 'ofa-resnet50-rtx2080ti'"),
        ("ofa-resnet50-rtx2080ti", "missing.csv", "missing.csv"),
        ("ofa-resnet50-rtx2080ti", "{use: ofa-resnet50-rtx2080ti, max_batch: 64}", "no batch size up to (64)"),
        ("ofa-resnet50-rtx2080ti", "{use: ofa-resnet50-a40, stages: [forwards]}", "did you mean 'forward'?"),
        ("accuracy: 78.25", "accuracy: 75", "policies.1: table of"),
        ("{accuracy: 78.25}", "{}", "policies.1.params.accuracy: is missing; accuracy in percent, or subnet"),
        ("{accuracy: 78.25}", "{accuracy: 78.25, subnet: 3}", "policies.1.params.subnet: cannot be combined with"),
        (
            "{accuracy: 78.25}",
            "{subnet: 9}",
            "policies.1: table of NVIDIA RTX 2080 Ti: no subnet of this id (9); known: 0",
        ),
        ("{accuracy: 78.25}", "{subnet: true}", "policies.1.params.subnet: "),
        ("- slackfit", "- mine", "unknown policy ('mine')"),
        ("- slackfit", "- nowhere:Mine", "policies.0.use: importing 'nowhere' raised ModuleNotFoundError"),
        (
            "- slackfit",
            "- policies.slackfit:SlackFitt",
            "no class of this name ('SlackFitt'); did you mean 'SlackFit'?",
        ),
        (
            "- slackfit",
            "- {use: slackfit, params: {buckets: 0}}",
            "policies.0.params.buckets: must be greater than or equal to 1 (0)",
        ),
        ("- slackfit", "- 5", "policies.0"),
        ("policies:", "policys:", "policies: is missing"),
    ],
)
def test_a_fault_is_told_where_it_stands(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    said = lines(tmp_path, GOOD.replace(old, new))
    assert any(says in line for line in said), said
    assert all(line.startswith("experiment.yaml:") for line in said)


@pytest.mark.parametrize(
    ("sweep", "says"),
    [
        ("{cluster.wrkers: [1]}", "sweep.cluster.wrkers: unknown key; did you mean 'workers'?"),
        ("{clster.workers: [1]}", "sweep.clster.workers: unknown key; did you mean 'cluster'?"),
        ("{cluster.workers: [1, 0]}", "sweep.cluster.workers.1: must be greater than or equal to 1 (0)"),
        ("{policies.7.params.buckets: [1]}", "sweep.policies.7.params.buckets: no such entry; 0 to 1"),
        ("{cluster.workers: []}", "sweep.cluster.workers: "),
        ("{cluster.workers: 3}", "sweep.cluster.workers: must be"),
    ],
)
def test_a_fault_of_the_sweep_is_told_at_the_sweep(tmp_path: Path, sweep: str, says: str) -> None:
    said = lines(tmp_path, GOOD + f"sweep: {sweep}\n")
    assert len(said) == 1
    assert says in said[0]
    assert said[0].startswith("experiment.yaml:11:")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trace.mean_qps", "--set: must be NAME=VALUE ('trace.mean_qps')"),
        ("trce.mean_qps=4", "--set: unknown key ('trce.mean_qps'); did you mean 'trace'?"),
        ("policies.5.use=x", "--set: no such entry ('policies.5.use'); 0 to 1"),
        ("seed.x=1", "--set: seed has no keys ('seed.x')"),
        ("seed=[", "--set: the value of seed is not valid YAML ('[')"),
    ],
)
def test_overrides_are_checked(tmp_path: Path, override: str, says: str) -> None:
    assert says in lines(tmp_path, GOOD, override)[0]


@pytest.mark.parametrize("text", ["", "- 1\n", "7\n", "a: [1\n", "\x00", "name: &x {a: *y}\n"])
def test_what_is_no_experiment_at_all_is_told(tmp_path: Path, text: str) -> None:
    assert lines(tmp_path, text)[0].startswith("experiment.yaml")


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    experiment = read_job(
        write(tmp_path, GOOD.replace("dispatch", "").replace("workers: 2", "workers: 2, dispatch_ms: 1e-3"))
    )
    assert experiment.runs[0].parts.cluster.dispatch_ns == 1000
    assert any("mean_qps" in line for line in lines(tmp_path, GOOD.replace("mean_qps: 100", "mean_qps: 1_00x")))


def test_a_policy_and_a_trace_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "my_lab_pieces.py").write_text(
        """\
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from sim import Dispatch
from sim.traces.source import TraceSource

@dataclass(frozen=True)
class Mine:
    margin_ms: float = 0.0
    def decide(self, view):
        return Dispatch(0, 1)

@dataclass(frozen=True, slots=True, kw_only=True)
class Twice(TraceSource):
    kind: ClassVar[str] = "twice"
    gap_ns: int = 5
    def chunks(self, seed):
        yield np.array([0, self.gap_ns])
    @property
    def duration_ns(self):
        return 2 * self.gap_ns
"""
    )
    text = GOOD.replace("- slackfit", "- {use: 'my_lab_pieces:Mine', params: {margin_ms: 2}}")
    text = text.replace("{kind: poisson, mean_qps: 100, duration_s: 1,", "{kind: 'my_lab_pieces:Twice', gap_ns: 9,")
    run = read_job(write(tmp_path, text)).runs[0]
    assert run.label == "my_lab_pieces:Mine(margin_ms=2)"
    result, _ = simulated(run, run.choose(1))
    assert result.trace.arrival_ns.tolist() == [0, 9]


def test_a_policy_that_can_not_be_used_is_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "bad_lab_pieces.py").write_text(
        """\
from dataclasses import dataclass

@dataclass(frozen=True)
class Raises:
    def decide(self, view):
        raise RuntimeError("not today")

@dataclass(frozen=True)
class Empty:
    pass

class Plain:
    pass
"""
    )
    said = lambda name: lines(tmp_path, GOOD.replace("- slackfit", f"- bad_lab_pieces:{name}"))[0]  # noqa: E731
    what = "policies.0: raised RuntimeError: not today (bad_lab_pieces.py:6, in decide; slack 34 ms, queue 1)"
    assert said("Raises") == f"experiment.yaml:9:5: {what}"
    assert "Empty has no method decide(view)" in said("Empty")
    assert "Plain is not a dataclass" in said("Plain")
