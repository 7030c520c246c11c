"""`ssim run` with files of every kind: sweeps, repeats, several at once, failures, interruptions, other machines."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="three of the four kinds need the extra [torch]")

from ssim.jobs.job import KINDS  # noqa: E402 - after torch is known to be there
from ssim.jobs.reading import read_job  # noqa: E402
from ssim.results.store import Store  # noqa: E402
from tests.ssim.in_process import ssim  # noqa: E402
from tests.ssim.test_settings import FILES, written  # noqa: E402
from tests.test_docs import ROOT  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from ssim.jobs.job import Job

OWN = """\
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from supernet.data.digits import Digits
from supernet.training.sampling import SandwichRule

CALLS = []


def call(number):
    \"\"\"Send a signal in the call of this number, if the folder has a file that names one.\"\"\"
    CALLS.append(None)
    path = Path(__file__).with_name("signal")
    if len(CALLS) == number and path.exists():
        name = path.read_text()
        path.unlink()
        os.kill(os.getpid(), signal.Signals[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(SandwichRule):
    \"\"\"For trainings.\"\"\"

    def draw(self, space, rng):
        call(5)  # three steps are an epoch
        return SandwichRule.draw(self, space, rng)


@dataclass(frozen=True)
class Assignment:
    \"\"\"For federated trainings.\"\"\"

    def assign(self, parties, space, memory, rng):
        call(3)
        return dict.fromkeys(parties, space.largest.id)


@dataclass(frozen=True, slots=True)
class NoEight(Digits):
    \"\"\"Data that there are not for each seed.\"\"\"

    def splits(self, seed):
        if seed == 8:
            raise LookupError("no data today")
        return Digits.splits(self, seed)
"""

TRAININGS = {
    "training/1": """\
schema: training/1
name: small
seed: 7
repeats: 2
data: {kind: digits, train: 96}
family: {kind: cnn_small, width: 4, hidden: 16}
batch: 32
phases:
  - {epochs: 1, rate: 0.05, widths: 1, subnets: "own_pieces:Rule"}
  - {epochs: 1, rate: 0.05, subnets: "own_pieces:Rule"}
calibration: {examples: 64, batch: 32, subnets: 2}
""",
    "federated/1": f"""\
schema: federated/1
name: small
seed: 7
repeats: 2
topology: {{use: {ROOT / "topologies" / "classical.yaml"}, datasets: {{trainer: {{default: 2}}}}}}
data: {{kind: digits, train: 96}}
family: {{kind: cnn_small, width: 4, hidden: 16}}
subnets: "own_pieces:Assignment"
rounds: 4
checkpoint: 1
calibration: {{examples: 64, batch: 32, subnets: 2}}
""",
}
SWEEPS = {
    "training/1": "sweep: {phases.1.rate: [0.05, 0.1]}\n",
    "federated/1": "sweep: {partition.kind: [iid, quantity]}\n",
}
STORED = {
    "training/1": ("supernet.pt", "losses.parquet", "accuracies.parquet"),
    "federated/1": ("supernet.pt", "rounds.parquet", "progress.parquet", "traffic.parquet", "accuracies.parquet"),
}

trainings = pytest.mark.parametrize("schema", TRAININGS)


def sometimes(*values: object) -> object:
    """What is like another case, and starts processes that import torch."""
    return pytest.param(*values, marks=pytest.mark.slow)


def begun(folder: Path, schema: str, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "own_pieces.py").write_text(OWN)
    path = folder / "small.yaml"
    path.write_text(TRAININGS[schema] + more)
    return path


@pytest.fixture(autouse=True)
def _own_pieces_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a module of this name in its folder."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_pieces", raising=False)


def assert_same(job: Job, *folders: Path) -> None:
    """Check that the runs of a job are stored alike: figures and weights byte for byte, identities too."""
    one, *others = [Store(folder / "small") for folder in folders]
    for run in job.runs:
        expected = one.manifest(run.id)
        assert expected is not None
        for other in others:
            found = other.manifest(run.id)
            assert found is not None
            assert (found["identity"], found["summary"]) == (expected["identity"], expected["summary"])
            for name in STORED[job.schema]:
                assert (one.folder / run.id / name).read_bytes() == (other.folder / run.id / name).read_bytes(), name


@pytest.mark.parametrize("schema", ["training/1", sometimes("federated/1")])
def test_a_sweep_of_trainings_by_one_and_by_two(schema: str, tmp_path: Path) -> None:
    path = begun(tmp_path, schema, SWEEPS[schema])
    job = read_job(path)
    assert [(run.seed, *run.swept.values()) for run in job.runs] == [
        (seed, value) for value in next(iter(job.content["sweep"].values())) for seed in (7, 8)
    ]
    ended = ssim(tmp_path, "run", "small.yaml", "--jobs", "1", "--out", "one")
    assert ended.returncode == 0, ended.stderr
    for value in next(iter(job.content["sweep"].values())):
        assert f"small: {job.swept[0]} = {value}" in ended.stdout
    both = ssim(tmp_path, "run", "small.yaml", "--jobs", "2", "--out", "two")
    assert both.returncode == 0, both.stderr
    assert "[4/4]" in both.stderr
    assert both.stdout.replace("two/", "one/") == ended.stdout
    assert_same(job, tmp_path / "one", tmp_path / "two")
    again = ssim(tmp_path, "run", "small.yaml", "--jobs", "2", "--out", "two")
    assert (again.returncode, again.stdout) == (0, both.stdout)
    assert "4 of 4 runs are stored already" in again.stderr
    status = ssim(tmp_path, "results", "status", "small", "--out", "two")
    assert status.returncode == 0
    assert "small: 4 of 4 runs stored; no process is writing" in status.stdout


@pytest.mark.parametrize(
    ("schema", "jobs"),
    [("training/1", "1"), ("federated/1", "1"), sometimes("training/1", "2"), sometimes("federated/1", "2")],
)
def test_a_training_that_fails_leaves_the_others(schema: str, jobs: str, tmp_path: Path) -> None:
    path = begun(tmp_path, schema)
    path.write_text(path.read_text().replace("kind: digits", "kind: 'own_pieces:NoEight'"))
    ended = ssim(tmp_path, "run", "small.yaml", "--jobs", jobs, "--no-figures")
    assert ended.returncode == 1
    line = OWN.splitlines().index('            raise LookupError("no data today")') + 1
    told = f"{schema[:-2]}: raised LookupError: no data today (own_pieces.py:{line}, in splits)"
    assert ended.stderr.splitlines()[-2:] == [f"ssim: small, seed 8: {told}", "ssim: 1 of 2 runs failed"]
    assert "Traceback" not in ended.stderr
    assert "small: accuracy in %" in ended.stdout  # of the other
    assert len(list((tmp_path / "results/small").glob("*/manifest.json"))) == 1
    status = ssim(tmp_path, "results", "status", "small")
    assert status.returncode == 1
    assert f"failed: small, seed 8: {told}" in status.stdout
    again = ssim(tmp_path, "run", "small.yaml", "--no-figures", "--debug", "--jobs", "1")
    assert "1 of 2 runs are stored already" in again.stderr
    assert f'own_pieces.py", line {line}' in again.stderr


@pytest.mark.parametrize(
    ("schema", "how"),
    [
        ("training/1", "SIGINT"),
        ("federated/1", "SIGKILL"),
        sometimes("training/1", "SIGKILL"),
        sometimes("federated/1", "SIGINT"),
    ],
)
def test_a_training_that_is_ended_goes_on_to_the_same_bytes(schema: str, how: str, tmp_path: Path) -> None:
    """The signal comes after the first checkpoint and before the last."""
    begun(tmp_path / "whole", schema)
    path = begun(tmp_path / "ended", schema)
    (tmp_path / "ended/signal").write_text(how)
    words = ("run", "small.yaml", "--jobs", "1", "--no-figures")
    command = [sys.executable, "-m", "ssim", *words]
    ended = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=300, check=False)
    if how == "SIGINT":
        assert ended.returncode == 1, ended.stderr
        assert ended.stderr.splitlines()[-1].startswith("ssim: interrupted: finished runs are stored")
    else:
        assert ended.returncode == -signal.SIGKILL
    store = Store(path.parent / "results/small")
    (progress,) = store.folder.glob("*/progress.pt")
    assert not list(store.folder.glob("*/manifest.json"))
    (progress.parent / ".progress.pt.1.tmp").write_bytes(b"half")  # as a kill in the middle of writing leaves
    assert ssim(tmp_path / "ended", *words).returncode == 0
    manifest = store.manifest(progress.parent.name)
    assert manifest is not None
    assert manifest["circumstances"].get("resumed") or manifest["circumstances"].get("resumed_after")
    assert not list((tmp_path / "ended").rglob("*.tmp"))
    job = read_job(path)
    del sys.modules["own_pieces"]
    sys.path.remove(str(path.parent))
    assert ssim(tmp_path / "whole", *words).returncode == 0
    assert_same(job, tmp_path / "whole/results", tmp_path / "ended/results")


def test_a_damaged_training_is_done_again_where_it_is_damaged(tmp_path: Path) -> None:
    job = read_job(begun(tmp_path, "training/1"))
    words = ("run", "small.yaml", "--jobs", "1", "--out", "out")
    said = ssim(tmp_path, *words).stdout
    first, second = (tmp_path / "out/small" / run.id for run in job.runs)
    losses, weights = (first / "losses.parquet").read_bytes(), (second / "supernet.pt").read_bytes()
    (first / "losses.parquet").write_bytes(losses[:50])
    (second / "accuracies.parquet").write_bytes(b"PAR1")
    assert "small: 1 of 2 runs stored" in ssim(tmp_path, "results", "status", "small", "--out", "out").stdout
    again = ssim(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    assert again.stdout == said
    assert (first / "losses.parquet").read_bytes() == losses
    assert (second / "supernet.pt").read_bytes() == weights


@pytest.mark.usefixtures("all_formats")
def test_a_sweep_of_profiles_has_a_table_for_each(tmp_path: Path) -> None:
    path = written(tmp_path, "profile/1")
    with path.open("a") as file:
        file.write("max_batch: 1\nminutes: 0.02\nprecision: 0.9\nsweep: {dtype: [fp32, bf16]}\n")
    job = read_job(path)
    ended = ssim(tmp_path, "run", "small.yaml", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    for run in job.runs:
        assert f"Table: results/small/{run.id}/table.parquet" in ended.stdout
        assert (tmp_path / "results/small" / run.id / "report.md").exists()
    short = ssim(tmp_path, "run", "small.yaml", "--jobs", "1", "--force", "--set", "minutes=1e-9")
    assert short.returncode == 1
    assert "minutes: ran out before every cell was measured once" in short.stderr
    assert "ssim: 2 of 2 runs failed" in short.stderr
    assert "2 of 2" not in ssim(tmp_path, "results", "status", "small").stdout


COMMANDS = {
    ("run",): None,
    ("capacity",): "experiment/1",
    ("optimum",): "experiment/1",
    ("supernet", "train"): "training/1",
    ("supernet", "calibrate"): "training/1",
    ("supernet", "search"): "training/1",
    ("train",): "federated/1",
    ("topology", "check"): "topology/1",
    ("topology", "expand"): "topology/1",
}
"""Commands that take a file, and the schema of those that they take; None for all jobs."""
TAKEN_BY = {
    "experiment/1": "ssim run",
    "training/1": "ssim supernet train",
    "federated/1": "ssim train",
    "profile/1": "ssim run",
    "topology/1": "ssim topology check",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_file_for_another_command_is_told_which(words: tuple[str, ...], tmp_path: Path) -> None:
    texts = {**FILES, "topology/1": (ROOT / "topologies" / "classical.yaml").read_text()}
    for schema, text in texts.items():
        if schema == COMMANDS[words] or (COMMANDS[words] is None and schema in KINDS):
            continue
        (tmp_path / "small.yaml").write_text(text)
        ended = ssim(tmp_path, *words, "small.yaml")
        assert ended.returncode == 2
        assert ended.stdout == ""
        assert ended.stderr == (
            f"ssim: small.yaml: is a file of schema {schema}; use `{TAKEN_BY[schema]} small.yaml`\n"
        ), (words, schema)
        assert not (tmp_path / "results").exists()


def test_a_file_in_place_of_a_supernet_is_told_what_runs_it(tmp_path: Path) -> None:
    written(tmp_path, "profile/1")
    ended = ssim(tmp_path, "profile", "small.yaml", "--cpu")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "ssim: small.yaml: is a YAML file, not a supernet; use `ssim run small.yaml`\n"


@pytest.mark.slow
@trainings
def test_trainings_run_on_other_machines(schema: str, tmp_path: Path) -> None:
    """On a cluster of Dask that is started here."""
    pytest.importorskip("distributed", reason="this backend needs the extra [dask]")
    path = begun(tmp_path, schema)
    words = ("run", "small.yaml", "--no-figures", "--jobs", "2")
    assert ssim(tmp_path, *words, "--out", "here").returncode == 0
    command = [sys.executable, "-m", "ssim", *words, "--backend", "dask", "--out", "there"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "[2/2]" in ended.stderr
    job = read_job(path)
    assert_same(job, tmp_path / "here", tmp_path / "there")
    manifest = json.loads((tmp_path / "there/small" / job.runs[0].id / "manifest.json").read_text())
    assert manifest["circumstances"]["threads"] == 1
