"""docs/own_federated.md from an empty folder: a network, a table and a strategy of one's own, and each command."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

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
    *own, data = blocks(PAGE, "python")
    files = dict(zip(("net.py", "strategy.py"), own, strict=True))
    (files["quick.yaml"],) = blocks(PAGE, "yaml")
    assert sum(text.count("\n") for text in files.values()) <= 50
    files["make_data.py"] = data
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    parties = []
    make, *commands = "".join(blocks(PAGE, "console")).replace("\\\n", " ").splitlines()
    assert make == "$ python make_data.py"
    subprocess.run([sys.executable, "make_data.py"], cwd=tmp_path, check=True)
    for command in commands:
        ended = ssim(tmp_path, *shlex.split(command.removeprefix("$ ssim ")))
        assert ended.returncode == 0, ended.stderr
        assert "clients, on examples of their own: mean " in ended.stdout
        newest = max((tmp_path / "results" / "quick").glob("seed1-*"), key=lambda path: path.stat().st_mtime_ns)
        clients = read_parquet(newest / "clients.parquet").to_pandas()
        parties.append(set(clients["party"]))
        assert clients[clients["round"] == clients["round"].max()]["accuracy"].mean() > 70
    assert list(map(len, parties)) == [5, 5, 2]
