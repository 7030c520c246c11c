"""The models of a server: what each takes and answers, and which queue its queries join."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.front.inference import (
    INPUTS,
    OUTPUTS,
    InferenceRequest,
    RequestError,
    Status,
    TensorSpec,
    invalid,
    values_of,
)
from serving.tensors import DTYPES
from sim.base.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from serving.front.inference import Tensor
    from sim.engine.cluster import Cluster

VERSION = "1"
"""The version of every model: a server has one."""

LONGEST_ID = 256
"""Characters of the longest id of a request."""

LONGEST_TIMEOUT_US = 3_600_000_000
"""An hour: nobody waits longer for an answer."""

SCHEDULING = ("timeout", "priority")
"""Parameters of a request, as Triton's extension `schedule_policy` has them."""


class ServedQueue(NamedTuple):
    """A queue, for those who send it queries.

    Attributes:
        place: Its place among those of the cluster; 0 without queues.
        slo_ns: The smallest SLO of its queries, as policies see it.
        is_default: Whether that is the SLO of requests without a timeout; else each request needs one.
    """

    place: int
    slo_ns: int
    is_default: bool = True


@dataclass(slots=True)
class ServedModel:
    """A model of a server.

    Attributes:
        name: Its name.
        queue: The queue of its queries.
        most_rows: Rows of the largest request.
        levels: The queue of each priority that requests may ask for; empty if there are no levels.
        inputs: What a request has.
        outputs: What an answer has.
        computed: How many of them, from the first on, workers compute from the inputs; 0 if they take no inputs.
    """

    name: str
    queue: ServedQueue
    most_rows: int
    levels: Mapping[int, ServedQueue] = field(default_factory=dict[int, ServedQueue])
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

    def parse(
        self, request_id: object, parameters: Mapping[str, object], inputs: Sequence[Tensor], outputs: Sequence[object]
    ) -> InferenceRequest:
        """Return the content of a request, checked.

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
        queue, slo_ns = self._scheduling(parameters)
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
        return InferenceRequest(
            rows, queue.place, slo_ns, [b"".join([part[row].tobytes() for part in parts]) for row in range(rows)]
        )

    def _scheduling(self, parameters: Mapping[str, object]) -> tuple[ServedQueue, int]:
        """Return the queue and the SLO of a request."""
        for name, value in parameters.items():
            if name not in SCHEDULING:
                raise invalid(f"parameters.{name[:100]}: unknown parameter; {did_you_mean(name, list(SCHEDULING))}")
            if not isinstance(value, int) or isinstance(value, bool):
                raise invalid(f"parameters.{name}: must be a whole number ({str(value)[:100]})")
        queue = self._level(parameters.get("priority", 0))
        timeout_us = parameters.get("timeout")
        if timeout_us is None:
            if not queue.is_default:
                raise invalid("parameters.timeout: is missing: the file has several SLOs; give one in microseconds")
            return queue, queue.slo_ns
        if not (isinstance(timeout_us, int) and 1 <= timeout_us <= LONGEST_TIMEOUT_US):
            raise invalid(f"parameters.timeout: must be 1 to {LONGEST_TIMEOUT_US} microseconds ({timeout_us})")
        return queue, timeout_us * 1000

    def _level(self, priority: object) -> ServedQueue:
        """Return the queue of a priority; 0 is that of requests without one."""
        if priority == 0:
            return self.queue
        for level, queue in self.levels.items():
            if level == priority:
                return queue
        if self.levels:
            raise invalid(f"parameters.priority: must be {' or '.join(map(str, sorted(self.levels)))} ({priority})")
        hint = "leave it out; a shorter timeout is more urgent"
        raise invalid(f"parameters.priority: there are no levels ({priority}); {hint}")

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
        values = values_of(place, found.data, rows * math.prod(spec.shape[1:]), dtype)
        if dtype.kind == "f" and not np.isfinite(values).all():
            raise invalid(f"{place}: data must be finite")  # else a batch with queries of others would be lost
        return values.reshape(rows, *spec.shape[1:])


class ServedModels:
    """The models of a server, by name."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = {model.name: model for model in models}
        self.names = list(self._models)

    def find(self, name: str, version: str = "") -> ServedModel:
        """Return a model.

        Raises:
            RequestError: There is no such model, or no such version.
        """
        if (model := self._models.get(name)) is None:
            served = f"{', '.join(map(repr, self.names))} {'is' if len(self.names) == 1 else 'are'}"
            raise RequestError(Status.NOT_FOUND, f"model {name[:100]!r} is not served here; {served}")
        if version not in {"", VERSION}:
            raise RequestError(Status.NOT_FOUND, f"version {version[:100]!r} is not served here; {VERSION!r} is")
        return model

    def learn(self, tensors: Mapping[str, Any]) -> None:
        """Take inputs and outputs of workers that compute; see `ServedModel.learn`."""
        for model in self._models.values():
            model.learn(tensors)

    @property
    def has_inputs(self) -> bool:
        """Whether workers compute from the inputs of requests."""
        return any(model.computed for model in self._models.values())


def served_models(name: str, cluster: Cluster, queues: Sequence[ServedQueue], most_rows: int) -> ServedModels:
    """Return the models of a server: one, or one for each queue.

    Where the order of queues is `priority` and no two have the same, there is one more, whose requests choose a queue
    by their priority; those without one join the least urgent queue.

    Args:
        name: The name of the experiment, which is that of the only model, or of the one with levels.
        cluster: The queues.
        queues: The same, with the SLOs of their queries.
        most_rows: Rows of the largest request.
    """
    if not cluster.queues:
        return ServedModels([ServedModel(name, queues[0], most_rows)])
    models = [
        ServedModel(one.name, queue, min(most_rows, one.bound or most_rows))
        for one, queue in zip(cluster.queues, queues, strict=True)
    ]
    levels = {one.priority: queue for one, queue in zip(cluster.queues, queues, strict=True)}
    if cluster.order == "priority" and len(levels) == len(queues) and all(one.name != name for one in models):
        models.append(ServedModel(name, levels[max(levels)], most_rows, levels))
    return ServedModels(models)
