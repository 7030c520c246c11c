"""The wheel and the sdist: installed without extras into a clean environment, used in an empty folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ssim.packages import PACKAGES

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("package")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    done([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], folder)
    return folder


@pytest.fixture(scope="module")
def clean(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the environment that has the wheel and no extra."""
    folder = tmp_path_factory.mktemp("clean")
    done([sys.executable, "-m", "venv", str(folder)], folder)
    (wheel,) = built.glob("*.whl")
    done([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", str(wheel)], folder)
    return folder


def done(command: list[str], folder: Path) -> str:
    """Return what a command prints; it must succeed."""
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, f"{command}: {ended.stdout[-2000:]} {ended.stderr[-2000:]}"
    return ended.stdout + ended.stderr


def ssim(clean: Path, folder: Path, *words: str) -> str:
    """Return what `ssim` prints in the clean environment."""
    return done([str(clean / "bin" / "ssim"), *words], folder)


def refused(clean: Path, folder: Path, *words: str) -> str:
    """Return what `ssim` says when it refuses."""
    command = [str(clean / "bin" / "ssim"), *words]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2, f"{words}: {ended.stdout} {ended.stderr}"
    return ended.stderr


def test_only_our_packages_come_into_site_packages(clean: Path) -> None:
    (site,) = (clean / "lib").glob("python*/site-packages")
    ours = {path.name for path in site.iterdir() if (path / "py.typed").is_file()} & {*PACKAGES}
    assert ours == set(PACKAGES)
    for name in ("experiments", "topologies", "tests", "benchmarks", "optimum"):
        assert not (site / name).exists()


def test_the_sdist_can_be_tested(built: Path) -> None:
    import tarfile

    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("tests/conftest.py", "experiments/azure.yaml", "topologies/hybrid.yaml", "docs/design.md", "Makefile"):
        assert name in names


def test_shipped_files_run_by_name_in_an_empty_folder(clean: Path, tmp_path: Path) -> None:
    assert "federated/digits" in ssim(clean, tmp_path, "examples")
    said = ssim(clean, tmp_path, "run", "azure", "--set", "repeats=1", "--set", "trace.duration_s=5")
    assert "slackfit" in said
    assert (tmp_path / "results/azure/figures/tradeoff.png").is_file()
    ssim(clean, tmp_path, "figures", "azure")
    ssim(clean, tmp_path, "topology", "draw", "hybrid", "-o", "hybrid.png")
    assert (tmp_path / "hybrid.png").is_file()
    ssim(
        clean, tmp_path, "capacity", "scaling", "--set", "repeats=1", "--set", "trace.duration_s=2", "--set", "sweep={}"
    )
    ssim(clean, tmp_path, "optimum", "azure", "--set", "repeats=1", "--set", "trace.duration_s=5")
    ssim(clean, tmp_path, "table", "list")
    ssim(clean, tmp_path, "policy", "check", "slackfit")
    assert "commit" not in ssim(clean, tmp_path, "--version")


def test_a_file_beside_the_user_wins_and_it_is_said(clean: Path, tmp_path: Path) -> None:
    text = ssim(clean, tmp_path, "examples", "--show", "small")
    (tmp_path / "small.yaml").write_text(text.replace("name: small", "name: mine"))
    assert "small.yaml in this folder is used" in ssim(clean, tmp_path, "run", "small", "--no-figures")
    assert (tmp_path / "results/mine").is_dir()
    (tmp_path / "small.yaml").write_text("schema: experiment/1\nname: [")
    said = refused(clean, tmp_path, "run", "small")
    assert "small.yaml in this folder is used" in said
    assert "small.yaml:2" in said


@pytest.mark.parametrize("kind", ["experiment", "policy", "trace", "topology"])
def test_what_init_writes_runs_as_it_is(clean: Path, tmp_path: Path, kind: str) -> None:
    said = ssim(clean, tmp_path, "init", kind)
    command = said.splitlines()[-1].removeprefix("next: ssim ").split()
    ssim(clean, tmp_path, *command)


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("train", "federated/digits"), "torch"),
        (("topology", "check", "hybrid"), "torch"),
        (("run", "supernet_digits"), "torch"),
        (("supernet", "train", "supernet_digits"), "torch"),
        (("supernet", "list"), "torch"),
        (("supernet", "show", "ofa_resnet50"), "torch"),
        (("profile", "ofa_resnet50", "--cpu"), "torch"),
        (("schema", "training"), "torch"),
        (("schema", "federated"), "torch"),
        (("schema", "profile"), "torch"),
        (("table", "predict", "--from", "ofa-resnet50-a40", "--device", "h100", "-o", "h100.json"), "torch"),
        (("report", "results/azure"), "report"),
        (("run", "small", "--backend", "ray"), "ray"),
        (("run", "small", "--backend", "dask"), "dask"),
        (("run", "small", "--set", "engine=compiled"), "fast"),
    ],
)
def test_a_missing_extra_is_told_in_one_line(clean: Path, tmp_path: Path, words: tuple[str, ...], extra: str) -> None:
    ssim(clean, tmp_path, "run", "azure", "--set", "repeats=1", "--set", "trace.duration_s=1", "--no-figures")
    said = refused(clean, tmp_path, *words)
    assert f"pip install 'superserve-sim[{extra}]'" in said
    assert "ModuleNotFoundError" not in said


def test_a_policy_of_one_s_own_passes_strict_typing(clean: Path, tmp_path: Path) -> None:
    ssim(clean, tmp_path, "init", "policy")
    python = str(clean / "bin" / "python")
    done([sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "my_policy.py"], tmp_path)
