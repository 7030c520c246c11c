"""Variants of roles in files: an attacker of one's own for some clients; what is wrong is told by line and column."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from federated.attacks import Attacker  # noqa: E402 - after torch is known to be there
from sim.base.parquet import read_parquet  # noqa: E402
from ssim.files.own_modules import forget_modules  # noqa: E402
from ssim.jobs.reading import read_job  # noqa: E402
from supernet import checkpoint  # noqa: E402
from tests.ssim.in_process import assert_refused, ssim  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

MINE = """\
from dataclasses import dataclass, replace

from federated.programs import Trainer


@dataclass(eq=False)
class Inverter(Trainer):
    steps = Trainer.steps.after("train", "invert")
    scale: float = 1.0

    def invert(self, io):
        self.update = replace(self.update, delta={name: -self.scale * part for name, part in self.update.delta.items()})


@dataclass(frozen=True)
class Half:
    def combine(self, deltas, weights):
        return deltas.mean(0) / 2
"""

FILE = """\
schema: federated/1
name: attacked
seed: 1
topology:
  use: classical
  roles:
    trainer:
      config: {epochs: 1, rate: 0.05}
      variants:
        attacker: {program: "mine.py:Inverter", share: 0.25, config: {scale: 2.0}}
data: digits
family: {kind: cnn_small, width: 4, hidden: 16}
rounds: 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "attacked.yaml").write_text(FILE)
    forget_modules()
    return tmp_path


def weights(folder: Path, run: str) -> dict[str, torch.Tensor]:
    stored = checkpoint.load(folder / "results" / "attacked" / run / "supernet.pt")
    return stored.supernet.model.state_dict()


def test_an_attacker_of_ones_own_is_the_shipped_attack(folder: Path) -> None:
    """Both multiply the update by -2, for the same clients; events say which these are."""
    shipped = (
        "topology.roles.trainer.variants.attacker={program: 'federated.attacks:Attacker', share: 0.25, "
        "config: {attack: sign_flip, scale: 2.0}}"
    )
    ids = []
    for change in ((), (shipped,)):
        ended = ssim(folder, "train", "attacked.yaml", *(word for text in change for word in ("--set", text)))
        assert ended.returncode == 0, ended.stderr
        assert "2 variant" in ended.stdout
        ids.append(read_job(folder / "attacked.yaml", change).runs[0].id)
    assert ids[0] != ids[1]
    own, other = (weights(folder, id_) for id_ in ids)
    assert all(torch.equal(own[name], other[name]) for name in own)
    events = read_parquet(folder / "results" / "attacked" / ids[0] / "events.parquet").to_pylist()
    named = [(event["worker"], json.loads(event["fields"])) for event in events if event["kind"] == "variant"]
    assert len(named) == 2
    assert all(fields == {"name": "attacker"} for _, fields in named)


def test_a_rule_of_ones_own_is_named_by_its_file_or_its_module(folder: Path) -> None:
    named = ("aggregation='mine.py:Half'", "aggregation='mine:Half'", "aggregation={kind: 'mine.py:Half'}")
    assert len({read_job(folder / "attacked.yaml", (name,)).runs[0].id for name in named}) == 1
    ended = ssim(folder, "train", "attacked.yaml", "--set", "aggregation=other.py:Half")
    assert_refused(ended, "aggregation.kind: file not found")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("share: 0.25", "share: 0.05", "attacker.share: is rounded to 0 workers of 8 (0.05)"),
        ("share: 0.25", "shar: 0.25", "attacker.shar: unknown key; did you mean 'share'?"),
        ("share: 0.25", "share: 1.5", "attacker.share"),
        ("share: 0.25", "datasets: [trainer-default-8]", "attacker.datasets.0: not a dataset of trainer"),
        ("share: 0.25, ", "", "attacker: needs either share or datasets (neither)"),
        ("scale: 2.0", "scle: 2.0", "attacker.config.scle: unknown parameter of Inverter; did you mean 'scale'?"),
        ("mine.py:Inverter", "mine.py:Invert", "attacker.program: mine has no class of this name ('Invert')"),
        ("mine.py:Inverter", "mine.py:Half", "attacker.program: Half is not derived from Program"),
        ('program: "mine.py:Inverter", ', "", "variants.attacker: no program"),
        (
            'program: "mine.py:Inverter"',
            'program: "federated.programs:Aggregator"',
            "attacker.config.scale: unknown parameter of Aggregator",
        ),
    ],
)
def test_what_is_wrong_with_a_variant_is_told_by_its_line(folder: Path, old: str, new: str, told: str) -> None:
    assert old in FILE
    (folder / "attacked.yaml").write_text(FILE.replace(old, new))
    ended = ssim(folder, "train", "attacked.yaml")
    assert_refused(ended, told)
    assert "attacked.yaml:10:" in ended.stderr


def test_a_share_of_the_shipped_attack_is_that_of_the_variant(folder: Path) -> None:
    other = "{program: 'federated.attacks:Attacker', share: 0.25, config: {share: 0.5}}"
    ended = ssim(folder, "train", "attacked.yaml", "--set", f"topology.roles.trainer.variants.attacker={other}")
    assert "share: not used: all workers of a variant attack (0.5)" in ended.stderr
    assert ended.returncode != 0
    assert Attacker.share == 0.2


def test_check_names_the_variants(folder: Path) -> None:
    text = FILE.partition("topology:\n  use: classical\n")[2].partition("data:")[0].replace("\n  ", "\n")[2:]
    more = "  aggregator: {program: 'federated.programs:Aggregator'}\nchannels:\n  c: {pair: [trainer, aggregator]}\n"
    text = text.replace("config: {epochs", "data: true\n    program: 'federated.programs:Trainer'\n    config: {epochs")
    (folder / "t.yaml").write_text(f"schema: topology/1\n{text}{more}datasets: {{trainer: {{default: 8}}}}\n")
    ended = ssim(folder, "topology", "check", "t.yaml")
    assert ended.returncode == 0, ended.stderr
    assert "trainer: 8 workers; c with aggregator\n        attacker: 2 of them\n" in ended.stdout
    assert "the programs fit" in ended.stdout
