"""Modules of users: imported from the folder of their file, forgotten again, and read for what they are made of."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError, installed_folders, raised, toolkit_folders
from ssim.extras import missing
from ssim.packages import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import ModuleType


def forget_modules() -> None:
    """Forget the modules of users that were imported, so that the next job imports them as they are then.

    A notebook needs this: between two runs a file may be edited, and another folder may have a module of the same name.
    """
    for name, module in list(sys.modules.items()) if _FOLDERS else ():
        file = getattr(module, "__file__", None) or ""
        if any(file.startswith(f"{folder}{os.sep}") and _is_own(Path(file).resolve(), folder) for folder in _FOLDERS):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if Path(entry) not in _FOLDERS]
    _FOLDERS.clear()
    importlib.invalidate_caches()


_FOLDERS: list[Path] = []
"""Folders that were put on the path to import modules of users."""


def import_module(module_name: str, noun: str, folder: Path | None) -> ModuleType:
    """Return a module, looked for in a folder, too, if one is given.

    Raises:
        SpecError: It is not there, it raises, or another module of this name comes first.
    """
    if folder is not None and str(folder) not in sys.path:
        _FOLDERS.append(folder)
        sys.path.append(str(folder))  # last: a random.py beside an experiment must not stand for Python's own
    try:
        with _no_bytecode():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        lacking = missing(error.name or "") if isinstance(error, ModuleNotFoundError) else None
        if lacking is not None:
            what = f"{module_name!r} needs {lacking.location}, which is not installed"
            raise SpecError(noun, what, hint=lacking.hint) from error
        problem, place = raised(error)
        file = None if place or folder is None else _module_file(folder, module_name)
        raise SpecError(noun, f"importing {module_name!r} {problem}", place or (file.name if file else "")) from error
    mine = None if folder is None else _module_file(folder, module_name)
    if mine is not None and Path(module.__file__ or "").resolve() != mine.resolve():
        what = "another module of this name comes first"
        raise SpecError(noun, what, repr(module_name), f"rename {mine} ({module.__file__} was found)")
    return module


@contextmanager
def _no_bytecode() -> Generator[None]:
    """Write no bytecode: Python would run it after an edit of the same length within the same second."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def as_module(name: str, folder: Path) -> tuple[str, Path]:
    """Return a plug-in's name as `module:name`, and the folder of the module; `FILE.py:name` is relative to a folder.

    Raises:
        SpecError: There is no such file.
    """
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py"):
        return name, folder
    path = (folder / file).resolve()
    if not path.is_file():
        raise SpecError(name, "file not found", str(path), "a path relative to the file that names it")
    return f"{path.stem}:{attribute}", path.parent


def origin_of(module_name: str, folder: Path) -> Path:
    """Return the file of a module, which is not imported; an empty path if it is not found."""
    found = _module_file(folder, module_name)
    if found is not None:
        return found
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        spec = None
    return Path(spec.origin if spec and spec.origin else "")


def _module_file(folder: Path, module_name: str) -> Path | None:
    """Return the file of a module below a folder, if there is one."""
    stem = folder.joinpath(*module_name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def own_sources(owners: Iterable[Callable[..., Any]], folder: Path) -> set[Path]:
    """Return the files that classes and functions are made of: their own, those of bases, and all that these import."""
    bases = {base for owner in owners for base in getattr(owner, "__mro__", (owner,))}
    own = [base for base in bases if (base.__module__ or "builtins").partition(".")[0] not in _NOT_OWN]
    return sources_from(
        [Path(getattr(sys.modules.get(base.__module__), "__file__", None) or "") for base in own], folder
    )


def sources_from(files: Iterable[Path], folder: Path) -> set[Path]:
    """Return files and all that these import, without those of the toolkit, of Python and of installed packages.

    What is imported is read from the import statements, so that the answer does not depend on what else was loaded; it
    is looked for in the folder and beside the file that imports it.
    """
    waiting = [*files]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop().resolve()
        if path in found or not path.is_file() or not _is_own(path, folder):
            continue
        found.add(path)
        for name in _imported(path):
            for place in (folder, path.parent):
                parts = name.split(".")
                waiting += [file for n in range(len(parts)) if (file := _module_file(place, ".".join(parts[: n + 1])))]
    return found


_NOT_OWN = {"builtins", "abc", "typing", *PACKAGES}
"""Modules of which no class is looked at: those of Python and of the toolkit."""


def _is_own(path: Path, folder: Path) -> bool:
    """Return whether a file is neither the toolkit's, nor Python's, nor an installed package's."""
    if any(path.is_relative_to(place) for place in toolkit_folders()):
        return False
    return path.is_relative_to(folder) or not any(path.is_relative_to(place) for place in installed_folders())


def _imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports; `from a import b` may mean the module a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = f"{node.module}." if node.module else ""
            names |= {f"{start}{alias.name}" for alias in node.names}
    return names
