"""A paced worker: it answers a batch after the time that it is expected to take, and computes nothing.

`python -m serving.paced FD` serves the socket that it inherits under that number. It needs no core while it waits, so
that a machine rehearses a cluster of devices that it does not have.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from serving.frames import DONE, RUN, VERSION, FrameKind, frame, inherited, json_frame, unpack

if TYPE_CHECKING:
    from serving.frames import Connection

_SPIN_NS = 100_000
"""The last part of a wait is spent looking at the clock: a sleep ends late by about as much."""


def serve(router: Connection) -> None:
    """Serve until the router closes the connection or says stop."""
    for kind, body in router.received():
        if kind is FrameKind.RUN:
            read_ns = time.monotonic_ns()
            batch, _, size, expected_ns = unpack(RUN, body)
            wait_until(read_ns + expected_ns)
            done = DONE.pack(batch, size, read_ns, read_ns, time.monotonic_ns())
            router.send(frame(FrameKind.DONE, done))
        elif kind is FrameKind.CONFIG:
            router.send(json_frame(FrameKind.READY, {"version": VERSION, "pid": os.getpid()}))
        elif kind is FrameKind.STOP:
            return


def wait_until(at_ns: int) -> None:
    """Wait for an instant of the monotonic clock."""
    while (left_ns := at_ns - time.monotonic_ns()) > 0:
        if left_ns > _SPIN_NS:
            time.sleep((left_ns - _SPIN_NS) / 1e9)


if __name__ == "__main__":
    serve(inherited())
