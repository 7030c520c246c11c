"""A network of your own through the commands: shown, trained, calibrated, searched, profiled and simulated."""

from __future__ import annotations

import io
from contextlib import chdir, redirect_stderr
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="trainings need the extra [torch]")

from sim.base.errors import DataError, SpecError
from ssim.cli import main
from ssim.files.families import load_checkpoint
from ssim.files.own_modules import forget_modules
from ssim.jobs.reading import read_job
from supernet.checkpoint import write
from tests.ssim.in_process import ssim

NET = (Path(__file__).parents[1] / "supernet" / "own_factories.py").read_text(encoding="utf-8")

TRAINING = """\
schema: training/1
name: own
seed: 1
data: {kind: digits, train: 96, validation: 40}
family: {kind: "net:OwnNet", width: 4, insert: {expands: [0.5, 1.0]}}
batch: 32
optimizer: sgd
phases: [{epochs: 1, rate: 0.05}]
calibration: {examples: 64, batch: 32, subnets: 3}
search: {subnets: 3, measured: 20}
"""

EXPERIMENT = """\
schema: experiment/1
name: served
seed: 1
trace: {kind: gamma, mean_qps: 200, cv2: 1, duration_s: 1, slo_ms: 36}
cluster: {workers: 1}
latency_table: profile/table.parquet
policies: [slackfit]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, whose training has ended."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in {"net.py": NET, "own.yaml": TRAINING, "served.yaml": EXPERIMENT}.items():
        (folder / name).write_text(text)
    ended = ssim(folder, "supernet", "train", "own.yaml")
    assert ended.returncode == 0, ended.stderr
    assert "OwnNet:d3:e1.0x3" in ended.stdout
    forget_modules()
    return folder


def run_of(folder: Path) -> Path:
    (run,) = folder.glob("results/own/seed1-*")
    return run


def test_it_is_shown_with_its_costs(trained: Path) -> None:
    shown = ssim(trained, "supernet", "show", "net:OwnNet", "--set", "width=4", "OwnNet:d2:e0.5x3")
    assert "net:OwnNet: 192 subnets" in shown.stdout, shown.stderr
    assert "OwnNet:d2:e0.5x3" in shown.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_insertion_is_shown_on_a_terminal_and_nowhere_else(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["supernet", "show", "net:OwnNet", "--set", "width=4"]
    shown = {}
    for stream in (Terminal(), io.StringIO()):
        forget_modules()
        with chdir(trained), redirect_stderr(stream), pytest.raises(SystemExit):
            main(words)
        shown[type(stream)] = stream.getvalue()
    assert "net:OwnNet: inserting operators" in shown[Terminal]
    assert not shown[io.StringIO]
    assert "subnets" in capsys.readouterr().out


@pytest.mark.usefixtures("all_formats")
def test_from_training_to_simulation(trained: Path) -> None:
    assert "stored already" in ssim(trained, "supernet", "train", "own.yaml").stderr
    calibrated = ssim(trained, "supernet", "calibrate", "own.yaml", "OwnNet:d2:e1.0x3")
    assert "OwnNet:d2:e1.0x3" in calibrated.stdout, calibrated.stderr
    searched = ssim(trained, "supernet", "search", "own.yaml")
    assert searched.returncode == 0, searched.stderr
    assert "14 subnets measured" in searched.stdout  # all networks that there are: 2 + 4 + 8
    run = str(run_of(trained).relative_to(trained))
    quick = ("--cpu", "--max-batch", "2", "--minutes", "0.1", "--precision", "0.9", "-o", "profile")
    profiled = ssim(trained, "profile", run, *quick, "--subnets", "3")
    assert profiled.returncode == 0, profiled.stderr
    assert profiled.stdout.count("OwnNet:") == 3
    served = ssim(trained, "run", "served.yaml", "--no-figures")
    assert served.returncode == 0, served.stderr
    assert "slackfit" in served.stdout


@pytest.mark.usefixtures("all_formats")
def test_subnets_to_profile_are_a_number_ids_or_accuracies(trained: Path, tmp_path: Path) -> None:
    (trained / "accuracies.csv").write_text("subnet, accuracy\nOwnNet:d3:e1.0x3, 80\nOwnNet:d1:e0.25x3, 70.5\n")
    quick = ("--cpu", "--set", "width=4", "--max-batch", "1", "--minutes", "0.1", "--precision", "0.9")
    ended = ssim(trained, "profile", "net:OwnNet", *quick, "-o", str(tmp_path / "p"), "--subnets", "accuracies.csv")
    assert "70.50" in ended.stdout, ended.stderr
    ended = ssim(trained, "profile", "net:OwnNet", *quick, "-o", str(tmp_path / "q"), "--subnets", "2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("unknown") >= 2
    assert "no table, since accuracies are unknown: --subnets FILE.csv" in ended.stdout
    assert (tmp_path / "q" / "cells.csv").read_text().count("OwnNet:d") == 2
    assert not (tmp_path / "q" / "table.parquet").exists()
    ended = ssim(trained, "profile", "net:OwnNet", *quick, "-o", str(tmp_path / "q"), "--subnets", "accuracies.csv")
    assert (tmp_path / "q" / "table.parquet").exists(), ended.stderr
    ids = "OwnNet:d3:e1.0x3 OwnNet:d1:e1.0x3"
    ended = ssim(trained, "profile", str(run_of(trained)), "--cpu", "-o", str(tmp_path / "r"), "--subnets", ids)
    assert "accuracy unknown (OwnNet:d1:e1.0x3); `ssim supernet calibrate` measures it" in ended.stderr
    for text, told in {
        "subnet,accuracy\n": "has no rows",
        "subnet,accuracy\nOwnNet:d3:e1.0x3,\n": ":2: accuracy is not a number",
        "subnet,accuracy\nOwnNet:d9:e1.0x3,5\n": "not a choice",
        "subnet,accuracy\nOwnNet:d3:e1.0x3,5\nOwnNet:d3:e1.0x3,6\n": ":3: duplicate subnet",
    }.items():
        (trained / "accuracies.csv").write_text(text)
        ended = ssim(trained, "profile", "net:OwnNet", *quick, "-o", str(tmp_path / "s"), "--subnets", "accuracies.csv")
        assert ended.returncode == 2
        assert told in ended.stderr


def test_changed_code_is_another_training_and_does_not_read_the_old_one(trained: Path, tmp_path: Path) -> None:
    path, before = run_of(trained) / "supernet.pt", read_job(trained / "own.yaml").runs[0].id
    assert load_checkpoint(path, trained).family.space.family == "OwnNet"
    forget_modules()
    for name in ("net.py", "own.yaml"):
        (tmp_path / name).write_text((trained / name).read_text() + "\n# changed\n")
    assert read_job(tmp_path / "own.yaml").runs[0].id != before
    with pytest.raises(DataError, match="code of net:OwnNet is not that with which it was stored"):
        load_checkpoint(path, tmp_path)
    forget_modules()
    with pytest.raises(DataError, match="not found in"):
        load_checkpoint(path, tmp_path.parent)


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "torch.hub:load"])
def test_a_checkpoint_can_not_have_a_function_called_that_returns_no_network(tmp_path: Path, name: str) -> None:
    options = {"command": f"touch {tmp_path / 'harm'}"}
    write(tmp_path / "net.pt", {"schema": "supernet/1", "family": name, "options": options, "state": {}, "more": {}})
    with pytest.raises((SpecError, DataError), match=r"is not declared to return a network|is not that with which"):
        load_checkpoint(tmp_path / "net.pt", tmp_path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ('"net:raises"', "raised ZeroDivisionError: integer division or modulo by zero (net.py:"),
        ('"net:OwnNett"', "net has no class or function of this name ('OwnNett'); did you mean 'OwnNet'?"),
        ('{kind: "net:OwnNet", widht: 4}', "unknown parameter ('widht'); did you mean 'width'?"),
        ('{kind: "net:needs_width", example: [1, 8, 8]}', "needs the parameter ('width')"),
        ('{kind: "net:OwnNet", example: 8}', "own.yaml:5:39: family.example: not a shape (8)"),
        ('{kind: "net:OwnNet", insert: {widths: 1}}', "family.insert.widths: must be a list (1)"),
        ('{kind: "net:OwnNet", insert: {kept: [stem]}}', "family.insert.kept: unknown parameter of InsertionOptions"),
        ('{kind: "net:OwnNet", insert: {keep: [stam]}}', "keep: matches no module ('stam'); did you mean 'stem'?"),
        ('{kind: "net:RandomInEval"}', "gives other results each time"),
    ],
)
def test_a_network_that_can_not_be_used_is_refused_when_the_file_is_read(
    tmp_path: Path, family: str, told: str
) -> None:
    (tmp_path / "net.py").write_text(NET)
    wrong = TRAINING.replace('{kind: "net:OwnNet", width: 4, insert: {expands: [0.5, 1.0]}}', family)
    (tmp_path / "own.yaml").write_text(wrong)
    ended = ssim(tmp_path, "supernet", "train", "own.yaml")
    assert ended.returncode == 2
    assert told in ended.stderr
    assert not (tmp_path / "results").exists()


def test_classes_that_the_network_lacks_are_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "own.yaml").write_text(TRAINING.replace("width: 4", "classes: 3"))
    ended = ssim(tmp_path, "supernet", "train", "own.yaml")
    assert ended.returncode == 2
    assert (
        "data: have more classes than the network (labels up to 9, logits of shape (2, 3)); 10 classes" in ended.stderr
    )


FEDERATED = """\
schema: federated/1
name: clients
seed: 1
topology: {use: classical, roles: {trainer: {config: {epochs: 1, batch: 16, rate: 0.1}}}}
data: net:Shifted
partition: iid
family: {kind: "net:OwnNet", width: 4}
algorithm: fedavg
rounds: 1
calibration: {examples: 64, batch: 32, subnets: 2}
"""

SHIFTED = """\

class Shifted(torch.utils.data.Dataset):
    def __init__(self, split):
        digits = load_digits()
        part = {"train": slice(0, 200), "validation": slice(200, 240), "test": slice(240, 280)}[split]
        self.images, self.targets, self.split = digits.images[part] / 8 - 1, digits.target[part], split

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image = torch.tensor(self.images[index], dtype=torch.float32)[None]
        return (image.roll(int(torch.randint(0, 2, ())), 2) if self.split == "train" else image), self.targets[index]
"""


@pytest.mark.slow
def test_clients_train_an_own_network_on_own_data_that_is_read_when_used(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(f"{NET}\nfrom sklearn.datasets import load_digits\n{SHIFTED}")
    (tmp_path / "clients.yaml").write_text(FEDERATED)
    ended = ssim(tmp_path, "train", "clients.yaml")
    assert ended.returncode == 0, ended.stderr
    assert "OwnNet:d1:e0.25x3 *" in ended.stdout
    assert "OwnNet:d3:e1.0x3 " in ended.stdout
    assert "*: never trained" in ended.stdout
