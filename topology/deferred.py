"""Computations that go on beside virtual time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Deferred(ABC):
    """A computation that has begun elsewhere, in place of its value.

    In virtual time a function that `IO.compute` calls may return one: the engine goes on with what happens meanwhile,
    and waits for the value when the computation ends in virtual time.
    """

    @abstractmethod
    def result(self) -> Any:
        """Wait for the value and return it.

        Raises:
            Exception: The computation failed.
        """
