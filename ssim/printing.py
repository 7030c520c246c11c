"""What commands print tables on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Return a console for tables: plain text, wide where there is no terminal."""
    from rich.console import Console

    # A pipe has no width, and rich would cut numbers to 80 columns.
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
