"""`ssim.run` and `ssim.load`: the same results as the command line's, in Python and in a notebook."""

from __future__ import annotations

import io
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import ssim
from sim import SpecError, SsimError, StoreError
from tests.ssim.in_process import ssim as typed
from tests.test_docs import blocks

ROOT = Path(__file__).parents[2]


def test_the_results_are_those_of_the_command_line(own: Path, tmp_path: Path) -> None:
    results = ssim.run(own / "own.yaml", out=tmp_path / "python", repeats=3)
    ended = typed(tmp_path, "run", str(own / "own.yaml"), "--set", "repeats=3", "--no-figures", "--out", "typed")
    assert ended.returncode == 0, ended.stderr
    ours, theirs = (pd.read_csv(tmp_path / folder / "own/summary.csv") for folder in ("python", "typed"))
    pd.testing.assert_frame_equal(ours.drop(columns="wall_s"), theirs.drop(columns="wall_s"))
    assert list(results.frame().run) == list(theirs.run)
    assert isinstance(results, ssim.ExperimentResults)
    again = ssim.load("own", out=tmp_path / "python")
    pd.testing.assert_frame_equal(again.frame(), results.frame())


def test_queries_batches_and_windows_agree(own: Path, tmp_path: Path) -> None:
    results = ssim.run(own / "own.yaml", out=tmp_path, repeats=1, policies=["slackfit"])
    assert isinstance(results, ssim.ExperimentResults)
    queries, batches, windows = results.requests(), results.batches("slackfit"), results.windows()
    (run,) = results.frame().itertuples()
    assert len(queries) == run.queries
    assert len(windows) == math.ceil(queries.arrival_ns.max() / 1e9)
    assert batches["size"].sum() == queries.batch_size.notna().sum()
    assert (queries.outcome == "met").mean() == pytest.approx(run.slo_attainment, abs=1e-12)


