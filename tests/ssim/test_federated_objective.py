"""Federated trainings on a CSV file with a column of clients: regressions, losses and metrics of one's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from sim.base.errors import SsimError  # noqa: E402 - after torch is known to be there
from sim.base.parquet import read_parquet  # noqa: E402
from ssim.files.own_modules import forget_modules  # noqa: E402
from ssim.jobs.reading import read_job  # noqa: E402
from supernet.data.csv_file import CsvFile  # noqa: E402
from supernet.training.objective import CLASS_LOSSES, NUMBER_LOSSES, Objective  # noqa: E402
from tests.ssim.in_process import ssim  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

NET = """\
import torch
from torch import nn

def net(outputs=1):
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, outputs))

def contrastive(outputs, labels):
    apart = 1 - outputs @ outputs.T / (outputs.norm(dim=1)[:, None] * outputs.norm(dim=1) + 1e-6)
    same = labels[:, None] == labels
    return torch.where(same, apart, (0.5 - apart).relu()).mean(1)

def nearest(outputs, labels):
    apart = torch.cdist(outputs, outputs).fill_diagonal_(torch.inf)
    return 100 * (labels[apart.argmin(1)] == labels).double().mean()
"""

FILE = """\
schema: federated/1
name: stays
seed: 1
topology:
  use: classical
  roles: {trainer: {config: {epochs: 3, batch: 16, rate: 0.05}}}
  datasets: {trainer: {default: [north, south, east]}}
data: {kind: csv, path: stays.csv, label: days, client: hospital, regression: true}
partition: natural
loss: mse_loss
family: {kind: "net:net", example: [3], insert: {widths: [0.5, 1.0]}}
evaluation: {held_out: 0.2}
rounds: 3
calibration: {subnets: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    forget_modules()
    chance = np.random.default_rng(0)
    x, hospitals = chance.normal(size=(300, 3)), chance.choice(["north", "south", "east"], 300)
    rows = [f"{a:.4f},{h},{b:.4f},{c:.4f},{a - 2 * b:.4f}" for (a, b, c), h in zip(x, hospitals, strict=True)]
    (tmp_path / "stays.csv").write_text("\n".join(["a,hospital,b,c,days", *rows]) + "\n")
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "stays.yaml").write_text(FILE)
    return tmp_path


def progress(folder: Path, *overrides: str) -> list[float]:
    run = read_job(folder / "stays.yaml", overrides).runs[0]
    kept = folder / "results" / run.name / run.id
    return list(read_parquet(kept / "progress.parquet").to_pandas()["accuracy"])


def test_each_client_trains_on_its_rows_and_r2_is_told(folder: Path) -> None:
    ended = ssim(folder, "train", "stays.yaml")
    assert ended.returncode == 0, ended.stderr
    assert "stays: r2 in %, csv, test split" in ended.stdout
    assert progress(folder)[-1] > 80
    (run,) = read_job(folder / "stays.yaml").runs
    assert run.parts.metric_name == "r2"
    splits, kept = run.context.splits, folder / "results" / "stays" / run.id
    held = read_parquet(kept / "holdings.parquet").to_pandas()
    assert held["label"].isna().all()
    for party, count in zip(held["party"], held["examples"], strict=True):
        mine = [row for row, client in enumerate(splits.clients) if client == party]
        shard, part = run.context.shards[party].read(), splits.train.select(torch.tensor(mine)).read()
        assert count == len(shard) == len(mine) - round(0.2 * len(mine))
        together = [*shard.labels.tolist(), *run.context.held[party].read().labels.tolist()]
        assert sorted(together) == sorted(part.labels.tolist())


def test_a_client_that_would_hold_out_all_it_has_is_named(folder: Path) -> None:
    ended = ssim(folder, "train", "stays.yaml", "--set", "evaluation.held_out=0.999")
    assert ended.returncode == 2
    assert re.search(r"evaluation.held_out: leaves a client no examples .* of (north|south|east)\)", ended.stderr)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", [*CLASS_LOSSES, *NUMBER_LOSSES])
def test_losses_of_examples_have_the_mean_that_torch_computes(name: str) -> None:
    outputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6) % 4 if name in CLASS_LOSSES else outputs.flip(0)
    each = Objective(name).of_each(outputs, labels)
    assert each.shape == (6,)
    torch.testing.assert_close(each.mean(), Objective(name).of_labels(outputs, labels))


