"""`ssim profile` as a user meets it: a small supernet on the CPU, interrupted, and asked for what there is not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the profiler needs the extra [torch]")

from sim.base.errors import SpecError  # noqa: E402
from sim.base.parquet import read_parquet  # noqa: E402
from sim.tables.files import read_table, write_table  # noqa: E402
from sim.tables.latency import LatencyTable, ProfiledSubnet  # noqa: E402 - after torch is known to be there
from ssim.jobs.reading import job_of  # noqa: E402
from supernet.checkpoint import save  # noqa: E402
from supernet.families import OfaResNetSmall  # noqa: E402
from supernet.family import build  # noqa: E402
from tests.ssim.in_process import ssim  # noqa: E402
from tests.test_docs import ROOT, blocks  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAMILY = OfaResNetSmall(width=4)
SPACE = FAMILY.space
pytestmark = pytest.mark.usefixtures("all_formats")  # a profile without each of its files is measured again

SMALL = ("--cpu", "--set", "width=4", "--size", "8", "--max-batch", "4", "--subnets", "wanted.parquet")
QUICK = ("--minutes", "0.1", "--precision", "0.9")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
"""Two tests at once on two cores would wait for each other's threads."""


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that says which subnets are to be measured: its latencies are of no matter."""
    path = tmp_path_factory.mktemp("wanted") / "wanted.parquet"
    some = [SPACE.smallest, SPACE.sample(np.random.default_rng(0)), SPACE.largest]
    subnets = tuple(ProfiledSubnet(str(n), 60.0 + n, subnet.control) for n, subnet in enumerate(some))
    write_table(LatencyTable("none", subnets, (1,), np.ones((3, 1), np.int64)), path)
    return path


@pytest.fixture
def folder(tmp_path: Path, wanted: Path) -> Path:
    (tmp_path / "wanted.parquet").write_bytes(wanted.read_bytes())
    return tmp_path


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Measure on one thread, as processes with `ONE_THREAD` do: an interrupted profile goes on in another process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_folder(folder: Path, seed: int = 0) -> Path:
    """Return the folder of the run of a profile: what it is made of lies there."""
    (found,) = (folder / "out").glob(f"seed{seed}-*")
    return found


def test_a_profile_is_a_table_with_all_that_is_known_of_it(folder: Path) -> None:
    ended = ssim(folder, "profile", "ofa_resnet_small", *SMALL, *QUICK, "--stages", "-o", "out")
    assert ended.returncode == 0, ended.stderr
    table = read_table(folder / "out/table.parquet")
    assert [subnet.accuracy for subnet in table.subnets] == [60.0, 61.0, 62.0]
    assert table.subnets[-1].id == SPACE.largest.id
    assert table.batch_sizes == (1, 2, 4)
    assert table.low_ns is not None
    assert (table.low_ns <= table.latency_ns).all()
    assert set(table.stages) == {"decode", "preprocess", "postprocess", "forward"}
    assert (sum(table.stages.values()) == table.latency_ns).all()
    assert "launch overhead included" in table.provenance["latency"]
    assert "switches at batch 1" in table.provenance["actuation"]
    cells = (folder / "out/cells.csv").read_text().splitlines()
    assert len(cells) == 1 + 3 * 3 + 3 * 3 + 2, "subnets, stages, held-out cells"
    assert "threads" in table.provenance["device"]
    samples = read_parquet(run_folder(folder) / "samples.parquet").to_pandas()
    forward = samples[samples.subnet == SPACE.largest.id].groupby("batch_size").wall_ns.median()
    assert table.stages["forward"][-1].tolist() == pytest.approx([forward[n] for n in table.batch_sizes], abs=1)
    assert 3 in forward.index, "held out"
    said = (folder / "out/report.md").read_text()
    for heading in (
        "Status of the cells",
        "Latency in ms",
        "Stages in ms",
        "Held-out batch sizes",
        "Properties",
        "Drift",
    ):
        assert f"\n## {heading}" in said
    manifest = json.loads((run_folder(folder) / "manifest.json").read_text())
    assert manifest["identity"]["device"]["torch"] == torch.__version__
    assert {"version", "wall_s"} <= manifest["circumstances"].keys()
    for name in ("table.csv", "superserve.json"):
        assert (read_table(folder / "out" / name).latency_ns == table.latency_ns).all()
    assert (folder / "out/latency.png").stat().st_size > 1000
    for path in (folder / "out").glob("[!.]*.*"):
        assert path.name == "job.json" or path.read_bytes() == (run_folder(folder) / path.name).read_bytes()


@pytest.mark.slow
def test_what_was_measured_is_taken_over_and_another_supernet_is_measured_beside_it(folder: Path) -> None:
    words = ("profile", "ofa_resnet_small", *SMALL, *QUICK, "-o", "out")
    assert ssim(folder, *words).returncode == 0
    visits = run_folder(folder) / "visits.jsonl"
    lines = visits.read_text().splitlines()
    assert ssim(folder, *words).returncode == 0
    assert visits.read_text().splitlines()[: len(lines)] == lines
    assert ssim(folder, *words, "--seed", "1").returncode == 0
    assert visits.read_text().splitlines()[: len(lines)] == lines
    assert (run_folder(folder, 1) / "table.parquet").read_bytes() == (folder / "out/table.parquet").read_bytes()
    before = (run_folder(folder, 1) / "visits.jsonl").read_text()
    assert ssim(folder, *words, "--seed", "1", "--force").returncode == 0
    assert not (run_folder(folder, 1) / "visits.jsonl").read_text().startswith(before)


def test_an_interrupted_profile_keeps_what_it_has_and_goes_on(folder: Path) -> None:
    words = ("profile", "ofa_resnet_small", *SMALL, "--max-batch", "2", "--precision", "0.0001", "-o", "out")
    command = [sys.executable, "-m", "ssim", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, env=ONE_THREAD, **pipes) as process:
        deadline = time.monotonic() + 60
        while sum(len(path.read_text().splitlines()) for path in (folder / "out").glob("*/visits.jsonl")) < 5:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    (told,) = said.splitlines()
    assert told.startswith("ssim: interrupted: finished runs are stored; the same command resumes from there")
    visits = run_folder(folder) / "visits.jsonl"
    kept = visits.read_text().splitlines()
    short = ssim(folder, *words, "--minutes", "0.0001")
    assert short.returncode == 1
    assert "minutes: ran out before every cell was measured once" in short.stderr
    assert not (folder / "out/table.parquet").exists()
    assert ssim(folder, *words, *QUICK).returncode == 0
    assert visits.read_text().splitlines()[: len(kept)] == kept
    assert (folder / "out/table.parquet").exists()


def test_a_subnet_that_gives_nan_is_left_out_and_told(folder: Path) -> None:
    held = build(FAMILY)
    with torch.no_grad():
        cut = next(path for path, part in held.assembly.slices.items() if part.outputs.group is not None)
        held.model.get_submodule(cut).weight[-1] = float("nan")  # a channel that the smallest does not use
    save(folder / "broken.pt", held.eval(), FAMILY)
    words = ("--cpu", "--size", "8", "--max-batch", "2", "--subnets", "wanted.parquet", *QUICK)
    ended = ssim(folder, "profile", "broken.pt", *words, "-o", "out")
    assert ended.returncode == 0, ended.stderr
    assert f"not in the table, since it can't be timed: {SPACE.largest.id}" in ended.stdout
    assert "the result contains NaN or infinity" in ended.stderr
    assert SPACE.smallest.id in {subnet.id for subnet in read_table(folder / "out/table.parquet").subnets}


@pytest.mark.slow
def test_a_full_disk_is_told_and_loses_nothing(folder: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import ssim.commands.profile, profiler.model_under_test\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
        "from ssim.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    words = ("profile", "ofa_resnet_small", *SMALL, *QUICK, "-o", "out")
    command = [sys.executable, "-c", script, *words]
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=ONE_THREAD
    )
    assert ended.returncode == 1
    assert "visits.jsonl: disk full" in ended.stderr
    visits = run_folder(folder) / "visits.jsonl"
    kept = [line for line in visits.read_text().splitlines() if line.endswith("}")]
    assert len(kept) > 1
    assert ssim(folder, *words).returncode == 0
    assert visits.read_text().splitlines()[: len(kept) - 1] == kept[:-1]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu(folder: Path) -> None:
    ended = ssim(folder, "profile", "ofa_resnet_small", "--gpu", "0", "--subnets", "wanted.parquet")
    assert ended.returncode == 1
    assert ended.stderr.startswith("ssim: --gpu 0: GPU not found (no accelerator; torch ")
    assert "--cpu measures the CPU" in ended.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("ofa_resnet_small",), "no device was chosen; give either --gpu N or --cpu"),
        (("ofa_resnet_small", "--cpu", "--gpu", "0"), "no device was chosen"),
        (("ofa_resnet_small", "--cpu"), "subnets: is missing: which ones"),
        (("nowhere/supernet.pt", "--cpu", "--subnets", "wanted.parquet"), "no such file or folder"),
        (("ofa_resnet_smal", "--cpu", "--subnets", "wanted.parquet"), "did you mean 'ofa_resnet_small'"),
        (("ofa_resnet_small", "--cpu", "--subnets", "nothing.parquet"), "nothing.parquet"),
        (("ofa_resnet_small", "--cpu", "--subnets", "ofa-resnet50-a40"), "depths"),
        (("dynabert_small", "--cpu", "--subnets", "wanted.parquet"), "dynabert_small"),
        (("ofa_resnet_small", "--cpu", "--cuda-graph", "--subnets", "wanted.parquet"), "cuda_graph: needs CUDA"),
        (("ofa_resnet_small", "--cpu", "--batch", "99", "--subnets", "wanted.parquet"), "max_batch: 99"),
        (("wanted.parquet", "--cpu", "--subnets", "wanted.parquet"), "can't be read as weights"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_a_line(folder: Path, words: tuple[str, ...], told: str) -> None:
    ended = ssim(folder, "profile", *words)
    assert ended.returncode in {1, 2}
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"autocast": True}, r"autocast: needs another dtype \(fp32\); dtype: bf16 or fp16"),
        ({"compile_mode": "max-autotune"}, r"compile_mode: needs compile \(max-autotune\); compile: true"),
        (
            {"compile": True, "compile_mode": "ahead-of-time", "autocast": True, "dtype": "bf16"},
            r"compile_mode: cannot be combined with autocast \(ahead-of-time\); dtype: bf16 alone",
        ),
        (
            {"compile": True, "compile_mode": "reduce-overhead", "cuda_graph": True},
            r"compile_mode: cannot be combined with cuda_graph \(reduce-overhead\)",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, keys: dict[str, object], told: str) -> None:
    content = {"schema": "profile/1", "name": "p", "supernet": "ofa_resnet_small"} | keys
    with pytest.raises(SpecError, match=told):
        job_of("profile/1", content, tmp_path)


@pytest.mark.slow
def test_two_profiles_in_a_row_agree(folder: Path) -> None:
    began = time.monotonic()
    for name in ("one", "two"):
        words = ("--cpu", "--subnets", "wanted.parquet", "--set", "width=4", "--minutes", "1", "--max-batch", "16")
        assert ssim(folder, "profile", "ofa_resnet_small", *words, "-o", name).returncode == 0
    assert time.monotonic() - began < 240
    one, two = (read_table(folder / name / "table.parquet") for name in ("one", "two"))
    assert np.mean((one.low_ns <= two.high_ns) & (two.low_ns <= one.high_ns)) >= 0.9  # 15 cells: one may differ
    said = ssim(folder, "table", "diff", "one/table.parquet", "two/table.parquet")
    assert "inconclusive" in said.stdout


@pytest.mark.slow
def test_the_page_works_as_it_stands(tmp_path: Path) -> None:
    """What docs/profiler.md shows is run, but for a shorter time, and for what needs a GPU."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    shorter = {
        "supernet": ("--set", "repeats=1", "--set", "phases.0.epochs=1"),
        "profile": ("--minutes", "0.3"),
        "run": ("--set", "trace.duration_s=2"),
    }
    lines = [
        line.removeprefix("$ ssim ") for block in blocks("docs/profiler.md", "console") for line in block.splitlines()
    ]
    for line in lines:
        if "--gpu" not in line and not line.startswith("$ make"):
            words = [path for word in line.split() for path in (sorted(tmp_path.glob(word)) if "*" in word else [word])]
            ended = ssim(tmp_path, *map(str, words), *shorter.get(str(words[0]), ()))
            assert ended.returncode == 0, ended.stderr
    assert "accuracy" in ended.stdout or (tmp_path / "predicted.parquet").exists()
    assert len(lines) >= 4
