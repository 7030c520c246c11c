"""What travels, and how much of it there is."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUMBER = 8
"""Bytes of what has no size of its own: a number, a truth value, nothing at all."""


@dataclass(slots=True, eq=False)
class Message:
    """Something that one worker sent to another.

    Attributes:
        sender: Its id.
        receiver: Its id.
        channel: The name of the channel.
        value: What was sent: the very object where sender and receiver share a process.
        size_bytes: How large it counts.
        sent_ns: When it was sent.
        arrived_ns: When it arrived.
    """

    sender: str
    receiver: str
    channel: str
    value: Any
    size_bytes: int
    sent_ns: int
    arrived_ns: int = -1


def size_of(value: Any) -> int:
    """Return how many bytes a value counts as on a channel: those of arrays, tensors, texts and numbers in it.

    Nothing is added for framing or names, so that figures of bytes can be held against formulas.

    Raises:
        TypeError: The value, or something in it, is of a kind whose size is not known: say it when sending.

    Example:
        >>> size_of({"weights": [1.0, 2.0], "name": "ab"})
        18
    """
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    if value is None or isinstance(value, int | float | complex):
        return _NUMBER
    if isinstance(value, str | bytes | bytearray):
        return len(value.encode()) if isinstance(value, str) else len(value)
    return sum(map(size_of, _inside(value)))


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    raise TypeError(type(value).__name__)
