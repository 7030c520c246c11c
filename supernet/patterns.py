"""Paths of modules that differ in numbers alone, written as one pattern."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from supernet.structure import Unsliceable


def left_whole(unsliceable: Iterable[Unsliceable]) -> dict[str, str]:
    """Return why layers are left whole, by path; those of one reason that differ in numbers as one pattern."""
    alike: dict[tuple[str, str], list[Unsliceable]] = {}
    for one in unsliceable:
        alike.setdefault((pattern_of(one.path), pattern_of(one.reason)), []).append(one)
    return {common_pattern([one.path for one in same]): same[0].reason for same in alike.values()}


def pattern_list(paths: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return paths, those that differ in numbers as few patterns that match no other module.

    Examples:
        >>> pattern_list(["layer1.0.conv1", "layer2.0.conv1"], ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1"])
        ['layer*.0.conv1']
    """
    found: list[str] = []
    for similar in _grouped(dict.fromkeys(paths), form_of):
        for alike in [similar] if _is_exact(similar, paths, known) else _grouped(similar, pattern_of):
            found += [common_pattern(alike)] if _is_exact(alike, paths, known) else alike
    return found


def _grouped(paths: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(key(path), []).append(path)
    return list(groups.values())


def _is_exact(alike: Sequence[str], paths: Iterable[str], known: Iterable[str]) -> bool:
    """Return whether the common pattern of paths matches no other module."""
    pattern = common_pattern(alike)
    return {path for path in known if fnmatchcase(path, pattern)} <= {*paths}


def common_pattern(paths: Sequence[str]) -> str:
    """Return a pattern of paths that have the same form.

    Examples:
        >>> common_pattern(["stage.1.0.conv", "stage.1.1.conv"])
        'stage.1.*.conv'
    """
    parts = zip(*(path.split(".") for path in paths), strict=True)
    return ".".join(names[0] if len({*names}) == 1 else form_of(names[0]) for names in parts)


def form_of(text: str) -> str:
    """Return a text with each number replaced, those at the end of names included.

    Examples:
        >>> form_of("layer3.0.conv1")
        'layer*.*.conv*'
    """
    return re.sub(r"\d+", "*", text)


def pattern_of(text: str) -> str:
    """Return a text with each whole number in a path replaced.

    Examples:
        >>> pattern_of("layers.3.conv1")
        'layers.*.conv1'
    """
    return re.sub(r"(?<![\w*])\d+(?=\.)|(?<=\.)\d+(?![\w*])", "*", text)
