"""The compiled engine's own cache on disk: what is damaged there, or out of date, is made anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

ROOT = Path(__file__).parents[3]

FUNCTIONS = """\
from sim.compiled.compiling import INT, compiled

@compiled(INT(INT))
def inner(x):
    return x + 1

@compiled(INT(INT))
def outer(x):
    return 10 * inner(x)

@compiled(INT(INT))
def broken(x):
    return outer(x)

print(outer(4))
"""


def said(folder: Path, **environment: str) -> str:
    command = [sys.executable, "functions.py"]
    ended = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    assert said(tmp_path) == "50"
    assert list((tmp_path / "__pycache__").glob("functions.outer-*.nbi"))
    return tmp_path


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "cut"])
def test_a_damaged_cache_is_made_anew(folder: Path, pattern: str, damage: bytes | None) -> None:
    files = list((folder / "__pycache__").glob(pattern))
    assert files
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert said(folder) == "50"
    assert said(folder) == "50"


def test_a_cache_of_other_code_is_not_used(folder: Path) -> None:
    text = FUNCTIONS.replace("x + 1", "x + 2")
    assert len(text) == len(FUNCTIONS)
    (folder / "functions.py").write_text(text)
    assert said(folder) == "60"


def test_where_nothing_can_be_kept_it_is_compiled_each_time(folder: Path) -> None:
    shutil.rmtree(folder / "__pycache__")
    (folder / "__pycache__").write_text("no folder")
    cache = folder / "no_folder"
    cache.write_text("either")
    assert said(folder, XDG_CACHE_HOME=str(cache), HOME=str(cache), PYTHONDONTWRITEBYTECODE="1") == "50"


def test_a_fault_of_the_code_is_raised_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS.replace("return outer(x)", "return unheard_of(x)"))
    ended = subprocess.run(
        [sys.executable, "functions.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert "unheard_of" in ended.stderr


def test_all_that_a_compiled_function_calls_stands_in_its_own_file() -> None:
    """Numba's cache does not notice an edit of another."""
    for name in ("kernel", "counters", "outcomes"):
        text = (ROOT / "sim" / "compiled" / f"{name}.py").read_text()
        imported = [line for line in text.splitlines() if line.startswith(("from sim", "import sim"))]
        assert {line.split()[1] for line in imported} == {"sim.compiled.compiling"}
