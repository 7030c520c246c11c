"""Inference requests of the Open Inference Protocol: their parts, what they ask, and what is wrong with them.

Nothing here knows of a transport: REST and gRPC give the parts of a request, and tell a `RequestError` in their way.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.tensors import row_bytes

if TYPE_CHECKING:
    import numpy.typing as npt


class Status(Enum):
    """What became of a request that has no answer: its HTTP status, and the name of its gRPC status."""

    INVALID = (400, "INVALID_ARGUMENT")
    NOT_FOUND = (404, "NOT_FOUND")
    SLOW = (408, "CANCELLED")
    TOO_LARGE = (413, "RESOURCE_EXHAUSTED")
    FAILED = (500, "INTERNAL")
    UNAVAILABLE = (503, "UNAVAILABLE")
    EXPIRED = (504, "DEADLINE_EXCEEDED")

    @property
    def http(self) -> int:
        """The HTTP status."""
        return self.value[0]

    @property
    def grpc(self) -> str:
        """The name of the gRPC status."""
        return self.value[1]


class RequestError(Exception):
    """A request is refused or not answered; its text is for the client.

    Attributes:
        status: In which way.
    """

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


class TensorSpec(NamedTuple):
    """An input or output of a model.

    Attributes:
        name: Its name.
        datatype: As the protocol names it.
        shape: Its shape; -1 for the rows of a request.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return row_bytes([self.described()])

    def full_shape(self, elements: int) -> list[int]:
        """Return the shape with the number of rows of so many elements."""
        return [elements // math.prod(self.shape[1:]), *self.shape[1:]]

    def described(self) -> dict[str, Any]:
        """Return it as the metadata of a model do."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


class Tensor(NamedTuple):
    """An input of a request.

    Attributes:
        name: Its name.
        datatype: As the protocol names it.
        shape: Its shape.
        data: Its elements: bytes, little-endian, or numbers, nested or not.
    """

    name: object
    datatype: object
    shape: object
    data: object


class InferenceRequest(NamedTuple):
    """The checked content of a request.

    Attributes:
        rows: Its queries: each row of the input is one.
        queue: That of these queries, an index into those of the cluster.
        slo_ns: From its receipt to its deadline.
        inputs: Of each row, all its tensors; nothing if workers take none.
    """

    rows: int
    queue: int
    slo_ns: int
    inputs: list[bytes]


INPUTS = (TensorSpec("input", "FP32", (-1, 1)),)
"""The input of workers that compute nothing: a number for each query."""

OUTPUTS = (
    TensorSpec("subnet", "BYTES", (-1,)),
    TensorSpec("accuracy", "FP32", (-1,)),
    TensorSpec("batch_size", "INT64", (-1,)),
)
"""What is told of each query."""


def values_of(place: str, data: object, elements: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return data as so many elements of a type.

    Raises:
        RequestError: They are not.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        if len(data) != elements * dtype.itemsize:
            wanted = f"{elements} elements of {dtype.itemsize} bytes"
            raise invalid(f"{place}: {len(data)} bytes of data instead of {elements * dtype.itemsize}: {wanted}")
        found = np.frombuffer(data, dtype)
        return found.view(np.uint8) != 0 if dtype.kind == "b" else found  # any byte but 0 is true
    if not isinstance(data, list):
        raise invalid(f"{place}: data are missing")
    try:
        array = np.asarray(data)
    except ValueError:
        raise invalid(f"{place}: data are nested unevenly") from None
    if array.size != elements:
        raise invalid(f"{place}: {array.size} elements of data instead of {elements}")
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype) if dtype.kind in "iu" else None
    if array.dtype.kind not in {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}[dtype.kind] or (
        limits is not None and (array.min() < limits.min or array.max() > limits.max)
    ):
        raise invalid(f"{place}: data must be numbers that {dtype.name} holds")
    return array.astype(dtype)


def invalid(text: str) -> RequestError:
    """Return the error of a request that can't be understood."""
    return RequestError(Status.INVALID, text)
