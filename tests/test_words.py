"""Messages are in the English of the field: no phrase that a reader must first decode."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ssim.packages import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

INSTEAD = {
    r"(?<!there )\b(?:is|are) no (?!longer\b)": "is not a ..., must be ...",
    r"\bthere (?:is|are) no such\b": "unknown ..., no such ...",
    r"\bstands? (?:there )?(?:twice|already)|\b(?:is|are) there twice\b": "duplicate ...",
    r"\bthat (?:is|are) there\b|\bis not there\b": "not found",
    r"\bgoes not with\b": "cannot be combined with",
    r"\bmust be a text\b": "must be a string",
    r"\bno telling\b": "inconclusive",
    r"\bso many\b": "this number of ...",
    r"\bbefalls?\b": "fault injected into",
    r"\bforesee|\bforeseen\b": "predict",
    r"\bPass if\b": "Check that",
    r"\bstands for no\b": "unknown ...",
}
"""Forbidden phrases, and what to write."""


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the strings of a file with their lines: messages and help texts, but neither docstrings nor comments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list)]
    bare = {id(line.value) for body in bodies for line in body if isinstance(line, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.lineno, node.value


@pytest.mark.parametrize("package", PACKAGES)
def test_no_message_has_a_phrase_that_must_be_decoded(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}; write {instead!r}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in literals(path)
        for phrase, instead in INSTEAD.items()
        if re.search(phrase, text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "is_forbidden"),
    [
        ("mine.csv: is no file that is there", True),
        ("the key stands twice", True),
        ("policy: there is no such policy ('x')", True),
        ("there is no room left to write", False),
        ("the run is no longer there", False),
    ],
)
def test_the_phrases_are_recognised(text: str, is_forbidden: bool) -> None:
    assert any(re.search(phrase, text) for phrase in INSTEAD) == is_forbidden
