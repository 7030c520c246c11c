"""Tensors of queries as bytes: element types in the words of the Open Inference Protocol."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

DTYPES: dict[str, npt.DTypeLike] = {
    "BOOL": np.bool_,
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
"""The datatypes of the protocol whose elements have a fixed size, little-endian."""


def rows_not_finite(data: bytes, tensors: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the queries whose tensors have a float that is NaN or infinite.

    Args:
        data: The tensors of each query, one query after the other.
        tensors: What they are.
    """
    rows, begin = np.frombuffer(data, np.uint8).reshape(-1, max(1, row_bytes(tensors))), 0
    is_finite = np.ones(len(rows), dtype=bool)
    for spec in tensors:
        end = begin + row_bytes([spec])
        if spec["datatype"].startswith("FP"):
            values = np.ascontiguousarray(rows[:, begin:end]).view(DTYPES[spec["datatype"]])
            is_finite &= np.isfinite(values).all(axis=1)
        begin = end
    return np.flatnonzero(~is_finite).tolist()


def row_bytes(tensors: Iterable[Mapping[str, Any]]) -> int:
    """Return the bytes of a query's tensors; their first dimension is that of queries."""
    return sum(np.dtype(DTYPES[one["datatype"]]).itemsize * math.prod(one["shape"][1:]) for one in tensors)
