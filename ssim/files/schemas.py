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
    "profile/1": "ssim run",
    "topology/1": "ssim topology check",
    "deployment/1": "ssim topology deploy TOPOLOGY",
}
"""The familiar command for files of a schema; `ssim run` takes all but topologies and deployments."""

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
    check_command(path, schema_of(path), wanted)


def check_command(path: Path, schema: object, wanted: str = "") -> None:
    """Check that a schema is not one for another command.

    Args:
        path: The file that has it, for the message.
        schema: The value of its key `schema`.
        wanted: The schema that is wanted here.

    Raises:
        SpecError: It is another one that is known; names the command for it.
    """
    if isinstance(schema, str) and schema in COMMANDS and schema != wanted:
        raise SpecError(str(path), f"is a file of schema {schema}", "", f"use `{COMMANDS[schema]} {path}`")
