"""What the runs of a sweep share: it is made, read and written once, which keeps a thousand short runs fast."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from ssim.results import store
from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

from sim import engines
from sim.traces.synthetic import Poisson

SEEDS, POLICIES, POINTS = 6, 2, 3
RUNS = SEEDS * POLICIES * POINTS

SWEEP = f"""\
schema: experiment/1
name: sweep
seed: 1
repeats: {SEEDS}
trace: {{kind: poisson, mean_qps: 500, duration_s: 1, slo_ms: 36}}
cluster: {{workers: 1}}
latency_table: ofa-resnet50-rtx2080ti
engine: compiled
keep: summary
policies: [slackfit, maxbatch]
sweep:
  cluster.workers: [1, 2, 3]
"""


def counting(monkeypatch: pytest.MonkeyPatch, counts: Counter[str], owner: Any, name: str) -> None:
    """Count the calls of a function."""
    function: Callable[..., Any] = getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        counts[name] += 1
        return function(*arguments, **named)

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_sweep_draws_each_trace_once_and_tabulates_each_policy_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str
) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    counts: Counter[str] = Counter()
    counting(monkeypatch, counts, Poisson, "arrivals")
    counting(monkeypatch, counts, engines, "tabulate")
    counting(monkeypatch, counts, store, "_read_json")
    command = ("run", "sweep.yaml", "--no-figures", "--jobs", jobs)
    assert ssim(tmp_path, *command).returncode == 0
    assert counts["arrivals"] == SEEDS, "points with the same arrivals share them"
    assert counts["tabulate"] == POLICIES
    reads = counts["_read_json"]
    assert reads <= RUNS + 2, "each manifest once, and the index"
    drawing = ("run", "sweep.yaml", "--jobs", jobs)
    assert ssim(tmp_path, *(drawing if jobs == "1" else command)).returncode == 0
    assert counts["arrivals"] == SEEDS
    assert counts["tabulate"] == POLICIES
    assert counts["_read_json"] - reads <= 2 * RUNS + 14, (
        "each manifest to see that it is there, and for all that is shown; the index for each figure"
    )
