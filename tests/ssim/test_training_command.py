"""`ssim supernet train`, `calibrate` and `search` as a user meets them: processes, their words and what they leave."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import chdir, redirect_stdout
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from sim.base.errors import DataError, FetchError
from sim.base.parquet import read_parquet
from sim.tables.accuracies import Accuracies
from sim.tables.files import write_table
from sim.tables.latency import LatencyTable
from ssim.files.fetch import fetch_fashion_mnist
from ssim.jobs.job import DEFAULT_OPTIONS
from ssim.jobs.reading import read_job
from ssim.jobs.training.search import search
from ssim.results.store import Store
from supernet import checkpoint
from supernet.data import fashion_mnist
from supernet.families import OfaResNetSmall
from supernet.family import build
from tests.ssim import in_process
from tests.test_docs import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ssim.jobs.training.run import TrainingRun
    from tests.ssim.in_process import Ended

torch.set_num_threads(1)

SMALL = """\
schema: training/1
name: small
seed: 7
data: {kind: digits, train: 320}
family: {kind: ofa_resnet_small, width: 8}
batch: 32
phases:
  - {epochs: 1, rate: 0.05, depths: 1, expands: 1, widths: 1}
  - {epochs: 2, rate: 0.05, rewire: true, subnets: {kind: shrinking, random: 2}}
