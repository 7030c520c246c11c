"""docs/own_federated.md from an empty folder: a network, a table and a strategy of one's own, and each command."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from sim.base.parquet import read_parquet
from tests.ssim.in_process import ssim
from tests.test_docs import blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/own_federated.md"


@pytest.mark.slow
def test_the_page_about_ones_own_federation_works_as_it_stands(tmp_path: Path) -> None:
    files = dict(zip(("net.py", "strategy.py"), blocks(PAGE, "python"), strict=True))
    (files["quick.yaml"],) = blocks(PAGE, "yaml")
    assert sum(text.count("\n") for text in files.values()) <= 50
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    chance = np.random.default_rng(0)
    weights = chance.normal(size=(20, 3))
    for name, count in {"data": 1000, "north": 300, "south": 200}.items():
        rows = chance.normal(size=(count, 20))
        kinds = np.array(["red", "green", "blue"])[(rows @ weights).argmax(1)]
        header = ",".join([*(f"x{number}" for number in range(20)), "kind"])
        lines = [",".join([*(f"{value:.4f}" for value in row), kind]) for row, kind in zip(rows, kinds, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
    parties = []
    for command in blocks(PAGE, "console"):
        ended = ssim(tmp_path, *shlex.split(command.removeprefix("$ ssim ").replace("\\\n", " ")))
        assert ended.returncode == 0, ended.stderr
        assert "clients, on examples of their own: mean " in ended.stdout
        newest = max((tmp_path / "results" / "quick").glob("seed1-*"), key=lambda path: path.stat().st_mtime_ns)
        clients = read_parquet(newest / "clients.parquet").to_pandas()
        parties.append(set(clients["party"]))
        assert clients[clients["round"] == clients["round"].max()]["accuracy"].mean() > 70
    assert list(map(len, parties)) == [5, 2]
