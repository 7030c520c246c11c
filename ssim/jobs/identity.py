"""What runs are told apart by: plug-ins as they were resolved, files by their content, a user's own code."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.traces.reading import sha256_of
from ssim.files.own_modules import own_sources
from ssim.packages import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable


def described(plug: Any) -> dict[str, Any]:
    """Return what decides a plug-in: its class as it was found, whatever name the file has for it, and its parameters.

    Defaults are included. Whoever reads files says so by a method `inputs()`, and these count by their content.
    """
    owner = type(plug)
    inputs = list(plug.inputs()) if hasattr(plug, "inputs") else []
    fields = (item.name for item in dataclasses.fields(plug) if item.init and not (inputs and item.name == "path"))
    params = {name: json.loads(json.dumps(getattr(plug, name), default=_plain)) for name in fields}
    found = {"class": f"{owner.__module__}:{owner.__qualname__}", "params": params}
    return found | ({"inputs": [sha256(path) for path in inputs]} if inputs else {})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return f"{value.__module__}:{value.__qualname__}" if hasattr(value, "__qualname__") else str(value)


def own_code(plugs: Iterable[Any], folder: Path) -> set[Path]:
    """Return the files of a user's own plug-ins and of what these import; toolkit and installed packages have none."""
    used = (
        plug if isinstance(plug, type) or inspect.isroutine(plug) else getattr(plug, "factory", type(plug))
        for plug in plugs
        if plug is not None
    )
    return own_sources(set(used), folder)


@cache
def code_of(*packages: str) -> tuple[Path, ...]:
    """Return the code of packages of the toolkit, all of them if none is named."""
    root = Path(__file__).resolve().parents[2]
    return tuple(sorted(path for name in packages or PACKAGES for path in (root / name).rglob("*.py")))


@cache
def own_hash(files: tuple[Path, ...] = ()) -> str:
    """Return the hash of files of the toolkit, of all its code if none is named; read once."""
    parts = [f"{path.parent.name}/{path.name} {sha256(path)}" for path in files or code_of()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@cache
def toolkit_hash() -> str:
    """Return the hash of the simulator's and the policies' own code, as it is when it is first asked for."""
    return own_hash(toolkit_files())


def toolkit_files() -> tuple[Path, ...]:
    """Return the simulator's and the policies' own code: a change of any of it may change a result."""
    bounds = code_of("sim")[0].parent / "bounds"  # no result is made of it
    return tuple(path for path in code_of("sim", "policies") if bounds not in path.parents)


def hash_of(value: object) -> str:
    """Return the SHA-256 of a value as JSON, keys sorted; what JSON does not know counts by its text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the hash of a file; it is read again only when it has changed."""
    key = (path, *stamp(path))
    if key not in _HASHES:
        _HASHES[key] = sha256_of(path)
    return _HASHES[key]


_HASHES: dict[tuple[Any, ...], str] = {}


def stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file does: the time of its last change, and its size."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size
