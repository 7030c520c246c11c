"""What decides a run is its id, in files of every kind: own code does, and how a file is written does not."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="trainings need the extra [torch]")

from ssim.execution.runner import run_job
from ssim.files.own_modules import forget_modules
from ssim.jobs.reading import read_job
from ssim.results.store import Store
from tests.ssim.test_settings import FILES
from tests.test_docs import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def ids(folder: Path, text: str, *overrides: str) -> list[str]:
    path = folder / "small.yaml"
    path.write_text(text)
    return [run.id for run in read_job(path, overrides).runs]


EXPERIMENT = FILES["experiment/1"]
SAME = {
    "experiment/1": [
        ("- {use: slackfit}", "- {use: policies.slackfit:SlackFit}", "- {use: slackfit, params: {buckets: 3}}"),
        ("kind: poisson", "kind: 'sim.traces.synthetic:Poisson'"),
        ("{workers: 2}", "{drop: never, workers: 2}", "{workers: 2, dispatch_ms: 0}", "{workers: 2, faults: []}"),
        ("latency_table: ofa-resnet50-a40", "latency_table: {use: ofa-resnet50-a40}"),
    ],
    "training/1": [
        ("kind: digits", "kind: 'supernet.data.digits:Digits'"),
        ("kind: cnn_small", "kind: 'supernet.families.cnn:CnnSmall'", "classes: 10, kind: cnn_small"),
        ("batch: 32", "optimizer: sgd\nbatch: 32", "optimizer: {kind: 'supernet.training.optimizers:Sgd'}\nbatch: 32"),
        ("{epochs: 1, rate: 0.1}", "{rate: 0.1, epochs: 1}", "{epochs: 1, rate: 0.1, subnets: sandwich}"),
        (
            "{epochs: 1, rate: 0.1}",
            "{epochs: 1, rate: 0.1, subnets: {kind: 'supernet.training.sampling:SandwichRule'}}",
        ),
        ("start: null\n", "", "calibration: {subnets: 2, batch: 64}\n"),
    ],
    "federated/1": [
        ("rounds: 2", "rounds: 2\nalgorithm: fedavg", "rounds: 2\nalgorithm: {kind: 'federated.algorithms:FedAvg'}"),
        ("rounds: 2", "rounds: 2\npartition: iid", "rounds: 2\nsubnets: {kind: largest}", "rounds: 2\nprivacy: null"),
        ("rounds: 2", "rounds: 2\nevaluation: {every: 1}", "patience_s: 86400\nrounds: 2"),
        (f"topology: {ROOT}/topologies/classical.yaml", "topology: classical", "topology: {use: classical, roles: {}}"),
    ],
}
"""Pieces of the files, and what says the same in other words."""


@pytest.mark.parametrize("schema", SAME)
def test_other_words_for_the_same_are_the_same_run(schema: str, tmp_path: Path) -> None:
    text = (
        FILES[schema]
        .replace("[slackfit]", "[slackfit]")
        .replace("policies: [slackfit]", "policies:\n  - {use: slackfit}")
    )
    first = ids(tmp_path, text)
    for piece, *others in SAME[schema]:
        assert piece in text
        for other in others:
            assert ids(tmp_path, text.replace(piece, other)) == first, other
    lines = text.splitlines()
    if schema != "experiment/1":  # each key is one line there
        assert ids(tmp_path, "\n".join([lines[0], *reversed(lines[1:])])) == first
    assert ids(tmp_path, re.sub("name: small", "name: other", text)) == first
    (tmp_path / "elsewhere").mkdir()
    assert ids(tmp_path / "elsewhere", text) == first


def test_the_short_name_of_a_policy_is_its_class(tmp_path: Path) -> None:
    short = ids(tmp_path, EXPERIMENT)
    assert ids(tmp_path, EXPERIMENT, "policies=['policies.slackfit:SlackFit']") == short
    assert ids(tmp_path, EXPERIMENT, "policies=[{use: 'policies.slackfit:SlackFit', params: {buckets: 3}}]") == short
    assert ids(tmp_path, EXPERIMENT, "policies=[{use: slackfit, params: {buckets: 21}}]") != short


OWN = {
    "own_data.py": """\
from dataclasses import dataclass
from own_helper import LEFT_OUT
from supernet.data.digits import Digits

@dataclass(frozen=True, slots=True)
class Mine(Digits):
    left_out: int = LEFT_OUT
""",
    "own_family.py": """\
from dataclasses import dataclass
from supernet.families.cnn import CnnSmall