def test_a_contrastive_loss_and_a_metric_train_an_embedding(folder: Path) -> None:
    lines = (folder / "stays.csv").read_text().splitlines()
    rows = [line.rpartition(",") for line in lines[1:]]
    (folder / "stays.csv").write_text("\n".join([lines[0], *(f"{x},{int(float(y) > 0)}" for x, _, y in rows)]) + "\n")
    changes = "data.regression=false", "loss=net:contrastive", "metric=net:nearest", "family.outputs=4"
    ended = ssim(folder, "train", "stays.yaml", *(word for change in changes for word in ("--set", change)))
    assert ended.returncode == 0, ended.stderr
    assert "stays: nearest in %, csv, test split" in ended.stdout
    assert 60 < progress(folder, *changes)[-1] <= 100


def test_loss_and_metric_are_part_of_the_id(folder: Path) -> None:
    path = folder / "stays.yaml"
    changes = [(), ("loss=l1_loss",), ("loss=net:contrastive",), ("metric=net:nearest",)]
    assert len({read_job(path, change).runs[0].id for change in changes}) == len(changes)
    assert read_job(path, ("metric=r2",)).runs[0].id == read_job(path).runs[0].id


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("partition=dirichlet", r"partition: divides classes, and labels are numbers \(Dirichlet\); iid, quantity"),
        ("loss=cross_entropy", r"loss: is for labels that are classes \(cross_entropy\); mse_loss"),
        ("metric=accuracy", r"metric: is for labels that are classes \(accuracy\); r2"),
        ("loss=mse", "loss: unknown loss .*did you mean 'mse_loss'"),
        ("partition=iid", ""),
    ],
)
def test_what_does_not_fit_the_labels_is_refused(folder: Path, change: str, told: str) -> None:
    if not told:
        assert read_job(folder / "stays.yaml", (change,)).runs
        return
    with pytest.raises(SsimError, match=told):
        read_job(folder / "stays.yaml", (change,))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "topology.datasets.trainer.default=3",
            r"not in the topology \(east, north, south\); datasets: {ROLE: {default",
        ),
        ("data.client=hospitals", "no such column .*did you mean 'hospital'"),
        ("topology.roles.trainer.config.loss=nll_loss", "loss: is for labels that are classes"),
        (
            "topology.roles.trainer={program: 'federated.attacks:Attacker', config: {attack: label_flip, share: 0.4}}",
            "attack: needs labels that are classes",
        ),
    ],
)
def test_what_fits_no_client_ends_the_training(folder: Path, change: str, told: str) -> None:
    ended = ssim(folder, "train", "stays.yaml", "--set", change)
    assert ended.returncode != 0
    assert re.search(told, ended.stderr), ended.stderr


def test_the_column_of_clients_is_no_input(folder: Path) -> None:
    source = CsvFile(path="stays.csv", label="days", regression=True, client="hospital").located(folder)
    splits = source.splits(1)
    assert splits.train.first(1).read().inputs[0].shape == (1, 3)
    assert len(splits.clients or ()) == len(splits.train)
    lines = {tuple(line.split(",")) for line in (folder / "stays.csv").read_text().splitlines()[1:]}
    known = {tuple(f"{float(value):.4f}" for value in (a, b, c)): hospital for a, hospital, b, c, _ in lines}
    for row, client in zip(splits.train.read().inputs[0].tolist(), splits.clients or (), strict=True):
        assert known[tuple(f"{value:.4f}" for value in row)] == client


TEXTS = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

class Texts(TensorDataset):
    def __init__(self, split):
        texts = torch.randint(5, (90, 9), generator=torch.Generator().manual_seed(len(split)))
        texts[:, 1::2] = (texts[:, :-1:2] + 1) % 5
        labels = texts[:, 1:].clone()
        labels[:, 1::2] = -100
        super().__init__(texts[:, :-1], labels)
        self.clients = ["a", "b", "c"] * 30

def net(width=8):
    return nn.Sequential(nn.Embedding(5, width), nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 5))

net.example = torch.zeros(1, 8, dtype=torch.long)
"""


def test_clients_with_texts_train_a_language_model(folder: Path) -> None:
    (folder / "texts.py").write_text(TEXTS)
    changes = [
        "data={kind: 'texts:Texts'}",
        "loss=cross_entropy",
        "topology.datasets.trainer.default=[a, b, c]",
        "family={kind: 'texts:net', insert: {widths: [0.5, 1.0]}}",
        "topology.roles.trainer.config.rate=0.5",
    ]
    ended = ssim(folder, "train", "stays.yaml", *(word for change in changes for word in ("--set", change)))
    assert ended.returncode == 0, ended.stderr
    assert progress(folder, *changes)[-1] > 90
    changes += ["partition={kind: label_skew}", "name=skewed"]
    ended = ssim(folder, "train", "stays.yaml", *(word for change in changes for word in ("--set", change)))
    assert "partition: divides classes, and an example has several labels (LabelSkew)" in ended.stderr
