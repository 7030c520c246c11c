"""Values that are made once and used again: by threads in memory, by processes through a file."""

from __future__ import annotations

import fcntl
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from sim.base.whole_file import translate_os_errors, whole_file

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

    import numpy.typing as npt

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The values last used, each made once, also where several threads ask for it at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key; it is made if it is not there."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            if len(self._entries) > self._most:
                self._entries.popitem(last=False)  # who waits for it still has it
        with entry.lock:
            if not entry.value:
                entry.value.append(make())
            return entry.value[0]


class _Entry(Generic[V]):
    def __init__(self) -> None:
        self.lock = Lock()
        self.value: list[V] = []


def mapped(path: Path, make: Callable[[], npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return an array from a file, mapped into memory; the first process that asks makes it, others wait for that.

    Raises:
        StoreError: The file can't be written.
    """
    with translate_os_errors(path):
        lock = path.with_suffix(".lock").open("w")
    with lock:  # an error of `make` is its own, not one of this file
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            made = make()
            with whole_file(path) as unfinished, unfinished.open("wb") as file:
                file.write(made.data)  # np.save does not say why it can't write
    return np.memmap(path, np.int64, "r")
