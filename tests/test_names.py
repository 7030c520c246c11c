"""Names are unique: one public class of a name, none that differ by case alone, and short names that resolve."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections import defaultdict
from pathlib import Path

import pytest

from ssim.files.plugins import find_class
from ssim.packages import PACKAGES

ROOT = Path(__file__).parents[1]


def public_classes() -> dict[str, list[str]]:
    """Return the files of each public class by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(str(path.relative_to(ROOT)))
    return found


def test_no_two_public_classes_share_a_name() -> None:
    shared = {name: files for name, files in public_classes().items() if len(files) > 1}
    assert shared == {}


def test_no_two_public_classes_differ_by_case_alone() -> None:
    by_lower: dict[str, set[str]] = defaultdict(set)
    for name in public_classes():
        by_lower[name.lower()].add(name)
    assert [names for names in by_lower.values() if len(names) > 1] == []


def short_names() -> list[tuple[str, str, str]]:
    """Return module, short name and target of all short names of all packages."""
    found = []
    for package in PACKAGES:
        for info in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            path = ROOT.joinpath(*info.name.split("."))
            text = (path / "__init__.py" if info.ispkg else path.with_suffix(".py")).read_text()
            if "SHORT_NAMES = {" in text or "SHORT_NAMES: " in text:
                if package in {"supernet", "federated"}:
                    pytest.importorskip("torch")
                found += [(info.name, *item) for item in importlib.import_module(info.name).SHORT_NAMES.items()]
        text = (ROOT / package / "__init__.py").read_text()
        if "SHORT_NAMES = {" in text:
            found += [(package, *item) for item in importlib.import_module(package).SHORT_NAMES.items()]
    return found


def test_all_short_names_resolve() -> None:
    names = short_names()
    assert {module for module, _, _ in names} >= {"policies", "sim.traces", "topology.selection", "federated.partition"}
    for module, name, target in names:
        kind = find_class(target, {}, f"short name of {module}")
        assert kind.__name__ == target.partition(":")[2], name
