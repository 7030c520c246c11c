"""Paths of modules that differ in numbers alone, written as one pattern."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supernet.structure import Unsliceable


def left_whole(unsliceable: Iterable[Unsliceable]) -> dict[str, str]:
    """Return why layers are left whole, by path; those of one reason that differ in numbers as one pattern."""
    alike: dict[tuple[str, str], list[Unsliceable]] = {}
    for one in unsliceable:
        alike.setdefault((pattern_of(one.path), pattern_of(one.reason)), []).append(one)
    return {common_pattern([one.path for one in same]): same[0].reason for same in alike.values()}


def pattern_list(paths: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return paths, those that differ in numbers as one pattern if it matches no other module."""
    groups: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        groups.setdefault(pattern_of(path), []).append(path)
    found: list[str] = []
    for alike in groups.values():
        pattern = common_pattern(alike)
        is_exact = {path for path in known if fnmatchcase(path, pattern)} <= {*paths}
        found += [pattern] if len(alike) > 1 and is_exact else alike
    return found


def common_pattern(paths: Sequence[str]) -> str:
    """Return a pattern of paths that have the same form.

    Example:
        >>> common_pattern(["stage.1.0.conv", "stage.1.1.conv"])
        'stage.1.*.conv'
    """
    parts = zip(*(path.split(".") for path in paths), strict=True)
    return ".".join(names[0] if len({*names}) == 1 else "*" for names in parts)


def pattern_of(text: str) -> str:
    """Return a text with each number in a path replaced.

    Example:
        >>> pattern_of("layers.3.conv1")
        'layers.*.conv1'
    """
    return re.sub(r"(?<![\w*])\d+(?=\.)|(?<=\.)\d+(?![\w*])", "*", text)
