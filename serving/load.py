"""The load generator: it sends the queries of a trace at their instants, whether or not earlier ones were answered.

`python -m serving.load FD QUERIES TIMES` inherits a socket and two files under these numbers. It reads arrivals and
SLOs from the first file and waits on the socket for the start of the trace; to the second file it writes when each
query was sent and answered.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

import numpy as np

from serving.frames import ANSWER, INSTANT, QUERY, VERSION, FrameKind, FrameReader, frame, json_frame, unpack

NEVER = -1


class _Generator:
    """The queries of a trace, and what has become of them."""

    def __init__(self, connection: socket.socket, queries: int, times: int) -> None:
        self._connection, self._times = connection, times
        with os.fdopen(queries, "rb") as file:
            self._due: list[int] = np.load(file, allow_pickle=False).tolist()
            self._slo: list[int] = np.load(file, allow_pickle=False).tolist()
        self._sent = [NEVER] * len(self._due)
        self._answered = [NEVER] * len(self._due)
        self._out = bytearray()
        self._is_stopped = False

    def run(self, begin_ns: int, reader: FrameReader) -> None:
        """Send all queries, or those up to a STOP, and read answers until the router closes the connection."""
        self._connection.settimeout(0)
        following, count, open_ = 0, len(self._due), True
        while open_:
            now_ns = time.monotonic_ns() - begin_ns
            first = following
            while following < count and self._due[following] <= now_ns:
                self._out += frame(FrameKind.QUERY, QUERY.pack(following, self._slo[following]))
                following += 1
            if first < following == count:
                self._out += frame(FrameKind.END)
            self._flush()
            sent_ns = time.monotonic_ns() - begin_ns
            self._sent[first:following] = [sent_ns] * (following - first)
            wait_s = max(0.0, (self._due[following] - sent_ns) / 1e9) if following < count else None
            # select counts microseconds, epoll and poll milliseconds.
            writes = [self._connection] if self._out else []
            readable, _, _ = select.select([self._connection], writes, [], wait_s)
            open_ = not readable or self._read(reader, begin_ns)
            if self._is_stopped and following < count:
                count = following
                self._out += frame(FrameKind.END)
        with os.fdopen(self._times, "wb") as file:
            np.save(file, np.array(self._sent, dtype=np.int64))
            np.save(file, np.array(self._answered, dtype=np.int64))

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._connection.send(self._out)]
        except BlockingIOError:
            pass  # the rest goes out when there is room

    def _read(self, reader: FrameReader, begin_ns: int) -> bool:
        """Take the frames that are there; return whether more may come."""
        data = self._connection.recv(2**18)
        now_ns = time.monotonic_ns() - begin_ns
        for kind, body in reader.feed(data):
            if kind is FrameKind.ANSWER:
                query, served = unpack(ANSWER, body)
                if served:
                    self._answered[query] = now_ns
            self._is_stopped = self._is_stopped or kind is FrameKind.STOP
        return bool(data)


def main() -> None:
    """Wait for the start, send the load."""
    number, queries, times = map(int, sys.argv[1:])
    connection, reader = socket.socket(fileno=number), FrameReader()
    generator = _Generator(connection, queries, times)
    connection.sendall(json_frame(FrameKind.READY, {"version": VERSION, "pid": os.getpid()}))
    while data := connection.recv(2**16):
        for kind, body in reader.feed(data):
            if kind is FrameKind.START:
                (begin_ns,) = unpack(INSTANT, body)
                generator.run(begin_ns, reader)
                return


if __name__ == "__main__":
    main()
