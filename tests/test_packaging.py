"""What is installed, and what it is made of."""

from __future__ import annotations

import configparser
import importlib.metadata
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("sim", "policies", "supernet", "profiler", "topology", "federated", "figures", "ssim")


@pytest.mark.parametrize("room", ROOMS)
def test_nobody_else_owns_our_names(room: str) -> None:
    """Another distribution with a folder of this name would overwrite ours without a word."""
    assert set(importlib.metadata.packages_distributions()[room]) == {"superserve-sim"}


def test_metadata_has_one_home() -> None:
    """With a [project] table, setuptools drops the dependencies of setup.cfg."""
    assert "project" not in tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_a_simulation_installs_without_torch() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "torch" not in setup["options"]["install_requires"]
    assert "torch" in setup["options.extras_require"]["torch"]


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_of_a_room_is_a_package(room: str) -> None:
    for folder in {path.parent for path in (ROOT / room).rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder


def test_every_folder_of_tests_is_a_package() -> None:
    """Without it, `tests/sim` would be imported as `sim`."""
    for folder in {path.parent for path in (ROOT / "tests").rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder


def test_files_stay_short() -> None:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path


def test_tables_are_installed_with_the_code() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.package_data"]["sim.tables"] == "*.json"
