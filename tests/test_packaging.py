"""What is installed, and what it is made of."""

from __future__ import annotations

import configparser
import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sim.base import errors
from ssim.extras import EXTRAS
from ssim.files.shipped import FOLDERS, names, shipped, summary
from ssim.packages import PACKAGES

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOLS: dict[str, Any] = PYPROJECT["tool"]


def setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def test_nobody_else_owns_our_names_and_we_own_no_others() -> None:
    """Another distribution with a folder of this name would overwrite ours without a word.

    `tests` and `benchmarks` of other projects must not be ours.
    """
    owned = importlib.metadata.packages_distributions()
    assert {owner for package in PACKAGES for owner in owned[package]} == {"superserve-sim"}
    assert not {"tests", "benchmarks", "experiments", "topologies"} & owned.keys()


def test_packages_are_the_same_in_every_list() -> None:
    include = setup()["options.packages.find"]["include"].split()
    assert {name for name in include if "." not in name} == set(PACKAGES)
    assert errors.PACKAGES == PACKAGES
    assert {name.removesuffix(".*") for name in include if name.endswith(".*")} == set(PACKAGES)
    assert set(TOOLS["pytest"]["ini_options"]["testpaths"]) == {"tests", *PACKAGES}
    assert set(TOOLS["coverage"]["run"]["source"]) == set(PACKAGES)
    assert set(TOOLS["ruff"]["lint"]["isort"]["known-first-party"]) == {"benchmarks", "tests", *PACKAGES}
    assert set(TOOLS["mypy"]["packages"]) == {"benchmarks", *PACKAGES}
    assert set(TOOLS["pyright"]["include"]) == set(PACKAGES)
    assert set(TOOLS["importlinter"]["root_packages"]) == set(PACKAGES)
    layers, *contracts = TOOLS["importlinter"]["contracts"]
    assert set(re.findall(r"\w+", " ".join(layers["layers"]))) == set(PACKAGES)
    for contract in contracts:
        if len(contract.get("source_modules", ())) == len(PACKAGES):
            assert set(contract["source_modules"]) == set(PACKAGES), contract["name"]


def test_contracts_name_packages_not_modules() -> None:
    for contract in TOOLS["importlinter"]["contracts"]:
        for name in (*contract.get("source_modules", ()), *contract.get("forbidden_modules", ())):
            path = ROOT.joinpath(*name.split("."))
            assert (
                path.is_dir() or not path.with_suffix(".py").is_file() or name in {"sim.engines", "sim.engine.driver"}
            )


def test_every_layer_of_a_contract_is_there() -> None:
    """A name in brackets may be absent; one that is misspelt must not hide behind that."""
    for contract in TOOLS["importlinter"]["contracts"]:
        for container in contract.get("containers", ()):
            found = {path.stem for path in (ROOT / container).iterdir() if path.suffix == ".py" or path.is_dir()}
            assert set(re.findall(r"\w+", " ".join(contract["layers"]))) <= found


def test_metadata_has_one_home() -> None:
    """With a [project] table, setuptools drops the dependencies of setup.cfg."""
    assert "project" not in PYPROJECT


def test_a_simulation_installs_without_torch() -> None:
    assert "torch" not in setup()["options"]["install_requires"]
    assert "torch" in setup()["options.extras_require"]["torch"]


def test_every_extra_that_is_named_is_there() -> None:
    extras = setup()["options.extras_require"]
    assert set(EXTRAS.values()) <= set(extras)
    for module, extra in EXTRAS.items():
        known = {
            "sklearn": "scikit-learn",
            "pynvml": "nvidia-ml-py",
            "dp_accounting": "dp-accounting",
            "dask": "distributed",
            "prometheus_client": "prometheus-client",
            "grpc": "grpcio",
        }
        assert known.get(module, module) in extras[extra], module


def test_nobody_else_says_how_to_install() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert "pip install -e" not in path.read_text(), path


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_a_package_is_a_package(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
    for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder


def test_every_folder_of_tests_is_a_package() -> None:
    """Without it, `tests/sim` would be imported as `sim`."""
    for folder in {path.parent for path in (ROOT / "tests").rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder


def test_files_stay_short() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path


def test_shipped_files_are_those_of_the_checkout() -> None:
    for kind in FOLDERS:
        assert (ROOT / "ssim" / kind).resolve() == ROOT / kind
        found = names(kind)
        assert {path.resolve() for path in found.values()} == set((ROOT / kind).rglob("*.yaml"))
        for name, path in found.items():
            assert shipped(kind, name) == path
            assert len(summary(path)) > 20, path


def test_short_names_of_shipped_files_are_told_apart() -> None:
    stems = [name.rpartition("/")[2] for name in names("experiments")]
    assert len(set(stems)) == len(stems)
