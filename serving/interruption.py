"""Ctrl-C and SIGTERM during a live run: the first ends it in good order, the second at once."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first signal is only noted, so that what was served can be stored.

    At its end a noted signal becomes the `KeyboardInterrupt` that it would have been, unless it is the usual end. An
    error because of which nothing is stored is its text.
    Threads other than the main one get no signals, and nothing changes there.

    Attributes:
        is_asked: Whether a signal came.
    """

    def __init__(self, *, is_end: bool = False) -> None:
        """Note signals.

        Args:
            is_end: Whether a first signal is the usual end of what is done.
        """
        self._is_end = is_end
        self.is_asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        self._restore()
        if self.is_asked and not self._is_end and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(*([str(error)] if error else [])) from error

    def _note(self, _number: int, _frame: object) -> None:
        if self.is_asked:
            self._at_once()
        self.is_asked = True

    def _at_once(self) -> NoReturn:
        self._restore()
        raise KeyboardInterrupt

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
