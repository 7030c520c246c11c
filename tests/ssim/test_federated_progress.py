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


def test_the_bytes_of_a_round_are_told_when_they_are_known(tmp_path: Path) -> None:
    """Of workers in other processes only the sum over all rounds is: it stands in the last one, and is drawn."""
    entries = [
        LogEntry(number * 10**9, "server/0", "round", {"round": number, "accuracy": {"net:a": 50.0 + number}})
        for number in (1, 2, 3)
    ]
    progress, total = FederatedProgress(), {"param": Traffic(messages=9, bytes=600, lost=1)}
    for entry in entries:
        assert progress.add_round(entry, None)["bytes"] is None
    progress.add_total(total)
    progress.store(tmp_path, RunReport(traffic=total, log=entries))
    assert read_parquet(tmp_path / "rounds.parquet").column("bytes").to_pylist() == [None, None, 600]
    (sent,) = read_parquet(tmp_path / "traffic.parquet").to_pylist()
    assert sent == {"round": 3, "worker": "server/0", "time_s": 3.0, "channel": "param", "messages": 9} | {
        "bytes": 600,
        "lost": 1,
    }
    curves = _curves(tmp_path, 7)
    assert curves["accuracy"].tolist() == [51.0, 52.0, 53.0]
    assert curves["bytes"].dropna().tolist() == [600]
    assert _traffic(tmp_path, "run", 7)["bytes"].tolist() == [200]
