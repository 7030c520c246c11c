"""A worker that answers each query with twice its inputs: two tensors, of other types and shapes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np

from serving.frames import DONE, RUN, VERSION, FrameKind, frame, inherited, json_frame, unpack_first

if TYPE_CHECKING:
    from serving.frames import Connection

INPUTS = [
    {"name": "image", "datatype": "FP32", "shape": [-1, 2, 3]},
    {"name": "label", "datatype": "INT64", "shape": [-1, 1]},
]
OUTPUTS = [
    {"name": "doubled", "datatype": "FP32", "shape": [-1, 2, 3]},
    {"name": "twice", "datatype": "INT64", "shape": [-1, 1]},
]
ROW = np.dtype([("image", "<f4", 6), ("label", "<i8")])


def serve(router: Connection) -> None:
    for kind, body in router.received():
        if kind is FrameKind.CONFIG:
            tensors = {"inputs": INPUTS, "outputs": OUTPUTS}
            ready = {"version": VERSION, "pid": os.getpid(), "tensors": tensors}
            router.send(json_frame(FrameKind.READY, ready))
        elif kind is FrameKind.RUN:
            now_ns = time.monotonic_ns()
            (batch, _, size, _), inputs = unpack_first(RUN, body)
            rows = np.frombuffer(bytearray(inputs), ROW)
            rows["image"] *= 2
            rows["label"] *= 2
            done = DONE.pack(batch, size, now_ns, now_ns, time.monotonic_ns())
            router.send(frame(FrameKind.DONE, done + rows.tobytes()))


if __name__ == "__main__":
    serve(inherited())
