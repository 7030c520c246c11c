"""The schemas of the files that are read, and the command for the files of each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sim.base.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {
    "experiment/1": "ssim run",
    "training/1": "ssim supernet train",
    "federated/1": "ssim train",
    "topology/1": "ssim topology check",
}
"""The command for files of a schema."""

_SCHEMA = re.compile(r"""^schema:\s*["']?([^\s"'#]+)""", re.MULTILINE)


def schema_of(path: Path) -> str | None:
    """Return the schema that a YAML file names; None if it names none or can't be read."""
    try:
        found = _SCHEMA.search(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return found[1] if found else None


def check_schema(path: Path, wanted: str) -> None:
    """Check that a file is not one for another command.

    Args:
        path: The YAML file.
        wanted: The schema that is wanted here.

    Raises:
        SpecError: The file has another schema; names the command for it.
    """
    found = schema_of(path)
    if found != wanted and found in COMMANDS:
        what, value = f"must have the schema {wanted}", f"schema: {found}"
        raise SpecError(str(path), what, value, f"`{COMMANDS[found]} {path}` takes this file")
