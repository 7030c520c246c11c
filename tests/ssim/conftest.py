"""What several tests of the commands work on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = """\
schema: experiment/1
name: own
seed: 7
repeats: 2
trace: {kind: file, path: ../traces/arrivals.csv, slo_ms: 36}
cluster: {workers: 2}
latency_table: table.csv
policies:
  - slackfit
  - {use: "own_policy:Mine", params: {most: 4}}
  - own_policy:Counting
"""

POLICY = """\
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from own_helper import at_most
from sim import Dispatch
from sim.compiled.step_policy import StepPolicy


@dataclass(frozen=True)
class Mine:
    most: int = 8

    def decide(self, view):
        return Dispatch(0, at_most(self.most, view.queue_length))


@dataclass
class Counting(StepPolicy):
    def memory(self, table, dispatch_ns):
        return np.zeros(1)

    @staticmethod
    def step(memory, now_ns, slack_ns, queue_length, arrived, latency_ns):
        memory[0] = (memory[0] + 1) % 3
        return 0, 1 + int(memory[0])
"""

TABLE = """\
subnet,accuracy,batch_size,latency_ms
small,73.0,1,2
small,73.0,8,6
large,78.0,1,4
large,78.0,8,12
"""


@pytest.fixture
def all_formats() -> None:
    """Of pictures, for tests that need each."""


@pytest.fixture(autouse=True)
def _png_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw pictures in one format: three take three times as long."""
    if "all_formats" not in request.fixturenames:
        monkeypatch.setattr("figures.style.FORMATS", (".png",))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The folder of an experiment that is made of one's own policies, table and trace."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (tmp_path / "traces").mkdir()
    arrivals = np.cumsum(np.random.default_rng(1).exponential(1 / 700, 3000))
    text = "\n".join(["arrival_s", *(f"{value:.6f}" for value in arrivals), ""])
    (tmp_path / "traces" / "arrivals.csv").write_text(text)
    (folder / "table.csv").write_text(TABLE)
    (folder / "own_policy.py").write_text(POLICY)
    (folder / "own_helper.py").write_text("at_most = min\n")
    (folder / "own.yaml").write_text(EXPERIMENT)
    return folder
