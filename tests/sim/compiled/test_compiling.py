"""The compiled engine's own cache on disk: what is damaged there, or out of date, is made anew."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

from sim.compiled import compiling

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
"""


def outer_of_4(folder: Path) -> int:
    """Return what the functions give when they are imported anew, in this process."""
    spec = importlib.util.spec_from_file_location("functions", folder / "functions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.outer(4)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "functions.py").write_text(FUNCTIONS)
    assert outer_of_4(folder) == 50
    assert list((folder / "__pycache__").glob("functions.outer-*.nbi"))
    return folder


@pytest.fixture
def folder(compiled: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return shutil.copytree(compiled, tmp_path / "copy")


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "cut"])
def test_a_damaged_cache_is_made_anew(folder: Path, pattern: str, damage: bytes | None) -> None:
    files = list((folder / "__pycache__").glob(pattern))
    assert files
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert outer_of_4(folder) == 50
    assert outer_of_4(folder) == 50


def test_a_cache_of_other_code_is_not_used(folder: Path) -> None:
    text = FUNCTIONS.replace("x + 1", "x + 2")
    assert len(text) == len(FUNCTIONS)
    (folder / "functions.py").write_text(text)
    assert outer_of_4(folder) == 60


def test_where_nothing_can_be_kept_it_is_compiled_each_time(tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS + "print(outer(4))\n")
    (tmp_path / "__pycache__").write_text("no folder")
    cache = tmp_path / "no_folder"
    cache.write_text("either")
    nowhere = {"XDG_CACHE_HOME": str(cache), "HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "functions.py"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=os.environ | nowhere, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "50\n"), ended.stderr


def test_a_fault_of_the_code_is_raised_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS.replace("return outer(x)", "return unheard_of(x)"))
    with pytest.raises(Exception, match="unheard_of"):
        outer_of_4(tmp_path)


def test_an_edit_of_another_file_of_the_package_has_all_of_it_compiled_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba's own cache notices edits of the function's file alone."""
    assert outer_of_4(folder) == 50
    hits = [path.stat().st_mtime_ns for path in sorted((folder / "__pycache__").glob("*.nbi"))]
    assert outer_of_4(folder) == 50
    assert hits == [path.stat().st_mtime_ns for path in sorted((folder / "__pycache__").glob("*.nbi"))]
    edited = (*compiling._package_stamp()[1:], ("kernel.py", 1, 2))
    monkeypatch.setattr(compiling, "_package_stamp", lambda: edited)
    assert outer_of_4(folder) == 50
    assert hits != [path.stat().st_mtime_ns for path in sorted((folder / "__pycache__").glob("*.nbi"))]


def test_all_that_a_compiled_function_calls_is_in_the_package_of_the_compiled_engine() -> None:
    for name in ("kernel", "counters", "outcomes", "heaps", "loop_state"):
        text = (ROOT / "sim" / "compiled" / f"{name}.py").read_text()
        imported = [line for line in text.splitlines() if line.startswith(("from sim", "import sim"))]
        assert all(line.split()[1].startswith("sim.compiled.") for line in imported)
