"""An error in a user's own code names file, line and situation, in every command; `--debug` shows the traceback."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from sim.base.errors import user_frame
from ssim.cli import main
from tests.ssim.in_process import Ended, ssim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXPERIMENT = """\
schema: experiment/1
name: own
seed: 1
trace: TRACE
cluster: {workers: 1}
latency_table: ofa-resnet50-rtx2080ti
policies: [POLICY]
"""
POLICY = """\
from dataclasses import dataclass
from sim import Dispatch
@dataclass(frozen=True)
class Mine:
    n: int = 1
    def __post_init__(self):
        INIT
    def decide(self, view):
        if view.now_ns > 100_000_000:
            LATER
        DECIDE
        return Dispatch(0, 1)
IMPORT
"""
SOURCE = """\
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from sim.traces.source import TraceSource
@dataclass(frozen=True, slots=True, kw_only=True)
class Mine(TraceSource):
    kind: ClassVar[str] = "mine"
    mean_qps: float = 100.0
    def __post_init__(self):
        INIT
    def chunks(self, seed):
        CHUNKS
        yield np.arange(100, dtype=np.int64) * 10_000_000
    @property
    def duration_ns(self):
        DURATION
        return 1_000_000_000
IMPORT
"""
BROKEN = {
    "zero": "1 / 0",
    "empty": "raise RuntimeError",
    "recursion": "(lambda f: f(f))(lambda f: f(f))",
    "exit": "raise SystemExit(3)",
    "lines": r"raise ValueError('a\nb')",
}
RUNS = {
    "run": ("run", "own.yaml", "--no-figures"),
    "capacity": ("capacity", "own.yaml"),
    "workers": ("capacity", "own.yaml", "--rate", "100"),
}
POLICIES = {**RUNS, "check": ("policy", "check", "mine:Mine"), "plot": ("policy", "plot", "mine:Mine", "-o", "x.png")}
TRACES = {
    **RUNS,
    "make": ("trace", "make", "mine:Mine", "--set", "slo_ms=36", "-o", "x.csv"),
    "describe": ("trace", "describe", "mine:Mine", "--set", "slo_ms=36"),
}


@pytest.fixture(autouse=True)
def _fresh_modules() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path
    sys.modules.pop("mine", None)


def filled(text: str, place: str, statement: str) -> str:
    """Return a module with a statement at a place, and `pass` at the others."""
    for name in ("INIT", "LATER", "DECIDE", "CHUNKS", "DURATION", "IMPORT"):
        text = text.replace(name, statement if name == place else "pass")
    return text


def written(folder: Path, module: str, *, policy: str = "slackfit", trace: str = "") -> Path:
    constant = "{kind: constant, mean_qps: 100, duration_s: 1, slo_ms: 36}"
    (folder / "mine.py").write_text(module)
    text = EXPERIMENT.replace("TRACE", trace or constant).replace("POLICY", policy)
    (folder / "own.yaml").write_text(text)
    return folder


def check_told(ended: Ended, module: str, statement: str) -> None:
    assert ended.returncode in {1, 2}, ended
    assert "Traceback" not in ended.stderr
    line = 1 + next(number for number, text in enumerate(module.splitlines()) if statement in text)
    assert f"mine.py:{line}" in ended.stderr


@pytest.mark.parametrize("command", POLICIES)
@pytest.mark.parametrize("place", ["INIT", "DECIDE", "LATER", "IMPORT"])
def test_a_policy_that_raises_names_its_line(tmp_path: Path, command: str, place: str) -> None:
    if (command, place) == ("plot", "LATER"):
        pytest.skip("it is asked at time 0 alone")
    module = filled(POLICY, place, "1 / 0")
    ended = ssim(written(tmp_path, module, policy="'mine:Mine'"), *POLICIES[command])
    check_told(ended, module, "1 / 0")
    assert place in {"INIT", "IMPORT"} or re.search(r"slack -?[\d.]+ ms, queue \d+", ended.stderr)


@pytest.mark.parametrize("command", TRACES)
@pytest.mark.parametrize("place", ["INIT", "CHUNKS", "IMPORT"])
def test_a_trace_source_that_raises_names_its_line(tmp_path: Path, command: str, place: str) -> None:
    module = filled(SOURCE, place, "1 / 0")
    ended = ssim(written(tmp_path, module, trace="{kind: 'mine:Mine', slo_ms: 36}"), *TRACES[command])
    check_told(ended, module, "1 / 0")


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize(
    ("text", "place"), [(POLICY, "INIT"), (POLICY, "LATER"), (SOURCE, "CHUNKS"), (SOURCE, "IMPORT")]
)
def test_whatever_is_raised_is_told_in_one_line(tmp_path: Path, kind: str, text: str, place: str) -> None:
    module, own = filled(text, place, BROKEN[kind]), "{kind: 'mine:Mine', slo_ms: 36}"
    parts = {"policy": "'mine:Mine'"} if text is POLICY else {"trace": own}
    ended = ssim(written(tmp_path, module, **parts), *RUNS["run"])
    check_told(ended, module, BROKEN[kind])
    assert len(re.findall(r"mine\.py:", ended.stderr)) == 1


@pytest.mark.parametrize("answer", ["42", "None", "Dispatch(-1, 1)", "Dispatch(0, 0)"])
@pytest.mark.parametrize("command", ["run", "check"])
def test_an_answer_that_is_no_decision_names_the_method(tmp_path: Path, command: str, answer: str) -> None:
    module = filled(POLICY, "DECIDE", f"return {answer}")
    ended = ssim(written(tmp_path, module, policy="'mine:Mine'"), *POLICIES[command])
    check_told(ended, module, "def decide")
    assert re.search(r"slack -?[\d.]+ ms, queue \d+", ended.stderr)


@pytest.mark.parametrize("yielded", ["yield ['a']", "yield None", "return 5"])
@pytest.mark.parametrize("command", ["run", "workers"])
def test_arrivals_that_are_none_name_the_source(tmp_path: Path, command: str, yielded: str) -> None:
    module = filled(SOURCE, "", "").replace("yield np.arange(100, dtype=np.int64) * 10_000_000", yielded)
    ended = ssim(written(tmp_path, module, trace="{kind: 'mine:Mine', slo_ms: 36}"), *RUNS[command])
    check_told(ended, module, "def chunks")


@pytest.mark.parametrize("text", ["def x(:\n", "class A:\npass\n", "x = '\x00'\n"])
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_file_that_is_not_python_is_named(tmp_path: Path, command: str, text: str) -> None:
    ended = ssim(written(tmp_path, text, policy="'mine:Mine'"), *POLICIES[command])
    assert ended.returncode == 2
    assert re.search(r"importing 'mine' raised \w+Error: .*\(mine\.py(:\d+)?\)", ended.stderr)


@pytest.mark.parametrize("place", ["INIT", "DECIDE", "LATER", "IMPORT"])
def test_debug_shows_the_line_in_a_traceback(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, filled(POLICY, place, "1 / 0"), policy="'mine:Mine'")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((SystemExit, Exception)) as raised:
        main(["--debug", *RUNS["run"]])
    causes, error = [], raised.value
    while error is not None:
        causes.append(user_frame(error))
        error = error.__cause__
    assert any("mine.py" in cause for cause in causes) or 'mine.py", line' in capsys.readouterr().err


TRAINING = """\
schema: federated/1
name: own
seed: 7
topology: {use: classical, datasets: {trainer: {default: 2}}}
data: {kind: digits, train: 128}
family: {kind: cnn_small, width: 4, hidden: 16}
rounds: 1
calibration: {subnets: 2, examples: 64}
"""
TRAINED = {
    "algorithm": ("federated.algorithms", "FedAvg", "server_step"),
    "partition": ("federated.partition", "Iid", "split"),
    "subnets": ("federated.assignment", "LargestAssignment", "assign"),
    "family": ("supernet.families.cnn", "CnnSmall", "network"),
    "data": ("supernet.data.digits", "Digits", "splits"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero", "exit"])
@pytest.mark.parametrize("key", TRAINED)
def test_a_plug_in_of_a_training_that_raises_names_its_line(tmp_path: Path, key: str, kind: str) -> None:
    pytest.importorskip("torch", reason="federated training needs the extra [torch]")
    package, base, method = TRAINED[key]
    module = (
        f"from dataclasses import dataclass\nfrom {package} import {base}\n@dataclass(frozen=True)\n"
        f"class Mine({base}):\n    def {method}(self, *a, **k):\n        {BROKEN[kind]}\n"
    )
    (tmp_path / "mine.py").write_text(module)
    lines = [line for line in TRAINING.splitlines() if not line.startswith(f"{key}:")]
    (tmp_path / "own.yaml").write_text("\n".join([*lines, f"{key}: 'mine:Mine'", ""]))
    check_told(ssim(tmp_path, "train", "own.yaml"), module, BROKEN[kind])


CENTRAL = """\
schema: training/1
name: own
seed: 7
data: {kind: digits, train: 128}
family: {kind: cnn_small, width: 4, hidden: 16}
batch: 64
phases:
  - {epochs: 1, rate: 0.1, subnets: sandwich}
