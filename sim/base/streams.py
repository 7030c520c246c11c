"""Random streams: one seed, and an independent stream for each named use of it."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """Return the random stream of one named use of a seed.

    Streams of different names (or indices) are independent; the same arguments give the same numbers whatever else
    was drawn before, in any order, in any process.

    Args:
        seed: The seed of a run, not negative.
        name: Purpose of the numbers, for example `"arrivals"`.
        index: Numbers that distinguish streams of one name, for example the minute of a trace.

    Examples:
        >>> bool(stream(7, "arrivals").random() == stream(7, "arrivals").random())
        True
        >>> bool(stream(7, "arrivals").random() == stream(7, "policy").random())
        False
    """
    key = (zlib.crc32(name.encode()), *index)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
