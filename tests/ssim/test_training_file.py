"""Training files: what is wrong is told by line, all at once; and what decides a training is its identity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sim.base.errors import DataError, SpecError
from ssim.files.yaml_file import read_yaml
from ssim.jobs.reading import read_job
from ssim.jobs.schema import job_schema
from ssim.jobs.training.run import asked_among
from supernet.data.digits import Digits
from supernet.families import OfaResNetSmall
from supernet.training.optimizers import AdamW, Sgd
from supernet.training.recipe import Phase
from supernet.training.sampling import ProgressiveShrinking, SandwichRule

ROOT = Path(__file__).parents[2]

GOOD = """\
schema: training/1
name: small
seed: 7
repeats: 2
data: {kind: digits, train: 96}
family: {kind: ofa_resnet_small, width: 8}
batch: 32
optimizer: {kind: adamw, decay: 0.1}
clip: 1
phases:
  - {epochs: 1, rate: 0.01, depths: 1, expands: 1, widths: 1}
  - {epochs: 2, rate: 0.02, rewire: true, subnets: {kind: shrinking, random: 3}}
calibration: {examples: 64, batch: 32, subnets: 4}
"""

BAD = """\
schema: training/1
name: small
seed: -1
repeats: 2
data: {kind: digitz}
family: {kind: ofa_resnet_small, widht: 8}
start: {path: nothing.pt}
batch: 32
optimizer: {kind: sgd, momentum: 2}
phases:
  - {epochs: 0, rate: 0.01}
  - {epoch: 2, rate: 0.02, subnets: {kind: shrinking, random: none}}
