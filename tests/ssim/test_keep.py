"""How much of a run is stored, and that its figures do not depend on it."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING

import pytest

from sim.base.parquet import read_parquet
from ssim.results.record import KEPT
from tests.ssim.stored import manifests
from tests.ssim.test_run_command import SMALL, ssim

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

COMPILED = ("--set", "engine=compiled", "--no-figures")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results/small/summary.csv").open() as file:
        return list(csv.DictReader(file))


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "results/small").rglob("*.parquet")}


def test_more_is_computed_when_more_is_to_be_kept_and_less_is_not(folder: Path) -> None:
    before: list[dict[str, str]] = []
    for keep, files in KEPT.items():
        ended = ssim(folder, "run", "small.yaml", "--set", f"keep={keep}", *COMPILED)
        assert ended.returncode == 0, ended.stderr
        assert "stored already" not in ended.stderr
        assert kept(folder) == set(files)
        found = rows(folder)
        for row, other in zip(found, before, strict=False):
            for name in row.keys() - {"wall_s"}:
                if name in {"p50_latency_ms", "p99_latency_ms"}:  # counted in buckets where no query is kept
                    assert float(row[name]) == pytest.approx(float(other[name]), rel=0.002)
                elif name in {"mean_serving_accuracy", "utilisation"}:
                    assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-12)
                else:
                    assert row[name] == other[name], name
        before = found
    again = ssim(folder, "run", "small.yaml", "--set", "keep=summary", *COMPILED)
    assert "6 of 6 runs are stored already" in again.stderr
    assert kept(folder) == set(KEPT["requests"])


def test_the_manifest_says_how_exact_quantiles_are(folder: Path) -> None:
    for keep, said in (("windows", "within 0.2 %"), ("batches", "exact")):
        assert ssim(folder, "run", "small.yaml", "--set", f"keep={keep}", *COMPILED).returncode == 0
        assert {manifest["latency_quantiles"] for manifest in manifests(folder).values()} == {said}


@pytest.mark.parametrize("keep", ["summary", "windows", "requests"])
def test_a_run_has_the_same_figures_by_both_engines(folder: Path, keep: str) -> None:
    found = []
    for engine in ("compiled", "simpy"):
        words = ("--set", f"engine={engine}", "--set", f"keep={keep}", "--out", engine, "--no-figures")
        assert ssim(folder, "run", "small.yaml", *words).returncode == 0
        facts = manifests(folder / engine)
        found.append([(run, facts[run]["latency_quantiles"], facts[run]["summary"]) for run in sorted(facts)])
    for one, other in zip(*found, strict=True):
        assert one[:2] == other[:2]
        assert one[2] == pytest.approx(other[2], rel=1e-12)


def test_windows_are_the_same_by_both_engines(folder: Path) -> None:
    found = []
    for engine in ("compiled", "simpy"):
        words = ("--set", f"engine={engine}", "--set", "keep=windows", "--no-figures", "--out", engine)
        assert ssim(folder, "run", "small.yaml", *words).returncode == 0
        tables = {path.parent.name: read_parquet(path).to_pandas() for path in (folder / engine).rglob("*.parquet")}
        found.append(tables)
    assert found[0].keys() == found[1].keys()
    for run, table in found[0].items():
        for name in table:
            assert table[name].tolist() == pytest.approx(found[1][run][name].tolist(), rel=1e-9, nan_ok=True), name


def test_figures_of_runs_without_windows_are_drawn_as_far_as_they_go(folder: Path) -> None:
    ended = ssim(folder, "run", "small.yaml", "--set", "keep=summary", "--set", "engine=compiled")
    assert ended.returncode == 0, ended.stderr
    names = {path.stem for path in (folder / "results/small/figures").iterdir()}
    assert names == {"tradeoff"}
    assert "dynamics" not in ended.stdout
    again = ssim(folder, "run", "small.yaml", "--set", "keep=summary", "--set", "engine=compiled")
    assert again.stdout == ended.stdout


def test_without_numba_all_runs_and_it_is_said_once(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'numba' else find(name, *rest)\n"
    )
    words = ("--set", "keep=summary", "--no-figures")
    without = ssim(folder, "run", "small.yaml", *words, env=os.environ | {"PYTHONPATH": str(folder)})
    assert without.returncode == 0, without.stderr
    assert without.stderr.count("numba is not installed") == 1
    assert {manifest["circumstances"]["engine"] for manifest in manifests(folder).values()} == {"simpy"}


def test_a_numba_that_can_not_be_imported_is_none_and_it_is_said_once(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('numba.'):\n"
        "            raise ImportError('Numba needs NumPy 2.2 or less. Got NumPy 2.4.')\n"
        "sys.meta_path.insert(0, Broken())\n"
    )
    words = ("--set", "keep=summary", "--set", "trace.duration_s=40", "--no-figures")
    path = os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))
    broken = ssim(folder, "run", "small.yaml", *words, env=os.environ | {"PYTHONPATH": path})
    assert broken.returncode == 0, broken.stderr
    assert (
        broken.stderr.count("numba can't be imported (Numba needs NumPy 2.2 or less. Got NumPy 2.4.): SimPy runs") == 1
    )
    assert {manifest["circumstances"]["engine"] for manifest in manifests(folder).values()} == {"simpy"}
