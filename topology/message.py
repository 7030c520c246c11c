"""What travels, and how much of it there is."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

_NUMBER = 8
"""Bytes of what has no size of its own: a number, a truth value, nothing at all."""


@dataclass(slots=True)
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
    match value:
        case None | bool() | int() | float() | complex():
            return _NUMBER
        case str():
            return len(value.encode())
        case bytes() | bytearray():
            return len(value)
        case dict():
            return sum(map(size_of, value.values()))
        case list() | tuple() | set() | frozenset():
            return sum(map(size_of, value))
    if is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in fields(value))
    raise TypeError(type(value).__name__)
