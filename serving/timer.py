"""A timer that is late by less than a millisecond: timerfd of Linux, since asyncio's own timers count milliseconds."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_MONOTONIC, _FLAGS, _ABSOLUTE = 1, os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0), 1


class _Times(ctypes.Structure):
    _fields_ = (("every_s", ctypes.c_long), ("every_ns", ctypes.c_long), ("s", ctypes.c_long), ("ns", ctypes.c_long))


class MonotonicTimer:
    """Calls a function at one instant of the monotonic clock; a new instant takes the place of the one before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop, self._call = loop, call
        self._handle: asyncio.TimerHandle | None = None
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(_MONOTONIC, _FLAGS)
        if self._file >= 0:
            loop.add_reader(self._file, self._ring)

    def set(self, at_ns: int | None) -> None:
        """Ring at an instant; None for never."""
        if self._file >= 0:
            seconds, rest = divmod(at_ns or 0, NS_PER_S)  # zero disarms it
            self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(_Times(0, 0, seconds, rest)), None)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None if at_ns is None else self._loop.call_at(at_ns / NS_PER_S, self._call)

    def close(self) -> None:
        """Never ring again."""
        self.set(None)
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._file, 8)
            self._call()
