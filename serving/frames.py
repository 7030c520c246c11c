"""Frames: the messages between router, workers and load generator; bytes of known layout, nothing is unpickled.

A frame is the length of its body (4 bytes), its kind (1 byte) and its body; all numbers are little-endian. This module
imports nothing of the toolkit, so that a worker starts quickly.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

VERSION = 1
"""Version of the frames; a worker of another version is refused."""

MAX_BODY = 64 * 2**20
"""Bytes of the longest body that is accepted."""

_HEADER = struct.Struct("<IB")


class FrameKind(IntEnum):
    """What a frame says."""

    CONFIG = 1
    """Router to worker: settings, as JSON."""
    READY = 2
    """Worker or load generator to router: version and process, as JSON."""
    RUN = 3
    """Router to worker: a batch, `RUN`, and the inputs of its queries if they have any."""
    DONE = 4
    """Worker to router: that batch is done, `DONE`, and the outputs for its queries if they had inputs."""
    STOP = 5
    """Router to worker: no further batch; to load generator: no further query."""
    START = 6
    """Router to load generator: the instant of the trace's start, `INSTANT`."""
    QUERY = 7
    """Load generator to router, `QUERY`."""
    ANSWER = 8
    """Router to load generator, `ANSWER`."""
    END = 9
    """Load generator to router: the last query has been sent."""
    WARMING = 10
    """Worker to router: it prepares itself, and is a step further."""
    REFUSED = 11
    """Worker to router, instead of READY: an error as JSON, and whether an input is wrong."""
    FAILED = 12
    """Worker to router: that batch failed, and why, as JSON; the worker goes on."""
    HELLO = 13
    """Worker of another machine to router, first of all: what it is, as JSON."""
    DISMISSED = 14
    """Router to worker of another machine: why the connection ends, and whether to try again, as JSON."""


RUN = struct.Struct("<QIIq")
"""Batch, subnet, queries, and the time in nanoseconds that it is expected to take."""

DONE = struct.Struct("<QIqqq")
"""Batch, queries, and instants of the monotonic clock: frame read, forward pass begun, ended."""

INSTANT = struct.Struct("<q")
QUERY = struct.Struct("<Qq")
"""Number of the query, SLO in nanoseconds."""

ANSWER = struct.Struct("<Q?")
"""Number of the query, whether it was served."""


class FrameError(ValueError):
    """Bytes that are not a frame."""


def frame(kind: FrameKind, body: bytes = b"") -> bytes:
    """Return a frame."""
    return _HEADER.pack(len(body), kind) + body


def json_frame(kind: FrameKind, content: dict[str, Any]) -> bytes:
    """Return a frame whose body is JSON."""
    return frame(kind, json.dumps(content).encode())


def kind_of(message: bytes) -> FrameKind:
    """Return the kind of a frame."""
    return FrameKind(message[_HEADER.size - 1])


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[tuple[FrameKind, bytes]]:
        """Return the frames that are complete with these bytes.

        Raises:
            FrameError: A body is too long, or its kind is unknown.
        """
        self._bytes += data
        buffer, place, found = self._bytes, 0, list[tuple[FrameKind, bytes]]()
        while len(buffer) - place >= _HEADER.size:
            length, kind = _HEADER.unpack_from(buffer, place)
            if length > MAX_BODY:
                raise FrameError(f"a body of {length} bytes; at most {MAX_BODY}")
            if not FrameKind.CONFIG <= kind <= FrameKind.DISMISSED:
                raise FrameError(f"kind {kind}")
            end = place + _HEADER.size + length
            if len(buffer) < end:
                break
            found.append((FrameKind(kind), bytes(buffer[place + _HEADER.size : end])))
            place = end
        del buffer[:place]
        return found


def content_of(body: bytes) -> dict[str, Any]:
    """Return the content of a body that is JSON.

    Raises:
        FrameError: It is not.
    """
    try:
        content = json.loads(body)
    except ValueError as error:
        raise FrameError(f"a body that is not JSON: {body[:40]!r}") from error
    if not isinstance(content, dict):
        raise FrameError(f"JSON that is not an object: {body[:40]!r}")
    return content


def unpack(layout: struct.Struct, body: bytes) -> tuple[Any, ...]:
    """Return the numbers of a body.

    Raises:
        FrameError: It has another length.
    """
    if len(body) != layout.size:
        raise FrameError(f"a body of {len(body)} bytes instead of {layout.size}")
    return layout.unpack(body)


def unpack_first(layout: struct.Struct, body: bytes) -> tuple[tuple[Any, ...], bytes]:
    """Return the numbers at the beginning of a body, and the bytes that follow.

    Raises:
        FrameError: It is too short.
    """
    return unpack(layout, body[: layout.size]), body[layout.size :]


class Connection(Protocol):
    """The connection of a worker to its router."""

    def send(self, message: bytes) -> None:
        """Send a frame."""
        ...

    def received(self) -> Iterator[tuple[FrameKind, bytes]]:
        """Yield the frames of the router until it ends the connection.

        Raises:
            FrameError: The bytes are not frames.
        """
        ...


class SocketConnection:
    """A connection over a blocking socket; a context at whose end the socket is closed."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, message: bytes) -> None:
        """Send a frame."""
        self._socket.sendall(message)

    def received(self) -> Iterator[tuple[FrameKind, bytes]]:
        """Yield the frames of the router; see `Connection`."""
        reader = FrameReader()
        while data := self._socket.recv(2**16):
            yield from reader.feed(data)


def inherited() -> SocketConnection:
    """Return the connection over the socket whose number is the first argument of this process."""
    return SocketConnection(socket.socket(fileno=int(sys.argv[1])))
