"""A worker with a fault, which the variable BAD_WORKER names: for tests of the router."""

from __future__ import annotations

import json
import os
import socket
import sys

from serving.frames import DONE, RUN, VERSION, FrameKind, frame, json_frame, received, unpack


def main() -> None:
    fault = os.environ["BAD_WORKER"]
    if fault == "dies at start":
        sys.exit("no such device")
    connection = socket.socket(fileno=int(sys.argv[1]))
    for kind, body in received(connection):
        if kind is FrameKind.CONFIG:
            version = VERSION + (fault == "other version")
            connection.sendall(json_frame(FrameKind.READY, {"version": version, "pid": os.getpid()}))
        elif kind is FrameKind.RUN:
            batch, _, size, _ = unpack(RUN, body)
            good = frame(FrameKind.DONE, DONE.pack(batch, size, 0, 0, 0))
            answer = {
                "dies in a batch": b"",
                "other batch": frame(FrameKind.DONE, DONE.pack(batch + 1, size, 0, 0, 0)),
                "other size": frame(FrameKind.DONE, DONE.pack(batch, size + 1, 0, 0, 0)),
                "short answer": frame(FrameKind.DONE, DONE.pack(batch, size, 0, 0, 0)[:-1]),
                "answers twice": good + good,
                "nonsense": json.dumps({"batch": batch}).encode() * 9,
            }[fault]
            connection.sendall(answer)
            if not answer:
                sys.exit("out of memory")


if __name__ == "__main__":
    main()
