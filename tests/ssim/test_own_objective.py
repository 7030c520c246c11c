"""A regression from a CSV file, with losses and metrics by name and of one's own, through the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="trainings need the extra [torch]")

from sim.base.errors import SsimError  # noqa: E402 - after torch is known to be there
from ssim.files.own_modules import forget_modules  # noqa: E402
from ssim.jobs.reading import read_job  # noqa: E402
from supernet.data.dataset import hold_out  # noqa: E402 - after torch is known to be there
from tests.ssim.in_process import ssim  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

NET = """\
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
    def forward(self, x):
        return x + self.down(self.up(x).relu())

def net(width=8, outputs=1):
    return nn.Sequential(nn.Linear(2, width), Block(width), Block(width), nn.Linear(width, outputs))

def quantile(outputs, labels):
    return torch.maximum(0.9 * (labels - outputs), 0.1 * (outputs - labels))

def within(outputs, labels):
    return 100 * ((outputs - labels).abs() < 0.5).double().mean()
"""

TRAINING = """\
schema: training/1
name: prices
seed: 1
data: {kind: csv, path: prices.csv, label: price, regression: true}
family: {kind: "net:net", example: [2]}
loss: mse_loss
batch: 16
optimizer: adamw
phases: [{epochs: 5, rate: 0.03}]
calibration: {subnets: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    forget_modules()
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    rows = [f"{a:.4f},{b:.4f},{2 * a - b:.4f}" for a, b in x.tolist()]
    (tmp_path / "prices.csv").write_text("\n".join(["a,b,price", *rows]) + "\n")
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "prices.yaml").write_text(TRAINING)
    return tmp_path


def test_a_regression_is_trained_and_scored_by_what_the_file_names(folder: Path) -> None:
    trained = ssim(folder, "supernet", "train", "prices.yaml")
    assert trained.returncode == 0, trained.stderr
    assert "prices: r2 in %, csv, test split" in trained.stdout
    assert float(trained.stdout.split()[-1]) > 70
    changes = ("phases=[{epochs: 1, rate: 0.01}]", "loss=net:quantile", "metric=net:within", "name=own")
    own = [word for change in changes for word in ("--set", change)]
    trained = ssim(folder, "supernet", "train", "prices.yaml", *own)
    assert "own: within in %, csv, test split" in trained.stdout, trained.stderr
    assert 0 <= float(trained.stdout.split()[-1]) <= 100


def test_loss_metric_and_their_code_are_part_of_the_id(folder: Path) -> None:
    path, changes = folder / "prices.yaml", ["loss=l1_loss", "loss=net:quantile", "metric=net:within"]
    ids = [read_job(path, tuple(change)).runs[0].id for change in ([], *([change] for change in changes))]
    assert len(set(ids)) == 4
    assert read_job(path, ("metric=r2",)).runs[0].id == ids[0]
    text = "import net\n\ndef own(outputs, labels):\n    return net.quantile(outputs, labels)\n"
    (folder / "losses.py").write_text(text)
    before = read_job(path, ("loss=losses:own",)).runs[0].id
    (folder / "losses.py").write_text(f"{text}# changed\n")
    forget_modules()
    assert read_job(path, ("loss=losses:own",)).runs[0].id != before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("loss=mse", "loss: unknown loss .*did you mean 'mse_loss'"),
        ("loss=cross_entropy", r"loss: is for labels that are classes \(cross_entropy\); mse_loss"),
        ("data.regression=false", r"loss: is for labels that are numbers \(mse_loss\); data: {regression: true"),
        ("metric=accuracy", r"metric: is for labels that are classes \(accuracy\); r2"),
        ("metric=net:witin", "metric: net has no function of this name .*did you mean 'within'"),
        ("loss=nets:quantile", "loss: .*nets"),
        ("smoothing=0.1", "smoothing: not used by this loss"),
        ("data.classes=[1, 2]", "classes: labels are numbers in a regression"),
    ],
)
def test_what_does_not_fit_is_told_by_line(folder: Path, change: str, told: str) -> None:
    with pytest.raises(SsimError, match=told):
        read_job(folder / "prices.yaml", (change,))


@pytest.mark.parametrize("label", ["cheap", "1,200", "1e39", "nan"])
def test_a_label_that_is_not_a_number_is_told_with_its_row(folder: Path, label: str) -> None:
    text = (folder / "prices.csv").read_text().splitlines()
    (folder / "prices.csv").write_text("\n".join([*text[:3], f'1,2,"{label}"', *text[4:]]) + "\n")
    ended = ssim(folder, "supernet", "train", "prices.yaml")
    assert ended.returncode == 2
    assert f"prices.csv, row 3: label not a finite number ({label!r}); a number such as 1200" in ended.stderr


@pytest.mark.parametrize("name", ["training", "test"])
def test_labels_that_are_all_equal_are_refused_before_training(folder: Path, name: str) -> None:
    lines = (folder / "prices.csv").read_text().splitlines()
    for row in hold_out(200, 0.2, None, "")[name == "test"].tolist():
        lines[row + 1] = lines[row + 1].rpartition(",")[0] + ",3"
    (folder / "prices.csv").write_text("\n".join(lines))
    ended = ssim(folder, "supernet", "train", "prices.yaml")
    assert ended.returncode == 2
    assert f"all labels of the {name} examples are equal: R² has no meaning (3)" in ended.stderr
    assert not [*folder.glob("results/**/progress.pt")]


def test_outputs_of_another_shape_are_not_broadcast(folder: Path) -> None:
    ended = ssim(folder, "supernet", "train", "prices.yaml", "--set", "family.outputs=3")
    assert ended.returncode != 0
    assert "labels do not fit the network's result (labels of shape (2,), outputs of shape (2, 3)" in ended.stderr
