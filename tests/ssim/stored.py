"""The manifests in a folder of results, read as anybody may read them: without the toolkit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the manifests of all complete runs by id: lines of runs without other files, and files of the others."""
    lines = [json.loads(line) for path in folder.rglob("manifests.jsonl") for line in path.read_text().splitlines()]
    files = {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("manifest.json")}
    return {line["run"]: line for line in lines} | files
