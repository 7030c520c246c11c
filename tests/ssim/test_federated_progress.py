"""The rounds of a federated training, as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from sim.base.parquet import read_parquet
from ssim.jobs.federated.drawing import _curves, _traffic
from ssim.jobs.federated.progress import FederatedProgress
from topology.report import LogEntry, RunReport, Traffic

if TYPE_CHECKING:
    from pathlib import Path


def test_bytes_that_are_known_by_their_round_are_summed_up(tmp_path: Path) -> None:
    """Of workers in other processes the messages of a round are known, not what was sent until its end."""
    entries = [
        LogEntry(number * 10**9, "server/0", "round", {"round": number, "accuracy": {"net:a": 50.0 + number}})
        for number in (1, 2, 3)
    ]
    by_round = {
        1: {"param": Traffic(4, 200), "global": Traffic(1, 7)},
        3: {"param": Traffic(2, 90, lost=1)},  # nobody answered in the second
        4: {"param": Traffic(9, 999)},  # of a round that was not completed
    }
    progress = FederatedProgress()
    for entry in entries:
        assert progress.add_round(entry, None)["bytes"] is None
    progress.add_traffic(by_round, ["param", "global"])
    progress.store(tmp_path, RunReport(log=entries))
    assert read_parquet(tmp_path / "rounds.parquet").column("bytes").to_pylist() == [207, 207, 297]
    sent = read_parquet(tmp_path / "traffic.parquet").to_pylist()
    assert [(row["round"], row["channel"], row["messages"], row["bytes"], row["lost"]) for row in sent] == [
        (1, "param", 4, 200, 0),
        (1, "global", 1, 7, 0),
        (2, "param", 4, 200, 0),
        (2, "global", 1, 7, 0),
        (3, "param", 6, 290, 1),
        (3, "global", 1, 7, 0),
    ]
    assert _curves(tmp_path, 7)["bytes"].tolist() == [207, 207, 297]
    assert _traffic(tmp_path, "run", 7).set_index("channel")["bytes"].to_dict() == {"param": 290 / 3, "global": 7 / 3}
