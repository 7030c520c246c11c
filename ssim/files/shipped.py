"""Files that come with the toolkit: experiments, trainings and topologies, found by their short names."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sim.base.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDERS = ("experiments", "topologies")


def folder_of(kind: str) -> Path:
    """Return the folder of shipped files of a kind: `experiments` or `topologies`."""
    return Path(__file__).parents[1] / kind


def names(kind: str) -> dict[str, Path]:
    """Return the shipped files of a kind by short name, those of subfolders with the folder's name before theirs."""
    folder = folder_of(kind)
    return {str(path.relative_to(folder).with_suffix("")): path for path in sorted(folder.rglob("*.yaml"))}


def summary(path: Path) -> str:
    """Return the first sentence of the comment at the head of a file."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    said = (line.removeprefix("#").strip() for line in lines)
    text = " ".join(line for line in said if not line.startswith("yaml-language-server:"))
    return re.split(r"(?<=\.) (?=[A-Z`])", text, maxsplit=1)[0]


def shipped(kind: str, name: str) -> Path | None:
    """Return the shipped file of a short name; the folder may be left out where the rest is unique."""
    found = names(kind)
    name = name.removesuffix(".yaml")
    if name in found:
        return found[name]
    short = [path for each, path in found.items() if each.rpartition("/")[2] == name]
    return short[0] if len(short) == 1 else None


def _is_broken(path: Path) -> bool:
    """Return whether a name looks like that of a file, but is a folder or a link to nothing."""
    return path.suffix == ".yaml" and (path.is_dir() or path.is_symlink())


def find_file(kind: str, text: str, say: Callable[[str], None]) -> Path:
    """Return the file that somebody names on a command line: a path, or the short name of a shipped file.

    A file of that name in the current folder wins, and it is said.

    Args:
        kind: `experiments` or `topologies`.
        text: What was typed.
        say: Called with a line for the user.

    Raises:
        SpecError: There is neither.
    """
    path, known = Path(text), shipped(kind, text)
    local = next((each for each in (path, Path(f"{text}.yaml")) if each.is_file() or _is_broken(each)), None)
    if local is not None:
        if known is not None and not path.suffix and local.resolve() != known.resolve():  # x.yaml can mean one only
            say(f"{local} in this folder is used, not the shipped file of that name")
        return local
    if known is not None:
        return known
    if path.is_dir():
        raise SpecError(text, "is a folder", "", "give a file")
    hint = (
        did_you_mean(text, names(kind))
        if "/" not in text and not path.suffix
        else "`ssim examples` lists shipped files"
    )
    raise SpecError(text, "file not found", "", hint)
