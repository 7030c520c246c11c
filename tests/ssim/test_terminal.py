"""What commands print on terminals and pipes of any width, without a home, and while they are silent."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from ssim.commands.printing import console, headings
from ssim.commands.silence import AFTER_S, Silence
from tests.ssim.in_process import ssim
from tests.ssim.test_cli import EVERY

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]

SHOWN = {
    "policy list": "",
    "planner list": "",
    "trace list": "",
    "trace describe": "poisson --set mean_qps=50 --set duration_s=2 --set slo_ms=36",
    "table list": "",
    "table show": "ofa-resnet50-a40",
    "supernet list": "",
    "supernet show": "cnn_small",
    "results ls": "",
    "results status": "one",
    "examples": "",
}
"""What is typed for each command that lists, shows or describes something."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a stored experiment."""
    folder = tmp_path_factory.mktemp("terminal")
    text = "schema: experiment/1\nname: one\nseed: 1\nlatency_table: ofa-resnet50-a40\npolicies: [slackfit]\n"
    trace = "trace: {kind: poisson, mean_qps: 50, duration_s: 1, slo_ms: 36}\ncluster: {workers: 1}\n"
    (folder / "one.yaml").write_text(text + trace)
    ended = ssim(folder, "run", "one.yaml", "--no-figures", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    return folder


def test_every_list_show_and_status_has_json() -> None:
    asked = {"list", "ls", "show", "status", "describe", "examples"}
    found = {name for name, one in EVERY.items() if name.split()[-1] in asked and not isinstance(one, click.Group)}
    assert found == SHOWN.keys()
    assert [name for name in found if not any("--json" in one.opts for one in EVERY[name].params)] == []


@pytest.mark.parametrize("name", SHOWN)
def test_json_is_all_that_is_printed_and_a_table_in_a_pipe_has_no_blanks_at_its_ends(folder: Path, name: str) -> None:
    words = [*name.split(), *SHOWN[name].split()]
    ended = ssim(folder, *words, "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)
    printed = ssim(folder, *words).stdout
    assert printed
    assert "\x1b" not in printed
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    assert [line for line in printed.splitlines() if line != line.rstrip(" ")] == []


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def printed(rows: Sequence[tuple[str, float]], width: int | None) -> str:
    table = Table(title="A title of a table")
    table.add_column("policy", overflow="fold")
    for heading in ("SLO attainment", "accuracy %", "p99 ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, number in rows:
        table.add_row(name, f"{number:.6f} ±0.1", f"{number * 100:.2f} ±0.004", f"{number * 1e6:,.1f}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", Screen() if width else io.StringIO())
        patch.setenv("NO_COLOR", "1")
        patch.setenv("TERM", "xterm")
        if width:
            patch.setenv("COLUMNS", str(width))
        console().print(table)
        return re.sub(r"\x1b\[[\d;]*m", "", sys.stdout.getvalue())  # type: ignore[attr-defined]  # it is a Screen or a StringIO


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.from_regex(r"[a-z_:]{1,60}", fullmatch=True), st.floats(0, 1)), min_size=1, max_size=5),
    st.one_of(st.none(), st.integers(40, 200)),
)
def test_no_number_is_cut_whatever_the_width(rows: list[tuple[str, float]], width: int | None) -> None:
    text = printed(rows, width)
    whole = re.sub(r"[^a-z_:]", "", text)
    for name, number in rows:
        for shown in (f"{number:.6f} ±0.1", f"{number * 100:.2f} ±0.004", f"{number * 1e6:,.1f}"):
            assert shown in text
        if width is None:
            assert name in text
        elif len(name) <= 10:
            assert name in whole
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    if width is not None and "│" in text:
        assert all(len(line) <= width for line in text.splitlines())


@given(st.lists(st.tuples(st.sampled_from("oe."), st.floats(0.1, 5)), max_size=20))
def test_a_silent_command_says_that_it_works_and_leaves_no_trace(events: list[tuple[str, float]]) -> None:
    """Words come out whole and in order; the line is there only after a silence, and is cleared before they come."""
    out, err = io.StringIO(), io.StringIO()
    silence, now, last, ticks, words = Silence("ssim x", out, err, 0.0), 0.0, 0.0, 0, 0
    for event, wait in events:
        now += wait
        if event == ".":
            silence.tick(now)
            ticks += now - last >= AFTER_S
        else:
            silence.said(out if event == "o" else err, f"word {words}\n", now)
            last, words = now, words + 1
    silence.clear()
    assert err.getvalue().count("working") == ticks
    lines = re.sub(r"\r\x1b\[2K(ssim x: working, \d+ s)?", "", err.getvalue())
    assert lines == "".join(f"word {n}\n" for n, (e, _) in enumerate(e for e in events if e[0] != ".") if e == "e")
    assert err.getvalue().endswith(("\n", "\x1b[2K")) or not err.getvalue()


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_no_obstacle(folder: Path) -> None:
    environment = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    environment |= {"HOME": "/dev/null/home", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "ssim", "run", "one.yaml", "--out", "other", "--jobs", "1"]
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "MPLCONFIGDIR" in ended.stderr  # matplotlib says it, and what to do
    assert len(list((folder / "other/one/figures").iterdir())) == 6


def test_swept_keys_that_end_alike_have_headings_that_differ() -> None:
    keys = ["queues.0.trace.mean_qps", "queues.1.trace.mean_qps", "cluster.workers"]
    assert list(headings(keys).values()) == [*keys[:2], "workers"]