calibration: {examples: 128, batch: 64, subnets: 3}
search: {subnets: 6, measured: 24, evaluations: 200, population: 16}
"""


def ssim(folder: Path, *words: str) -> Ended:
    """Run a command of supernets."""
    return in_process.ssim(folder, "supernet", *words)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL)
    ended = ssim(folder, "train", "small.yaml", "--threads", "1")
    assert ended.returncode == 0, ended.stderr
    (folder / "said").write_text(ended.stdout)
    return folder


def run_of(folder: Path, *overrides: str) -> TrainingRun:
    found: TrainingRun = read_job(folder / "small.yaml", overrides).runs[0]
    return found


def store_of(folder: Path) -> Store:
    return Store(folder / "results" / "small")


def folder_of(folder: Path, *overrides: str) -> Path:
    return store_of(folder).folder / run_of(folder, *overrides).id


def test_train_says_what_came_out_and_leaves_it(trained: Path) -> None:
    run, kept = run_of(trained), folder_of(trained)
    said = (trained / "said").read_text().splitlines()
    assert said[0] == "small: accuracy in %, digits, test split"
    assert [line.split()[0] for line in said[2:]] == [subnet.id for subnet in run.parts.family.space.linspace(3)]
    assert sorted(path.name for path in kept.iterdir()) == [
        "accuracies.parquet",
        "losses.parquet",
        "manifest.json",
        "supernet.pt",
    ]
    assert read_parquet(kept / "losses.parquet")["phase"].to_pylist() == [0] * 10 + [1] * 20
    manifest = json.loads((kept / "manifest.json").read_text())
    assert manifest["identity"] == json.loads(json.dumps(run.identity))
    assert manifest["circumstances"]["threads"] == 1
    accuracies = Accuracies.read(kept / "accuracies.parquet")
    assert {row.subnet for row in accuracies.rows} <= set(run.load(store_of(trained)).calibrated)
    assert all(row.examples == 360 and row.without is not None for row in accuracies.rows)


def test_what_is_trained_is_not_trained_again(trained: Path) -> None:
    before = (folder_of(trained) / "supernet.pt").stat().st_mtime_ns
    ended = ssim(trained, "train", "small.yaml", "--threads", "1")
    assert ended.returncode == 0, ended.stderr
    assert "1 of 1 runs are stored already" in ended.stderr
    assert ended.stdout == (trained / "said").read_text()
    assert (folder_of(trained) / "supernet.pt").stat().st_mtime_ns == before


def weights(folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder_of(folder, *overrides) / "supernet.pt").supernet.model.state_dict()


@pytest.mark.slow  # test_jobs holds it for an interruption
def test_a_killed_training_goes_on_to_the_same_weights(trained: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "ssim", "supernet", "train", "small.yaml", "--threads", "1", "--every", "0"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    progress = folder_of(folder) / "progress.pt"
    deadline = time.monotonic() + 120
    while not progress.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert progress.exists()
    assert not (progress.parent / "manifest.json").exists()
    (progress.parent / ".progress.pt.1.tmp").write_bytes(b"half")  # as a kill in the middle of writing leaves
    ended = ssim(folder, "train", "small.yaml", "--threads", "1")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == (trained / "said").read_text()
    whole, gone_on = weights(trained), weights(folder)
    assert whole.keys() == gone_on.keys()
    assert all(torch.equal(whole[name], gone_on[name]) for name in whole)
    assert json.loads((progress.parent / "manifest.json").read_text())["circumstances"]["resumed"]
    assert not [path for path in progress.parent.iterdir() if path.suffix == ".tmp"]
    assert not progress.exists()


def test_damaged_progress_is_told_and_not_lost(folder: Path) -> None:
    kept = folder_of(folder)
    kept.mkdir(parents=True)
    (kept / "progress.pt").write_bytes(b"PK half a file")
    ended = ssim(folder, "train", "small.yaml")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "progress.pt: can't be read as weights" in ended.stderr
    assert (kept / "progress.pt").exists()


def test_a_loss_that_is_no_number_ends_with_code_1(folder: Path) -> None:
    ended = ssim(folder, "train", "small.yaml", "--set", "phases.0.rate=1e30", "--threads", "1")
    assert ended.returncode == 1
    assert "the loss is not finite" in ended.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train", "small.yaml", "--set", "batch=1"], 2, "batch: has only one example"),
        (["train", "small.yaml", "--set", "data={kind: fashion_mnist, path: .}"], 2, "train-images"),
        (["train", "small.yaml", "--set", "family.channels=3"], 2, "data: do not fit the network's input"),
        (["train", "small.yaml", "--device", "nothing"], 2, "--device: can't be used (nothing)"),
        (["train", "small.yaml", "--set", "family.width=none"], 2, "family.width: must be a whole number ('none')"),
        (["calibrate", "small.yaml"], 2, "small: has not been trained with this seed (7); train it first"),
        (["search", "small.yaml"], 2, "small: has not been trained with this seed (7); train it first"),
    ],
)
def test_what_is_wrong_is_told(folder: Path, words: list[str], code: int, said: str) -> None:
    ended = ssim(folder, *words)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_calibrate_measures_what_is_asked_for(trained: Path) -> None:
    run = run_of(trained)
    subnet = run.parts.family.space.linspace(7)[1].id
    ended = ssim(trained, "calibrate", "small.yaml", subnet, "--threads", "1")
    assert ended.returncode == 0, ended.stderr
    assert [line.split()[0] for line in ended.stdout.splitlines()[2:]] == [subnet]
    assert subnet in run.load(store_of(trained)).calibrated
    assert subnet in {row.subnet for row in Accuracies.read(folder_of(trained) / "accuracies.parquet").rows}
    ended = ssim(trained, "calibrate", "small.yaml", "ofa_resnet_small:d9x3:e1.0x9:w3x3")
    assert ended.returncode == 2
    assert "depths[0]: not a choice (9); one of 0, 1, 2" in ended.stderr


def test_other_calibration_is_done_anew(trained: Path) -> None:
    store = store_of(trained)
    before = run_of(trained).calibrate(store, DEFAULT_OPTIONS)
    run = run_of(trained, "calibration.examples=64")
    after = run.calibrate(store, DEFAULT_OPTIONS)
    assert "64 examples" in after.provenance["statistics"]
    assert {row.subnet for row in after.rows} == {row.subnet for row in before.rows}
    assert set(run.load(store).calibrated) == {row.subnet for row in after.rows}
    run_of(trained).calibrate(store, DEFAULT_OPTIONS)


def test_search_finds_a_front_and_keeps_its_statistics(trained: Path) -> None:
    ended = ssim(trained, "search", "small.yaml", "--threads", "1")
    assert ended.returncode == 0, ended.stderr
    assert "subnets measured on validation examples" in ended.stdout
    assert "Kendall's tau" in ended.stdout
    run = run_of(trained)
    found = Accuracies.read(folder_of(trained) / "pareto.parquet").rows
    assert 2 <= len(found) <= 6
    assert [row.macs for row in found] == sorted(row.macs for row in found)
    assert {row.subnet for row in found} <= set(run.load(store_of(trained)).calibrated)


def test_search_may_measure_all_and_go_by_a_latency_table(trained: Path) -> None:
    space, rng = run_of(trained).parts.family.space, np.random.default_rng(0)
    store = store_of(trained)
    subnets = (
        run_of(trained).calibrate(store, DEFAULT_OPTIONS, [space.sample_stratified(rng) for _ in range(12)]).subnets()
    )
    latency = np.array([[round(1e6 * (1 + row.gmacs * 1e3))] for row in subnets if row.gmacs is not None])
    write_table(LatencyTable("cpu", subnets, (1,), latency), trained / "cpu.parquet")
    asked = ["search.predict=false", "search.latency={table: cpu.parquet}", "search.measured=20"]
    told: list[None] = []
    found = search(run_of(trained, *asked), store, DEFAULT_OPTIONS, lambda: told.append(None))
    assert found.measured == 20
    assert len(told) == 20 + len(found.found.rows)
    assert found.trust is None
    assert len(found.found.rows) >= 2


def test_training_begins_with_weights_of_its_own(trained: Path, folder: Path) -> None:
    start = folder_of(trained) / "supernet.pt"
    text = SMALL.partition("phases:")[0] + f"phases: []\nstart: {{path: {start}}}\ncalibration: {{examples: 64}}\n"
    (folder / "small.yaml").write_text(text)
    with store_of(folder).writing():
        run_of(folder).execute(store_of(folder), DEFAULT_OPTIONS, None)
    expected, found = weights(trained), weights(folder)
    assert all(
        torch.equal(expected[name], found[name]) for name in expected if "running" not in name and "num" not in name
    )
    (folder / "small.yaml").write_text(text.replace("width: 8", "width: 4"))
    with pytest.raises(DataError, match="is of another family"):
        run_of(folder).execute(store_of(folder), DEFAULT_OPTIONS, None)


def test_training_begins_with_weights_of_others(folder: Path) -> None:
    state = build(OfaResNetSmall(width=8), seed=99).model.state_dict()
    torch.save(
        {name: value for name, value in state.items() if not name.startswith("classifier")}, folder / "others.pt"
    )
    text = SMALL.partition("phases:")[0] + "phases: []\nstart: {path: others.pt, fresh: [classifier]}\n"
    (folder / "small.yaml").write_text(text)
    found = {}
    for seed in (7, 8):
        with store_of(folder).writing():
            run_of(folder, f"seed={seed}").execute(store_of(folder), DEFAULT_OPTIONS, None)
        found[seed] = weights(folder, f"seed={seed}")
    assert torch.equal(found[7]["blocks.0.conv1.conv.weight"], state["blocks.0.conv1.conv.weight"])
    assert not torch.equal(found[7]["classifier.linear.weight"], found[8]["classifier.linear.weight"])


QUICK = ["phases.0.epochs=1", "repeats=1", "search.measured=20", "search.evaluations=100", "calibration.subnets=2"]


def test_the_page_works_as_it_stands(tmp_path: Path) -> None:
    """What docs/supernet.md shows is run, but for a shorter time."""
    experiment, phases = blocks("docs/supernet.md", "yaml")
    commands, *_ = blocks("docs/supernet.md", "console")
    *_, snippet = blocks("docs/supernet.md", "python")
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments" / "supernet_digits.yaml"
    file.write_text(experiment)
    shipped = read_job(ROOT / "experiments" / "supernet_digits.yaml")
    assert read_job(file).spec == shipped.spec
    for line in commands.splitlines():
        words = line.removeprefix("$ ssim supernet ").split()
        ended = ssim(tmp_path, *words, "--threads", "1", *(word for pair in QUICK for word in ("--set", pair)))
        assert ended.returncode == 0, ended.stderr
    out = io.StringIO()
    with chdir(tmp_path), redirect_stdout(out):
        exec(snippet, {})  # noqa: S102 - our own page
    assert int(out.getvalue()) >= 2
    file.write_text(experiment.partition("phases:")[0] + phases)
    assert len(read_job(file).runs[0].parts.recipe.phases) == 4


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Four small files, on a server of our own, under the address that is returned."""
    folder = tmp_path / "published"
    folder.mkdir()
    contents = {name: name.encode() for name in fashion_mnist.SHA256}
    monkeypatch.setattr(
        fashion_mnist, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    )
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_fetching_gets_the_published_files_once(published: str, tmp_path: Path) -> None:
    files = fetch_fashion_mnist(published, tmp_path / "here")
    assert [gzip.decompress(file.read_bytes()).decode() for file in files] == list(fashion_mnist.SHA256)
    assert fetch_fashion_mnist("http://127.0.0.1:9/", tmp_path / "here") == files
    files[1].unlink()
    with pytest.raises(FetchError):
        fetch_fashion_mnist("http://127.0.0.1:9/", tmp_path / "here")


def test_another_file_than_the_published_one_is_told(published: str, tmp_path: Path) -> None:
    name = next(iter(fashion_mnist.SHA256))
    (tmp_path / "published" / f"{name}.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match="not the published file"):
        fetch_fashion_mnist(published, tmp_path / "here")


def test_help_needs_no_torch() -> None:
    code = "import sys, ssim.commands.supernet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
