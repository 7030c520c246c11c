"""Long work while a file is read, such as the insertion of operators; commands set how it is shown."""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

WAITING: ContextVar[Callable[[str], AbstractContextManager[Any]]] = ContextVar("WAITING", default=nullcontext)
"""Returns the context of some work, given what it does; shows nothing by default."""
