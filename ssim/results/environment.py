"""The circumstances of a run: time, versions, machine, commit. They are stored with a result and never compared."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sim.base.version import VERSION
from sim.engines import numba_is_installed


class Stopwatch:
    """Measures how long a run takes, from now."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._begin = time.perf_counter()

    def circumstances(self) -> dict[str, Any]:
        """Return the circumstances, and the duration of the run."""
        return {
            **_versions(),
            "started": self._started.isoformat(timespec="seconds"),
            "wall_s": round(time.perf_counter() - self._begin, 6),
        }


@lru_cache(maxsize=1)
def _versions() -> dict[str, Any]:
    libraries = {
        name: importlib.metadata.version(name)
        for name in ("numpy", "pyarrow", "simpy", *(("numba",) if numba_is_installed() else ()))
    }
    return {
        "version": VERSION,
        "python": platform.python_version(),
        "libraries": libraries,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **({"commit": found} if (found := commit()) else {}),
    }


def commit() -> str:
    """Return the commit of the checkout that the toolkit runs from, or "" where it is installed without one."""
    file = Path(__file__)
    git = ["git", "-C", str(file.parent)]
    try:
        for command in (["ls-files", "--error-unmatch", file.name], ["describe", "--always", "--dirty", "--abbrev=12"]):
            found = subprocess.run([*git, *command], capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
