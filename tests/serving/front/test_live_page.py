"""The live page: what it shows are the counts of the server, and it asks nobody else."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="a server needs the extra [serve]")

from serving.front import history
from serving.front.listening import Listen
from tests.serving.front.serving import TABLE, Server, question, wait_for

if TYPE_CHECKING:
    from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_windows_add_up_to_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "NS_PER_S", 50_000_000)  # windows of 50 ms
    with Server(listen=Listen(port=0, page=True)) as server:
        server.ask(question(30))
        server.ask(question(5, parameters={"timeout": 1}))
        wait_for(lambda: sum(one["answered"] for one in server.get("/live.json").json()["windows"]) == 35)
        content, metrics = server.get("/live.json").json(), server.metrics()
        assert server.get("/").headers["Content-Security-Policy"].startswith("default-src 'none'")
    windows = content["windows"]
    assert content["name"] == "test"
    assert [one["id"] for one in content["subnets"]] == [subnet.id for subnet in TABLE.subnets]
    assert all(one["at_s"] < other["at_s"] for one, other in pairwise(windows))
    for number, subnet in enumerate(TABLE.subnets):
        met = metrics[f'ssim_queries_in_time_total{{subnet="{subnet.id}"}}']
        assert sum(one["served"][number] for one in windows) >= met
    assert sum(one["received"] for one in windows) == 35 == metrics["ssim_queries_answered_total"]
    in_time = sum((one["attainment"] or 0) * one["answered"] for one in windows)
    assert in_time == pytest.approx(sum(value for name, value in metrics.items() if "in_time" in name))


def test_without_the_option_there_is_no_page() -> None:
    with Server() as server:
        assert {server.get(path).status_code for path in ("/", "/live.json")} == {404}


def test_the_page_names_no_other_server() -> None:
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", history.PAGE.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")
def test_a_browser_shows_what_was_served(tmp_path: Path) -> None:
    with Server(listen=Listen(port=0, page=True)) as server:
        server.ask(question(8, parameters={"timeout": 10_000_000}))
        wait_for(lambda: sum(one["received"] for one in server.get("/live.json").json()["windows"]) == 8)
        words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
        shown = subprocess.run(
            [str(BROWSER), *words, "--virtual-time-budget=3000", server.address + "/"],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
    assert '<b id="workers">2</b>' in shown
    assert '<b id="attainment">1.0000</b>' in shown
    assert shown.count("<polyline") == 5
    assert re.search(r"\(\d\d\.\d\d %\)", shown)
