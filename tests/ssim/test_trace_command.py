"""`ssim trace` as somebody at a terminal uses it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from figures.trace_rate import draw
from sim.base.errors import DataError, FetchError, SpecError, SsimError, StoreError
from sim.traces import SHORT_NAMES
from sim.traces.azure import Azure
from sim.traces.files import File
from ssim.commands.trace import trace


def ssim_trace(*words: object) -> str:
    found = CliRunner().invoke(trace, [str(word) for word in words], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


POISSON = ("poisson", "--set", "mean_qps=1e3", "--set", "duration_s=2", "--seed", 5)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz"])
def test_what_is_made_is_described_alike(suffix: str) -> None:
    said = ssim_trace("make", *POISSON, "-o", f"t.{suffix}")
    made = json.loads(ssim_trace("describe", f"t.{suffix}", "--set", "duration_s=2", "--json"))
    assert said == f"{made['queries']} arrivals of poisson, seed 5: t.{suffix}\n"
    assert made == json.loads(ssim_trace("describe", *POISSON, "--json"))
    assert made["windows"][2]["dispersion"] is None


def test_the_slo_goes_along_if_it_is_given_and_is_not_invented() -> None:
    ssim_trace("make", *POISSON, "-o", "bare.csv")
    ssim_trace("make", *POISSON, "--set", "slo_ms=36", "-o", "t.csv")
    ssim_trace("make", "t.csv", "-o", "again.parquet")
    assert Path("bare.csv").read_text().startswith("arrival_s\n")
    copy = File(path="again.parquet").trace(0)
    assert (copy.slo_ns == 36_000_000).all()
    assert np.array_equal(copy.arrival_ns, File(path="bare.csv", slo_ms=1).trace(0).arrival_ns)


def test_a_source_makes_the_same_arrivals_here_and_in_python() -> None:
    ssim_trace("make", "azure", "--seed", 3, "--set", "duration_s=10", "-o", "a.parquet")
    assert np.array_equal(
        File(path="a.parquet", slo_ms=1).trace(0).arrival_ns, Azure(slo_ms=1, duration_s=10).trace(3).arrival_ns
    )


def test_a_description_is_a_table() -> None:
    table = ssim_trace("describe", *POISSON)
    assert "poisson, seed 5" in table
    assert "CV² of the times between arrivals" in table
    assert "nan" not in table  # it is too short for a window of 60 s
    single = ssim_trace("describe", "constant", "--set", "mean_qps=1", "--set", "duration_s=1")
    assert "1 window of 1 s" in single
    assert "nan" not in single
    assert "2 windows of 1 s" in table


@pytest.mark.parametrize(("suffix", "magic"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_a_plot_has_the_same_bytes_again(suffix: str, magic: bytes) -> None:
    for name in ("a", "b"):
        ssim_trace("plot", *POISSON, "-o", f"{name}.{suffix}")
    assert Path(f"a.{suffix}").read_bytes().startswith(magic)
    assert Path(f"a.{suffix}").read_bytes() == Path(f"b.{suffix}").read_bytes()


def test_the_figure_shows_both_rates_in_queries_per_second() -> None:
    fine, coarse = np.array([1, 2]), np.array([24, 36, 1])
    axes = draw(fine, coarse, duration_s=2.5, title="t").axes[0]
    rates = {patch.get_label(): patch.get_data().values.tolist() for patch in axes.patches}
    assert rates == {"in 1/12 s": [12, 24] + [0] * 28, "in 1 s": [24, 36]}
    assert axes.get_xlabel() == "time (s)"
    assert axes.get_ylabel() == "rate (q/s)"


@pytest.mark.parametrize("duration_s", [0.01, 0.5, 1.0])
def test_a_figure_of_almost_nothing_is_drawn(duration_s: float) -> None:
    assert draw(np.array([1]), np.array([1]), duration_s=duration_s).axes


def test_the_list_has_every_kind_with_its_parameters() -> None:
    lines = ssim_trace("list").splitlines()
    assert [line.partition(":")[0] for line in lines[::2]] == list(SHORT_NAMES)
    assert "    slo_ms, mean_qps=6400.0, duration_s=120.0, residual_cv2=0.0066" in lines
    assert all(line.endswith(".") for line in lines[::2])


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["describe", "posson"], SpecError, r"unknown trace source \('posson'\); did you mean 'poisson'\?"),
        (["describe", "poisson"], SpecError, "Poisson needs the parameter 'mean_qps'"),
        (["describe", *POISSON, "--set", "mean_qps=fast"], SpecError, r"mean_qps: must be a number \('fast'\)"),
        (["describe", *POISSON, "--set", "rate=1"], SpecError, "unknown parameter of Poisson"),
        (["describe", *POISSON, "--set", "rate"], SpecError, r"--set: must be NAME=VALUE \('rate'\)"),
        (["describe", *POISSON, "--set", "mean_qps=[1"], SpecError, "the value of mean_qps is not valid YAML"),
        (["describe", "no.csv"], DataError, "file not found"),
        (["make", *POISSON, "-o", "t.txt"], SpecError, "unknown trace format"),
        (
            ["plot", *POISSON, "-o", "t.gif"],
            SpecError,
            r"unknown image format \(.gif\); one of .pdf, .svg, .png",
        ),
        (["plot", *POISSON, "-o", "file/t.png"], StoreError, "can't be written"),
        (["fetch", "azure2019", "--url", "http://127.0.0.1:9/x", "--dir", "d"], FetchError, "can't be fetched"),
    ],
)
def test_what_is_wrong_is_said(words: list[object], error: type[SsimError], message: str) -> None:
    Path("file").touch()
    found = CliRunner().invoke(trace, [str(word) for word in words])
    assert isinstance(found.exception, error)
    assert re.search(message, str(found.exception))


def test_a_source_of_ones_own_is_found_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my_lab_source.py").write_text(
        "from sim.traces.synthetic import Constant\n\n\nclass Mine(Constant):\n    kind = 'mine'\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    said = ssim_trace("make", "my_lab_source:Mine", "--set", "mean_qps=4", "--set", "duration_s=1", "-o", "t.csv")
    assert said == "4 arrivals of mine, seed 0: t.csv\n"


def test_the_command_is_imported_without_the_heavy_libraries() -> None:
    code = "import sys, ssim.commands.trace; print(*{'numpy', 'pyarrow', 'matplotlib', 'requests'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_a_file_is_read_with_the_options_of_its_yaml() -> None:
    Path("log.csv").write_text("when;who\n2026-01-01 00:00:00;a\n2026-01-01 00:00:02;b\n2026-01-01 00:00:01;a\n")
    words = ("describe", "log.csv", "--arrival", "when:iso", "--sort", "--class", "who", "--json")
    found = json.loads(ssim_trace(*words))
    assert (found["queries"], found["duration_s"], found["classes"]) == (3, 2.0, {"a": 2, "b": 1})
    assert found["notes"][0].startswith("1 of 3 rows were earlier")
    as_yaml = ("--set", "arrival={column: when, unit: iso}", "--set", "sort=true", "--set", "class={column: who}")
    assert json.loads(ssim_trace("describe", "log.csv", *as_yaml, "--json")) == found
    assert json.loads(ssim_trace("describe", "file", "--set", "path=log.csv", *as_yaml, "--json")) == found


def test_several_files_are_one_trace() -> None:
    for day in (1, 2, 10):
        Path(f"day{day}.jsonl").write_text(f'{{"timestamp": {day * 1000}}}\n{{"timestamp": {day * 1000 + 500}}}\n')
    for files in (("day*.jsonl",), ("day1.jsonl", "day2.jsonl", "day10.jsonl")):
        found = json.loads(ssim_trace("describe", *files, "--kind", "mooncake", "--origin", "first", "--json"))
        assert (found["queries"], found["duration_s"]) == (6, 9.5)


def test_a_class_is_found_by_its_file() -> None:
    Path("my_pulse_source.py").write_text(
        "from sim.traces.synthetic import Constant\n\n\nclass Mine(Constant):\n    kind = 'mine'\n"
    )
    words = ("describe", "my_pulse_source.py:Mine", "--set", "mean_qps=4", "--set", "duration_s=1", "--json")
    assert json.loads(ssim_trace(*words))["queries"] == 4
