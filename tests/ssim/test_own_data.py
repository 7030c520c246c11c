"""Clients with data and parameters of their own: what each of them opens, what is checked, and what comes of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from sim.base.parquet import read_parquet  # noqa: E402 - after torch is known to be there
from ssim.jobs.reading import read_job  # noqa: E402
from supernet import checkpoint  # noqa: E402
from tests.ssim.in_process import assert_refused, ssim  # noqa: E402
from tests.test_docs import ROOT  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from supernet.data.source import Examples, Splits, located

@dataclass(frozen=True)
class Csv:
    path: str = "all.csv"
    def located(self, folder):
        return replace(self, path=located(folder, self.path))
    def identity(self):
        return {"file": hashlib.sha256(Path(self.path).read_bytes()).hexdigest()}
    def splits(self, seed):
        rows = torch.from_numpy(np.loadtxt(self.path, delimiter=",", ndmin=2, dtype=np.float32))
        examples = Examples((rows[:, :-1].reshape(-1, 1, 8, 8).contiguous(),), rows[:, -1].long())
        begin, end = int(0.6 * len(rows)), int(0.8 * len(rows))
        return Splits(*(examples.select(torch.arange(a, b)) for a, b in ((0, begin), (begin, end), (end, len(rows)))))

@dataclass(frozen=True)
class Third(Csv):
    path: str = "c.csv"
"""
OWN = f"""\
schema: federated/1
name: own
seed: 3
topology:
  use: {ROOT / "topologies" / "classical.yaml"}
  roles: {{trainer: {{config: {{batch: 16}}}}}}
  datasets:
    trainer: {{default: [{{id: a, ref: a.csv}}, {{id: b, ref: b.csv, size: 60}}, {{id: c, ref: "mine:Third"}}]}}
data: {{kind: "mine:Csv"}}
family: {{kind: cnn_small, width: 4, hidden: 8}}
rounds: 3
calibration: {{subnets: 2, examples: 32}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "own.yaml").write_text(OWN)
    chance = np.random.default_rng(0)
    for name, count in {"all": 50, "a": 50, "b": 100, "c": 150}.items():
        rows = np.c_[chance.random((count, 64)), chance.integers(10, size=count)]
        np.savetxt(tmp_path / f"{name}.csv", rows, delimiter=",", fmt="%.4f")
    return tmp_path


def stored(folder: Path, *overrides: str) -> Path:
    return folder / "results" / "own" / read_job(folder / "own.yaml", overrides).runs[0].id


def test_each_client_trains_and_is_measured_on_its_own_file(folder: Path) -> None:
    ended = ssim(folder, "train", "own.yaml")
    assert ended.returncode == 0, ended.stderr
    assert "3 clients, on examples of their own: mean " in ended.stdout
    held = read_parquet(stored(folder) / "holdings.parquet").to_pandas().groupby("party")["examples"].sum()
    assert held.to_dict() == {"a": 30, "b": 60, "c": 90}
    weights = read_parquet(stored(folder) / "parties.parquet").to_pandas().groupby("party")["weight"].first()
    assert sorted(weights) == [30, 60, 90]
    clients = read_parquet(stored(folder) / "clients.parquet").to_pandas()
    assert clients.groupby("party")["examples"].first().to_dict() == {"a": 10, "b": 20, "c": 30}
    assert sorted(set(clients["round"])) == [1, 2]
    assert (stored(folder) / "figures" / "clients.png").exists()


def test_a_client_that_is_not_selected_opens_nothing_of_the_others(folder: Path) -> None:
    """A context opens the data of a client when it is looked up, and of no other."""
    (run,) = read_job(folder / "own.yaml").runs
    (folder / "b.csv").unlink()
    assert len(run.context.shards["a"]) == 30
    with pytest.raises(FileNotFoundError):
        _ = run.context.shards["b"]


def test_an_edited_file_is_another_training(folder: Path) -> None:
    before = stored(folder)
    (folder / "b.csv").write_text((folder / "b.csv").read_text().replace("0.1", "0.2", 1))
    assert stored(folder) != before


@pytest.mark.parametrize(
    ("datasets", "says"),
    [
        ("[{id: a, ref: no.csv}]", "default.0.ref: file not found"),
        ("[{id: a, ref: a.csv}, b]", "default.1: has no ref, and others have ('b')"),
        ("[{id: a, ref: 'mine:Fourth'}]", "default.0.ref: mine has no class of this name"),
        ("[{id: a, ref: a.csv, size: 17}]", "the data of a: its size is another one than the description says (17)"),
        ("[{id: a, ref: strange.csv}]", "the data of a: label out of range (12); 0 to 9"),
        ("[{id: a, ref: few.csv}]", "the data of a: has no train examples"),
    ],
)
def test_data_that_do_not_fit_are_told_before_the_first_round(folder: Path, datasets: str, says: str) -> None:
    row = ",".join(["0.5"] * 64)
    (folder / "strange.csv").write_text(f"{row},12\n" * 10)
    (folder / "few.csv").write_text(f"{row},1\n")
    ended = ssim(folder, "train", "own.yaml", "--set", f"topology.datasets.trainer.default={datasets}")
    assert ended.returncode in {1, 2}
    assert says in ended.stderr
    assert "round 1" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_personal_parameters_stay_and_cost_no_bytes(folder: Path) -> None:
    personal = "personal=['classifier.*']"
    for words in ((), ("--set", personal)):
        assert ssim(folder, "train", "own.yaml", *words).returncode == 0
    shared, apart = stored(folder), stored(folder, personal)
    initial = read_job(folder / "own.yaml").runs[0].context.initial_state()
    state = checkpoint.load(apart / "supernet.pt").supernet.model.state_dict()
    assert all(torch.equal(part, state[name]) == name.startswith("classifier") for name, part in initial.items())
    own = torch.load(apart / "personal.pt")
    assert {tuple(parts) for parts in own.values()} == {("classifier.weight", "classifier.bias")}
    first, *others = (parts["classifier.weight"] for parts in own.values())
    assert not any(torch.equal(first, other) for other in others)
    sent = [json.loads((path / "manifest.json").read_text())["summary"]["bytes"]["param"] for path in (shared, apart)]
    size = sum(part.nbytes for name, part in initial.items() if name.startswith("classifier"))
    assert sent[0] - sent[1] == 3 * 3 * 2 * size  # three rounds, three clients, down and up


def test_what_is_held_out_is_not_trained_on(folder: Path) -> None:
    text = (folder / "own.yaml").read_text().replace("ref: a.csv", "size: 1").replace('ref: "mine:Third"', "size: 1")
    (folder / "own.yaml").write_text(text.replace("ref: b.csv, size: 60", "size: 1"))
    for share in (0.0, 0.2):
        (run,) = read_job(folder / "own.yaml", (f"evaluation.held_out={share}",)).runs
        sizes = [(len(shard), round(share * 10)) for shard in run.context.shards.values()]
        assert sizes == [(10 - held, held) for _, held in sizes]
        assert {id_: len(part) for id_, part in run.context.held.items()} == (
            {} if not share else dict.fromkeys("abc", 2)
        )


def test_csv_files_whose_labels_differ_have_the_same_classes(folder: Path) -> None:
    """The classes are those of `data`, though one file lacks the first; without them, a file is refused."""
    header = ",".join([*(f"x{number}" for number in range(64)), "digit"])
    for name in ("all", "a", "b"):
        rows = [line.rpartition(",") for line in (folder / f"{name}.csv").read_text().split()]
        lines = [f"{values},{int(float(label))}" for values, _, label in rows if name != "b" or float(label) > 4]
        (folder / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
    (folder / "net.py").write_text(NET)
    datasets = "topology.datasets.trainer.default=[{id: a, ref: a.csv}, {id: b, ref: b.csv}]"
    data = "data={kind: csv, path: all.csv, label: digit%s}"
    words = (
        "train",
        "own.yaml",
        "--set",
        datasets,
        "--set",
        "family={kind: 'net:Net', example: [64], insert: {widths: [0.5, 1.0]}}",
    )
    refused = ssim(folder, *words, "--set", data % "")
    assert refused.returncode == 2
    assert "each file would number its own classes" in refused.stderr
    both = ssim(folder, *words, "--set", datasets.replace("b.csv", "gone.csv"), "--set", data % "")
    assert_refused(both, "topology.datasets.trainer.default.1.ref: file not found, and each file would number its own")
    assert both.stderr.count("each file would number its own classes") == 2
    ended = ssim(folder, *words, "--set", data % ", classes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")
    assert ended.returncode == 0, ended.stderr
    (kept,) = (folder / "results" / "own").glob("seed3-*")
    held = read_parquet(kept / "holdings.parquet").to_pandas()
    assert held[(held["party"] == "b") & (held["label"] < 5)]["examples"].sum() == 0
    assert held[held["party"] == "b"]["examples"].sum() > 0


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 32), nn.Linear(32, 10)
    def forward(self, x):
        return self.head(self.hidden(x).relu())
"""
