"""Whether all packages of the toolkit come from one installation: told before any of them but this one is imported.

Their names are generic. Another distribution, a file beside the user or a second version may come first on the path.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ssim.packages import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

_DISTRIBUTION = re.compile(r"superserve_sim-(.+)\.(?:dist|egg)-info")
_WAY_OUT = "install superserve-sim in an environment of its own, where no other package has this name"


def intruder() -> str:
    """Return a sentence about the first package that is not of this installation, or "" if all are."""
    root = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        try:
            found = find_spec(name)
        except (ImportError, ValueError):  # a module without a spec stands for it
            found = None
        places = [] if found is None else list(found.submodule_search_locations or [found.origin or ""])
        if (root / name).resolve() not in map(_resolved, places[:1]):
            where = places[0] if places else "nowhere"
            return f"package {name!r}: found in another place ({where}), not in {root}; {_WAY_OUT}"
    return ""


def other_versions() -> str:
    """Return a sentence about other versions of the toolkit in this environment, or "" if there are none."""
    root = Path(__file__).resolve().parents[1]
    text = (root / "sim" / "base" / "version.py").read_text(encoding="utf-8")  # an import of `sim` takes half a second
    own = re.findall(r'^VERSION = "(.+)"$', text, re.MULTILINE)
    others = {version: place for version, place in _installed(sys.path) if version not in own}
    if not others:
        return ""
    listed = ", ".join(f"{version} in {place}" for version, place in sorted(others.items()))
    return f"version {', '.join(own)} in {root} runs, but {listed} is installed, too; keep one of them"


def _installed(folders: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield version and folder of each installed distribution of the toolkit."""
    for folder in folders:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - a hundred times as quick for thousands of packages
        except OSError:
            continue
        yield from ((found[1], folder) for name in names if (found := _DISTRIBUTION.fullmatch(name)))


def _resolved(place: str) -> Path:
    return Path(place).resolve()
