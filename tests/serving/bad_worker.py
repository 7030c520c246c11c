"""A worker with a fault, which its settings name: for tests of the router."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from serving.frames import DONE, RUN, VERSION, FrameKind, frame, inherited, json_frame, unpack

if TYPE_CHECKING:
    from serving.frames import Connection


def serve(connection: Connection) -> None:
    fault = ""
    for kind, body in connection.received():
        if kind is FrameKind.CONFIG:
            fault = json.loads(body)["fault"]
        if fault == "dies at start":
            sys.exit("no such device")
        if kind is FrameKind.CONFIG and fault.startswith("refuses"):
            parts = ["live.supernet", "not there", "x", ""] if fault == "refuses" else "no"
            connection.send(json_frame(FrameKind.REFUSED, {"error": parts, "is_input": True}))
        elif kind is FrameKind.CONFIG:
            version = VERSION + (fault == "other version")
            serves = {"weights": os.getpid()} if fault == "serves another" else {}
            connection.send(json_frame(FrameKind.READY, {"version": version, "serves": serves}))
        elif kind is FrameKind.RUN:
            batch, _, size, _ = unpack(RUN, body)
            good = frame(FrameKind.DONE, DONE.pack(batch, size, 0, 0, 0))
            failed = json_frame(FrameKind.FAILED, {"batch": batch, "reason": "no memory"})
            answer = {
                "fails every third batch": good if batch % 3 else failed,
                "dies in a batch": b"",
                "serves another": b"",
                "other batch": frame(FrameKind.DONE, DONE.pack(batch + 1, size, 0, 0, 0)),
                "other size": frame(FrameKind.DONE, DONE.pack(batch, size + 1, 0, 0, 0)),
                "short answer": frame(FrameKind.DONE, DONE.pack(batch, size, 0, 0, 0)[:-1]),
                "answers twice": good + good,
                "nonsense": json.dumps({"batch": batch}).encode() * 9,
            }[fault]
            connection.send(answer)
            if not answer:
                sys.exit("out of memory")


if __name__ == "__main__":
    serve(inherited())
