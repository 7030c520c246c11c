"""Inference requests of the Open Inference Protocol: what a model takes, what is wrong with a request, what it asks.

Nothing here knows of a transport: REST and gRPC give the parts of a request, and tell a `RequestError` in their way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.tensors import DTYPES, row_bytes
from sim.base.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

VERSION = "1"
"""The version of every model: a server has one."""

LONGEST_ID = 256
"""Characters of the longest id of a request."""

LONGEST_TIMEOUT_US = 3_600_000_000
"""An hour: nobody waits longer for an answer."""

SCHEDULING = ("timeout", "priority")
"""Parameters of a request, as Triton's extension `schedule_policy` has them."""


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


class Asked(NamedTuple):
    """What a request asks.

    Attributes:
        rows: Its queries: each row of the input is one.
        slo_ns: From its receipt to its deadline.
        inputs: Of each row, all its tensors; nothing if workers take none.
    """

    rows: int
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


@dataclass(slots=True)
class ServedModel:
    """What a server serves.

    Attributes:
        name: The name of the model: that of the experiment.
        slo_ns: The SLO of requests without a timeout; None where every request needs one.
        most_rows: Rows of the largest request.
        inputs: What a request has.
        outputs: What an answer has.
        computed: How many of them, from the first on, workers compute from the inputs; 0 if they take no inputs.
    """

    name: str
    slo_ns: int | None
    most_rows: int
    inputs: tuple[TensorSpec, ...] = INPUTS
    outputs: tuple[TensorSpec, ...] = OUTPUTS
    computed: int = 0

    def learn(self, tensors: Mapping[str, Any]) -> None:
        """Take inputs and outputs of workers that compute, which tell them when they are ready."""
        if tensors:
            self.inputs, computed = (
                tuple(TensorSpec(one["name"], one["datatype"], tuple(one["shape"])) for one in tensors[name])
                for name in ("inputs", "outputs")
            )
            self.outputs, self.computed = (*computed, *OUTPUTS), len(computed)

    def values(self, rows: Sequence[bytes]) -> dict[str, list[Any]]:
        """Return the outputs that workers computed, by name, from those of each row."""
        found, begin = dict[str, list[Any]](), 0
        for spec in self.outputs[: self.computed]:
            end = begin + spec.row_bytes
            found[spec.name] = np.frombuffer(b"".join([row[begin:end] for row in rows]), DTYPES[spec.datatype]).tolist()
            begin = end
        return found

    def metadata(self) -> dict[str, Any]:
        """Return its metadata, as the protocol has them."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": "ssim",
            "inputs": [spec.described() for spec in self.inputs],
            "outputs": [spec.described() for spec in self.outputs],
        }

    def check_name(self, name: str, version: str = "") -> None:
        """Check that a request is for this model.

        Raises:
            RequestError: It is for another one.
        """
        if name != self.name:
            raise RequestError(Status.NOT_FOUND, f"model {name[:100]!r} is not served here; {self.name!r} is")
        if version not in {"", VERSION}:
            raise RequestError(Status.NOT_FOUND, f"version {version[:100]!r} is not served here; {VERSION!r} is")

    def asked(
        self, request_id: object, parameters: Mapping[str, object], inputs: Sequence[Tensor], outputs: Sequence[object]
    ) -> Asked:
        """Return what a request asks.

        Args:
            request_id: Its id.
            parameters: Its parameters.
            inputs: Its inputs.
            outputs: The names of the outputs that it wants; none for all.

        Raises:
            RequestError: Something is wrong with it.
        """
        if not isinstance(request_id, str) or len(request_id) > LONGEST_ID:
            raise invalid(f"id: must be a string of at most {LONGEST_ID} characters")
        slo_ns = self._slo_ns(parameters)
        known = [spec.name for spec in self.outputs]
        for number, name in enumerate(outputs):
            if name not in known or name in outputs[:number]:
                what = "is asked for twice" if name in known else f"unknown output; known: {', '.join(known)}"
                raise invalid(f"outputs[{number}] ({str(name)[:100]}): {what}")
        specs = {spec.name: spec for spec in self.inputs}
        wanted = ", ".join(specs)
        if len(inputs) != len(specs):
            raise invalid(f"inputs: there must be {wanted}, each once, not {len(inputs)} inputs")
        arrays: dict[str, npt.NDArray[Any]] = {}
        rows = 0
        for number, tensor in enumerate(inputs):
            name, place = str(tensor.name), f"inputs[{number}] ({str(tensor.name)[:100]})"
            if name not in specs or name in arrays:
                what = "is given twice" if name in specs else "unknown input"
                raise invalid(f"{place}: {what}; the model has {wanted}")
            arrays[name] = found = self._array(place, tensor, specs[name])
            if number and len(found) != rows:
                raise invalid(f"{place}: has {len(found)} rows; the inputs before have {rows}")
            rows = len(found)
        parts = [arrays[name] for name in specs] if self.computed else []
        return Asked(rows, slo_ns, [b"".join([part[row].tobytes() for part in parts]) for row in range(rows)])

    def _slo_ns(self, parameters: Mapping[str, object]) -> int:
        for name, value in parameters.items():
            if name not in SCHEDULING:
                raise invalid(f"parameters.{name[:100]}: unknown parameter; {did_you_mean(name, list(SCHEDULING))}")
            if not isinstance(value, int) or isinstance(value, bool):
                raise invalid(f"parameters.{name}: must be a whole number ({str(value)[:100]})")
        if parameters.get("priority", 0) != 0:
            hint = "queries are served in the order of their deadlines; leave it out, or give a shorter timeout"
            raise invalid(f"parameters.priority: there are no levels ({parameters['priority']}); {hint}")
        timeout_us = parameters.get("timeout")
        if timeout_us is None:
            if self.slo_ns is None:
                raise invalid("parameters.timeout: is missing: the file has several SLOs; give one in microseconds")
            return self.slo_ns
        if not (isinstance(timeout_us, int) and 1 <= timeout_us <= LONGEST_TIMEOUT_US):
            raise invalid(f"parameters.timeout: must be 1 to {LONGEST_TIMEOUT_US} microseconds ({timeout_us})")
        return timeout_us * 1000

    def _array(self, place: str, found: Tensor, spec: TensorSpec) -> npt.NDArray[Any]:
        """Return an input as an array, a row for each query.

        Raises:
            RequestError: It is not an input of this model.
        """
        if found.datatype != spec.datatype:
            raise invalid(f"{place}: datatype must be {spec.datatype} ({str(found.datatype)[:100]})")
        shape = found.shape
        if not isinstance(shape, list | tuple) or not all(type(size) is int for size in shape):
            raise invalid(f"{place}: shape must be a list of whole numbers ({str(shape)[:100]})")
        wanted = "[" + ", ".join(["rows", *map(str, spec.shape[1:])]) + "]"
        if len(shape) != len(spec.shape) or tuple(shape[1:]) != spec.shape[1:] or shape[0] < 1:
            raise invalid(f"{place}: shape must be {wanted} with at least 1 row ({str(shape)[:100]})")
        rows = int(shape[0])
        if rows > self.most_rows:
            raise invalid(f"{place}: at most {self.most_rows} rows, one for each query ({rows})")
        dtype = np.dtype(DTYPES[spec.datatype])
        values = _values(place, found.data, rows * math.prod(spec.shape[1:]), dtype)
        if dtype.kind == "f" and not np.isfinite(values).all():
            raise invalid(f"{place}: data must be finite")  # else a batch with queries of others would be lost
        return values.reshape(rows, *spec.shape[1:])


def _values(place: str, data: object, elements: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
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