def test_rounds_are_seen_as_they_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the hook of the page about federated training, with a stand-in for TensorBoard."""
    pytest.importorskip("torch", reason="federated training needs the extra [torch]")
    seen: dict[str, list[tuple[int, float]]] = {}

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder == "runs/digits"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            seen.setdefault(name, []).append((step, value))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    code = next(block for block in blocks("docs/federated.md", "python") if "SummaryWriter" in block)
    monkeypatch.chdir(ROOT)
    exec(code.replace("watch=log", "watch=log, rounds=2, out=OUT"), {"OUT": tmp_path})  # noqa: S102 - our own text
    (path,) = tmp_path.glob("digits/*/rounds.parquet")
    rounds = pd.read_parquet(path)
    assert seen["loss"] == list(zip(rounds["round"], rounds["loss"], strict=True))
    assert sum(name.startswith("accuracy/") for name in seen) >= 1
    with pytest.raises(SpecError, match="not possible with several runs at once"):
        ssim.run("azure", out=tmp_path, jobs=2, watch=print)


def test_values_of_numpy_and_paths_are_settings(own: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.csv"
    moved.write_text((own.parent / "traces/arrivals.csv").read_text())
    settings = {"trace.path": moved, "cluster.workers": np.int64(3), "trace.slo_ms": np.float64(1e-07 + 36)}
    results = ssim.run(own / "own.yaml", out=tmp_path, repeats=1, **settings)
    assert results.store.index()["content"]["cluster"]["workers"] == 3
    assert results.store.index()["content"]["trace"]["slo_ms"] == 1e-07 + 36


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cluster.wokers": 3}, "did you mean 'workers'"),
        ({"cluster.workers": object()}, "cluster.workers: can't be written in YAML (object)"),
        ({"cluster.workers": 0}, "cluster.workers"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_stored(
    own: Path, tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(SpecError, match=said.replace("(", r"\(").replace(")", r"\)")):
        ssim.run(own / "own.yaml", out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_unique_or_not_kept_is_refused(own: Path, tmp_path: Path) -> None:
    results = ssim.run(own / "own.yaml", out=tmp_path, keep="summary", sweep={"cluster.workers": [1, 2]})
    assert isinstance(results, ssim.ExperimentResults)
    with pytest.raises(StoreError, match="several runs fit"):
        results.requests("slackfit")
    with pytest.raises(StoreError, match="did you mean 'slackfit'"):
        results.requests("slakfit")
    with pytest.raises(StoreError, match="keep: requests"):
        results.requests(results.frame().run[0])
    with pytest.raises(StoreError, match="keep: windows"):
        results.plot_dynamics()
    with pytest.raises(StoreError, match=r"stored in .*: own"):
        ssim.load("owm", out=tmp_path)


def test_a_run_that_fails_is_an_error_and_the_others_are_stored(own: Path, tmp_path: Path) -> None:
    (own / "broken.py").write_text(
        "from dataclasses import dataclass\nfrom sim import Dispatch\n\n@dataclass\nclass Broken:\n    asked: int = 0\n"
        "    def decide(self, view):\n        self.asked += 1\n"
        "        return 1 / 0 if self.asked > 3 else Dispatch(0, 1)\n"
    )
    with pytest.raises(SsimError, match=r"1 of 2 runs failed: .*broken.py:9.*ssim.load"):
        ssim.run(own / "own.yaml", out=tmp_path, repeats=1, policies=["slackfit", "broken:Broken"])
    assert list(ssim.load("own", out=tmp_path).frame().policy) == ["slackfit"]


def test_the_comparison_is_that_of_the_command_line(own: Path, tmp_path: Path) -> None:
    results = ssim.run(own / "own.yaml", out=tmp_path)
    assert isinstance(results, ssim.ExperimentResults)
    ended = typed(tmp_path, "compare", "own", "--out", str(tmp_path), "--format", "csv")
    assert ended.returncode == 0, ended.stderr
    pd.testing.assert_frame_equal(results.compare(), pd.read_csv(io.StringIO(ended.stdout)), check_dtype=False)


def test_an_edited_module_runs_as_it_is_now(own: Path, tmp_path: Path) -> None:
    first = ssim.run(own / "own.yaml", out=tmp_path, repeats=1, policies=["own_policy:Mine"]).frame()
    text = (own / "own_policy.py").read_text()
    (own / "own_policy.py").write_text(text.replace("at_most(self.most, view.queue_length)", "1"))
    second = ssim.run(own / "own.yaml", out=tmp_path, repeats=1, policies=["own_policy:Mine"]).frame()
    assert first.mean_batch_size[0] > second.mean_batch_size[0] == 1
    (own / "own_policy.py").write_text(text)
    third = ssim.run(own / "own.yaml", out=tmp_path, repeats=1, policies=["own_policy:Mine"]).frame()
    pd.testing.assert_frame_equal(third, first)  # the stored run


def test_an_edit_of_the_same_length_in_the_same_second_runs(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    policy = own / "own_policy.py"
    text, changed, sizes = policy.read_text(), policy.stat(), []
    for most in (1, 2, 3):
        policy.write_text(text.replace("at_most(self.most, view.queue_length)", f"at_most({most}, view.queue_length)"))
        os.utime(policy, ns=(changed.st_atime_ns, changed.st_mtime_ns + most))
        found = ssim.run(own / "own.yaml", out=tmp_path, repeats=1, policies=["own_policy:Mine"]).frame()
        sizes.append(found.mean_batch_size[0])
    assert len(set(sizes)) == 3, sizes


def test_two_folders_may_have_a_module_of_one_name(own: Path, tmp_path: Path) -> None:
    other = shutil.copytree(own, tmp_path / "other")
    text = (own / "own_policy.py").read_text()
    (other / "own_policy.py").write_text(text.replace("at_most(self.most, view.queue_length)", "1"))
    sizes = [
        ssim.run(folder / "own.yaml", out=tmp_path / "out", repeats=1, policies=["own_policy:Mine"])
        .frame()
        .mean_batch_size[0]
        for folder in (own, other, own)
    ]
    assert sizes[0] == sizes[2] > sizes[1] == 1


def test_a_class_of_a_cell_is_refused(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "from dataclasses import dataclass\n@dataclass\nclass Cell:\n    def decide(self, view): ..."
    scope: dict[str, object] = {"__name__": "__main__"}
    exec(cell, scope)  # noqa: S102 - as a kernel does with a cell
    monkeypatch.setattr(sys.modules["__main__"], "Cell", scope["Cell"], raising=False)
    with pytest.raises(SpecError, match="can't be part of __main__"):
        ssim.run(own / "own.yaml", out=tmp_path, policies=["__main__:Cell"])


def test_a_swept_experiment_shows_a_row_for_each_point(own: Path, tmp_path: Path) -> None:
    results = ssim.run(own / "own.yaml", out=tmp_path, sweep={"cluster.workers": [1, 2]}, policies=["slackfit"])
    html = results._repr_html_()
    assert html.count("<tr") == 1 + 2
    assert "cluster.workers" in html
    assert len(repr(results)) < 200


def test_the_notebook_of_the_docs_runs(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # results are made, not kept
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    displayed = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in data for data in displayed) == 2
    assert "slackfit" in displayed[0]["text/html"]


def test_importing_the_toolkit_takes_nothing_that_the_command_line_does_not_need() -> None:
    code = "import ssim, sys; assert 'pandas' not in sys.modules and 'pydantic' not in sys.modules; ssim.run"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