calibration: {examples: 64, batch: 1}
search: {latency: {tabel: x}}
"""


OR_ONE_OF_YOUR_OWN = " (or module:Class for one of your own)"


def written(folder: Path, text: str) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


def test_a_file_becomes_objects(tmp_path: Path) -> None:
    job = read_job(written(tmp_path, GOOD))
    parts = job.runs[0].parts
    assert parts.source == Digits(train=96)
    assert parts.family == OfaResNetSmall(width=8)
    assert parts.recipe.optimizer == AdamW(decay=0.1)
    assert parts.recipe.phases[0] == Phase(epochs=1, rate=0.01, depths=1, expands=1, widths=1, subnets=SandwichRule())
    assert parts.recipe.phases[1] == Phase(epochs=2, rate=0.02, rewire=True, subnets=ProgressiveShrinking(random=3))
    assert [run.seed for run in job.runs] == [7, 8]
    assert asked_among(parts.family.space, job.spec.calibration.subnets) == parts.family.space.linspace(4)


def test_all_faults_are_told_by_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_job(written(tmp_path, BAD))
    lines = [line.removeprefix(f"{tmp_path}/small.yaml:") for line in str(caught.value).splitlines()]
    assert lines == [
        "3:7: seed: must be greater than or equal to 0 (-1)",
        "5:14: data.kind: unknown data source ('digitz'); did you mean 'digits'?" + OR_ONE_OF_YOUR_OWN,
        "6:34: family.widht: unknown parameter of OfaResNetSmall; did you mean 'width'?",
        "9:34: optimizer.momentum: must be less than 1 (2)",
        "11:14: phases.0.epochs: must be greater than 0 (0)",
        "12:5: phases.1.epochs: is missing",
        "12:6: phases.1.epoch: unknown key; did you mean 'epochs'?",
        "12:63: phases.1.subnets.random: must be a whole number ('none')",
        "13:36: calibration.batch: must be greater than or equal to 2 (1)",
        "14:19: search.latency.table: is missing",
        "14:20: search.latency.tabel: unknown key; did you mean 'table'?",
    ]


def test_a_subnet_that_there_is_not_is_told(tmp_path: Path) -> None:
    asked = "subnets: ['ofa_resnet_small:d2x3:e1.0x9:w3x3', 'ofa_resnet_small:d3x3:e1.0x9:w3x3']"
    with pytest.raises(SpecError, match=r"yaml:13:87: calibration\.subnets\.1: not a choice \(3\); one of 0, 1, 2"):
        read_job(written(tmp_path, GOOD.replace("subnets: 4", asked)))


def test_weights_to_begin_with_are_looked_for(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "start: {path: nothing.pt}\n")
    with pytest.raises(SpecError, match=r"yaml:14:\d+: start\.path: file not found \(.*nothing\.pt\)"):
        read_job(path)
    path = written(tmp_path, GOOD + "start: {path: $NO_SUCH_VARIABLE/x.pt}\n")
    with pytest.raises(SpecError, match=r"start\.path: .*is not set \(\$NO_SUCH_VARIABLE\)"):
        read_job(path)


def test_overrides(tmp_path: Path) -> None:
    job = read_job(written(tmp_path, GOOD), ["phases.1.epochs=3", "search.subnets=20", "optimizer=sgd"])
    recipe = job.runs[0].parts.recipe
    assert recipe.phases[1].epochs == 3
    assert job.spec.search.subnets == 20
    assert recipe.optimizer == Sgd()
    with pytest.raises(SpecError, match=r"--set phases\.1\.epochs: must be greater than 0"):
        read_job(written(tmp_path, GOOD), ["phases.1.epochs=0"])
    with pytest.raises(SpecError, match="--set: unknown key"):
        read_job(written(tmp_path, GOOD), ["nothing.at=0"])


def identity_of(folder: Path, text: str, seed: int = 7) -> str:
    return read_job(written(folder, text), [f"seed={seed}"]).runs[0].id


def test_the_identity_is_what_decides_the_weights(tmp_path: Path) -> None:
    first = identity_of(tmp_path, GOOD)
    same = [
        GOOD.replace("name: small", "name: other").replace("repeats: 2", "repeats: 5"),
        GOOD.replace("width: 8", "width: 8, classes: 10"),  # a default written out
        GOOD.replace("rate: 0.01", "rate: 0.01, subnets: sandwich"),
        GOOD.replace("subnets: 4", "subnets: 5") + "search: {measured: 50}\n",
    ]
    others = [
        GOOD.replace("rate: 0.01", "rate: 0.011"),
        GOOD.replace("random: 3", "random: 4"),
        GOOD.replace("decay: 0.1", "decay: 0.2"),
        GOOD.replace("train: 96", "train: 97"),
        GOOD.replace("width: 8", "width: 9"),
    ]
    assert {identity_of(tmp_path, text) for text in same} == {first}
    ids = [first, identity_of(tmp_path, GOOD, seed=8), *(identity_of(tmp_path, text) for text in others)]
    assert len(set(ids)) == len(ids)


def test_weights_to_begin_with_are_held_against_their_checksum(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "start.pt")
    path = written(tmp_path, GOOD + f"start: {{path: start.pt, sha256: {'a' * 64}}}\n")
    with pytest.raises(DataError, match=r"start\.pt: SHA-256 mismatch"):
        read_job(path).runs[0].identity  # noqa: B018 - asking for it is the point


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("supernet_*.yaml")), ids=lambda path: path.stem)
def test_the_files_that_come_with_the_toolkit_are_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSIM_MINILM", "/nowhere")
    monkeypatch.setenv("SSIM_REVIEWS", "/nowhere")
    assert read_job(path, ["start=null"], "training/1").name == path.stem


def test_the_json_schema_has_the_keys_and_kinds_of_the_files() -> None:
    schema = job_schema("training/1")
    given = read_yaml(ROOT / "experiments" / "supernet_reviews.yaml").data
    assert set(given) <= set(schema["properties"])
    assert set(schema["required"]) <= set(given) - {"start", "clip"}
    kinds = [kind["properties"]["kind"].get("const") for kind in schema["properties"]["data"]["anyOf"][1:]]
    assert kinds == ["csv", "digits", "fashion_mnist", "huggingface", "images", "reviews", None]
