"""Messages and their sizes."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUMBER = 8
"""Bytes of a number, a truth value, or None."""


@dataclass(slots=True, eq=False)
class Message:
    """A value that one worker sent to another.

    Attributes:
        sender: Its id.
        receiver: Its id.
        channel: The name of the channel.
        value: The value; the same object if sender and receiver share a process.
        size_bytes: Its size in bytes.
        sent_ns: When it was sent.
        arrived_ns: When it arrived.
        round: The round of its sender (`Program.current_round`), in real time; None for a message of no round.
    """

    sender: str
    receiver: str
    channel: str
    value: Any
    size_bytes: int
    sent_ns: int
    arrived_ns: int = -1
    round: int | None = None


def size_of(value: Any) -> int:
    """Return the size of a value on a channel, in bytes: that of the arrays, tensors, strings and numbers in it.

    Nothing is added for framing or names, so that traffic can be compared with formulas.

    Raises:
        TypeError: The size of the value, or of something in it, is unknown: pass it when sending.

    Examples:
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
