"""Frames: what goes in comes out, however the bytes are cut; anything else is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.frames import MAX_BODY, QUERY, FrameError, FrameKind, FrameReader, frame, unpack

FRAMES = st.lists(st.tuples(st.sampled_from(FrameKind), st.binary(max_size=40)), max_size=10)


@given(FRAMES, st.lists(st.integers(1, 30), min_size=1))
def test_frames_come_out_as_they_went_in(frames: list[tuple[FrameKind, bytes]], cuts: list[int]) -> None:
    data = b"".join(frame(kind, body) for kind, body in frames)
    reader, found, place, turn = FrameReader(), [], 0, 0
    while place < len(data):
        size = cuts[turn % len(cuts)]
        found += reader.feed(data[place : place + size])
        place, turn = place + size, turn + 1
    assert found == frames


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (struct.pack("<IB", MAX_BODY + 1, FrameKind.RUN), "a body of"),
        (struct.pack("<IB", 0, 0), "kind 0"),
        (struct.pack("<IB", 0, 250), "kind 250"),
        (b"GET / HTTP/1.1\r\n", "a body of"),
    ],
)
def test_other_bytes_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(FrameError, match=problem):
        FrameReader().feed(data)


@pytest.mark.parametrize("length", [0, QUERY.size - 1, QUERY.size + 1])
def test_a_body_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(FrameError, match=f"a body of {length} bytes instead of {QUERY.size}"):
        unpack(QUERY, bytes(length))
