"""What a terminal shows while a command says nothing: that it works, and for how long."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

AFTER_S = 2.0
"""A command may be silent for so long."""

_EVERY_S = 0.5
_CLEAR = "\r\x1b[2K"


class Silence:
    """Watches two streams, and writes a line below what they said when nothing has come for a while.

    The line is cleared before anything else is written, so that bars and tables are not disturbed.
    """

    def __init__(self, name: str, out: IO[str], err: IO[str], now_s: float) -> None:
        """Watch the streams of a command.

        Args:
            name: The command.
            out: What it writes to.
            err: Where its messages go, and the line.
            now_s: The time.
        """
        self._name, self._err = name, err
        self._began_s = self._last_s = now_s
        self._shown, self._ends_line = False, True
        self._lock, self._process = threading.RLock(), os.getpid()
        self.out, self.err = _Watched(out, self), _Watched(err, self)

    def tick(self, now_s: float) -> None:
        """Show for how long the command has worked, if it has been silent for long enough."""
        with self._lock:
            if self._ends_line and now_s - self._last_s >= AFTER_S:
                self._err.write(f"{_CLEAR}{self._name}: working, {now_s - self._began_s:.0f} s")
                self._err.flush()
                self._shown = True

    def said(self, stream: IO[str], text: str, now_s: float) -> int:
        """Write what the command says, after the line is cleared."""
        if os.getpid() != self._process:  # a forked one, in which the lock may be held for ever
            return stream.write(text)
        with self._lock:
            self.clear()
            self._last_s, self._ends_line = now_s, text.endswith("\n")
            return stream.write(text)

    def clear(self) -> None:
        """Clear the line."""
        with self._lock:
            if self._shown:
                self._err.write(_CLEAR)
                self._err.flush()
                self._shown = False


class _Watched:
    """A stream that tells of each text before it is written."""

    def __init__(self, stream: IO[str], silence: Silence) -> None:
        self._stream, self._silence = stream, silence

    def write(self, text: str) -> int:
        return self._silence.said(self._stream, text, time.monotonic())

    def __getattr__(self, name: str) -> Any:  # whatever else a stream has
        return getattr(self._stream, name)


@contextmanager
def told(name: str) -> Generator[None]:
    """Show on a terminal that a command works while it says nothing; elsewhere nothing."""
    out, err = sys.stdout, sys.stderr
    if not err.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    silence, ended = Silence(name, out, err, time.monotonic()), threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY_S):
            silence.tick(time.monotonic())

    thread = threading.Thread(target=watch, daemon=True)
    sys.stdout, sys.stderr = silence.out, silence.err  # they pass on all that a stream has
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        silence.clear()
        sys.stdout, sys.stderr = out, err