@dataclass(frozen=True, slots=True)
class Mine(CnnSmall):
    pass
""",
    "own_algorithm.py": """\
from dataclasses import dataclass
from federated.algorithms import FedAvg

@dataclass(frozen=True)
class Mine(FedAvg):
    pass
""",
    "own_rule.py": """\
from dataclasses import dataclass
from supernet.training.sampling import SandwichRule

@dataclass(frozen=True, slots=True)
class Mine(SandwichRule):
    pass
""",
    "own_program.py": """\
from dataclasses import dataclass
from federated.programs import Trainer

@dataclass
class Mine(Trainer):
    pass
""",
    "own_helper.py": "LEFT_OUT = 3\n",
    "unrelated.py": "",
}
"""Own code of all sorts; one of them imports another."""


def own_ids(folder: Path) -> list[str]:
    """Return the ids of a training and of a federated one, whose modules are imported as they are now."""
    forget_modules()
    return [read_job(folder / name).runs[0].id for name in ("training.yaml", "federated.yaml")]


def test_an_edit_of_own_code_is_another_training(tmp_path: Path) -> None:
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    training = FILES["training/1"].replace("kind: digits", "kind: 'own_data:Mine'")
    training = training.replace("kind: cnn_small", "kind: 'own_family:Mine'")
    (tmp_path / "training.yaml").write_text(training.replace("rate: 0.1", "rate: 0.1, subnets: 'own_rule:Mine'"))
    (tmp_path / "classical.yaml").write_text((ROOT / "topologies" / "classical.yaml").read_text())
    program = "topology: {use: classical.yaml, roles: {trainer: {program: 'own_program:Mine'}}}"
    federated = re.sub("topology: .*", program, FILES["federated/1"])
    (tmp_path / "federated.yaml").write_text(federated + "algorithm: 'own_algorithm:Mine'\n")
    first = own_ids(tmp_path)
    changes = {
        "own_data.py": (True, False),
        "own_helper.py": (True, False),
        "own_family.py": (True, False),
        "own_rule.py": (True, False),
        "own_algorithm.py": (False, True),
        "own_program.py": (False, True),
        "unrelated.py": (False, False),
    }
    for name, changed in changes.items():
        (tmp_path / name).write_text(OWN[name] + "# edited\n")
        found = own_ids(tmp_path)
        assert tuple(one != other for one, other in zip(found, first, strict=True)) == changed, name
        (tmp_path / name).write_text(OWN[name])
    assert own_ids(tmp_path) == first


COUNTED = """\
from dataclasses import dataclass
from typing import ClassVar
from sim.traces.synthetic import Poisson

BUILT = []

@dataclass(frozen=True, slots=True, kw_only=True)
class Counted(Poisson):
    kind: ClassVar[str] = "counted"

    def __post_init__(self):
        Poisson.__post_init__(self)
        BUILT.append(self)
"""


def test_objects_are_built_once_for_all_runs_of_a_point(tmp_path: Path) -> None:
    (tmp_path / "counted_source.py").write_text(COUNTED)
    text = EXPERIMENT.replace("kind: poisson", "kind: 'counted_source:Counted'")
    text = text.replace("[slackfit]", "[slackfit, infaas]")
    path = tmp_path / "small.yaml"
    path.write_text(text + "repeats: 2\nsweep: {trace.mean_qps: [50, 100, 200]}\n")
    job, store = read_job(path), Store(tmp_path / "results")
    with store.writing():
        assert run_job(job, store, jobs=1) == []
    built = sys.modules["counted_source"].BUILT
    assert len(list(store.folder.glob("*/manifest.json"))) == 3 * 2 * 2
    assert Counter(source.mean_qps for source in built) == {50: 1, 100: 1, 200: 1}


def test_the_index_names_the_runs_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT + "sweep: {cluster.workers: [1, 2]}\n")
    job, store = read_job(path, ["trace.mean_qps=60"]), Store(tmp_path / "results")
    with store.writing():
        assert run_job(job, store, jobs=1) == []
    index = json.loads((store.folder / "job.json").read_text())
    assert index["job"] == "experiment/1"
    assert [row["id"] for row in index["runs"]] == [run.id for run in job.runs]
    assert [row["swept"] for row in index["runs"]] == [{"cluster.workers": 1}, {"cluster.workers": 2}]
    assert index["overrides"] == ["trace.mean_qps=60"]
    assert index["content"]["trace"]["mean_qps"] == 60