calibration: {subnets: 2, examples: 64}
search: {subnets: 2, measured: 20, population: 4, evaluations: 20}
"""
CENTRALLY_TRAINED = {
    "data": ("supernet.data.digits", "Digits", "splits"),
    "family": ("supernet.families.cnn", "CnnSmall", "network"),
    "optimizer": ("supernet.training.optimizers", "Sgd", "build"),
    "subnets": ("supernet.training.sampling", "SandwichRule", "draw"),
}


@pytest.mark.slow
@pytest.mark.parametrize("key", CENTRALLY_TRAINED)
def test_a_plug_in_of_a_central_training_that_raises_names_its_line(tmp_path: Path, key: str) -> None:
    pytest.importorskip("torch", reason="training needs the extra [torch]")
    package, base, method = CENTRALLY_TRAINED[key]
    module = (
        f"from dataclasses import dataclass\nfrom {package} import {base}\n"
        f"@dataclass(frozen=True, slots=True, kw_only=True)\nclass Mine({base}):\n"
        f"    def {method}(self, *a, **k):\n        1 / 0\n"
    )
    (tmp_path / "mine.py").write_text(module)
    if key == "subnets":
        text = CENTRAL.replace("subnets: sandwich", "subnets: 'mine:Mine'")
    else:
        lines = [line for line in CENTRAL.splitlines() if not line.startswith(f"{key}:")]
        text = "\n".join([*lines, f"{key}: 'mine:Mine'", ""])
    (tmp_path / "own.yaml").write_text(text)
    check_told(ssim(tmp_path, "supernet", "train", "own.yaml"), module, "1 / 0")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("calibrate", "own.yaml", "cnn_small:w1x3"), ("search", "own.yaml")])
def test_data_that_raise_after_the_training_name_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    pytest.importorskip("torch", reason="training needs the extra [torch]")
    module = (
        "import os\nfrom dataclasses import dataclass\nfrom supernet.data.digits import Digits\n"
        "@dataclass(frozen=True, slots=True, kw_only=True)\nclass Mine(Digits):\n"
        "    def splits(self, seed):\n        if 'BROKEN' in os.environ:\n            1 / 0\n"
        "        return super().splits(seed)\n"
    )
    (tmp_path / "mine.py").write_text(module)
    (tmp_path / "own.yaml").write_text(CENTRAL.replace("kind: digits", "kind: 'mine:Mine'"))
    assert ssim(tmp_path, "supernet", "train", "own.yaml").returncode == 0
    monkeypatch.setenv("BROKEN", "1")
    check_told(ssim(tmp_path, "supernet", *words), module, "1 / 0")


def test_a_data_source_without_a_method_is_refused_before_the_training(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra [torch]")
    module = "from dataclasses import dataclass\n@dataclass\nclass Mine:\n    def splits(self, seed):\n        pass\n"
    (tmp_path / "mine.py").write_text(module)
    (tmp_path / "own.yaml").write_text(CENTRAL.replace("kind: digits, train: 128", "kind: 'mine:Mine'"))
    ended = ssim(tmp_path, "supernet", "train", "own.yaml")
    assert ended.returncode == 2
    assert (
        "own.yaml:4:14: data.kind: Mine has no method identity(), no method located(folder) (mine.py:" in ended.stderr
    )
    assert not (tmp_path / "results").exists()
