"""Reads .safetensors files: a length, that many bytes of JSON, and the numbers of all tensors in a row.

The format is that of github.com/huggingface/safetensors. Twenty lines save a dependency, and say what is wrong.
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from sim.base.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_LENGTH_BYTES = 8


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name, on the CPU.

    Raises:
        DataError: There is no such file, it is cut off, or it is of another format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(str(path), "can't be read", error.strerror or str(error)) from error
    begin = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    try:
        if begin > len(content):
            raise ValueError("shorter than its header")  # noqa: TRY301 - one way to tell all damage
        header = json.loads(content[_LENGTH_BYTES:begin])
        header.pop("__metadata__", None)
        return {name: _tensor(content, begin, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        right = "a whole .safetensors file"
        raise DataError(str(path), "is cut off or damaged", f"{len(content)} bytes; {error}", right) from error


def _tensor(content: bytes, begin: int, entry: dict[str, Any]) -> torch.Tensor:
    """Return the tensor of an entry of the header.

    Raises:
        ValueError: The file has not that many bytes, or the entry is at odds with itself.
        KeyError: The entry lacks something, or its dtype is unknown.
    """
    dtype, shape, (start, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    data = content[begin + start : begin + end]
    if len(data) != prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes for a tensor of {dtype} and shape {shape}")
    return torch.frombuffer(bytearray(data), dtype=dtype).view(shape) if data else torch.empty(shape, dtype=dtype)
