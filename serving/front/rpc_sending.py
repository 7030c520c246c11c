"""How requests go to a server of the Open Inference Protocol, and their answers come back: over gRPC."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np

from serving.front.inference import Status
from serving.front.messages import SERVICE, message
from serving.front.sending import CONNECT_S, NO_SERVER, SERVED, Reply, Unanswered, row_shape
from serving.tensors import DTYPES
from sim.base.errors import ServingError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from serving.front.sending import Question

_HTTP = {status.grpc: status.http for status in Status if status is not Status.SLOW}
"""The HTTP status of what a call ends with; CANCELLED is what a connection ends with."""


class RpcSender:
    """A context in which requests are sent over gRPC, all through one connection."""

    def __init__(self, address: str, ca: Path | None) -> None:
        """Describe a server.

        Args:
            address: Such as grpc://127.0.0.1:8001; grpcs for TLS.
            ca: The certificate that is trusted; None for those of the system.

        Raises:
            SpecError: The certificate can't be read.
        """
        scheme, _, self._target = address.rstrip("/").partition("://")
        self._address, self._is_secure = address, scheme == "grpcs"
        try:
            self._roots = None if ca is None else ca.read_bytes()
        except OSError as error:
            raise SpecError("--ca", "can't be read", str(ca), str(error)) from error

    async def __aenter__(self) -> Self:
        if self._is_secure:
            credentials = grpc.ssl_channel_credentials(self._roots)
            self._channel = grpc.aio.secure_channel(self._target, credentials)
        else:
            self._channel = grpc.aio.insecure_channel(self._target)
        self._infer = self._method("ModelInfer")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def _method(self, name: str) -> Any:  # classes of protobuf are made when the program runs
        return self._channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=message(f"{name}Request").SerializeToString,
            response_deserializer=message(f"{name}Response").FromString,
        )

    async def learn(self, models: Sequence[str]) -> None:
        """Ask what models take; see `Sender.learn`."""
        try:
            async with asyncio.timeout(CONNECT_S):
                ready = await self._method("ServerReady")(message("ServerReadyRequest")())
                if not ready.ready:
                    raise ServingError(self._address, "is not ready")
                self._requests = [await self._request(model) for model in models]
        except TimeoutError as error:
            raise ServingError(self._address, "can't be reached", "no answer", NO_SERVER) from error
        except grpc.aio.AioRpcError as error:
            told = str(error.details())[:200]
            match error.code():
                case grpc.StatusCode.NOT_FOUND:
                    raise ServingError(self._address, "does not serve the model", told) from error
                case grpc.StatusCode.UNIMPLEMENTED:
                    raise ServingError(self._address, "does not speak the Open Inference Protocol", told) from error
                case _:
                    raise ServingError(self._address, "can't be reached", told, NO_SERVER) from error

    async def _request(self, model: str) -> Any:
        """Return a request of one row: zeros of the shape that the model takes."""
        found = await self._method("ModelMetadata")(message("ModelMetadataRequest")(name=model))
        shapes = [row_shape(one.shape) for one in found.inputs]
        known = list(zip(found.inputs, shapes, strict=True))
        inputs = [{"name": one.name, "datatype": one.datatype, "shape": shape} for one, shape in known]
        raw = [bytes(np.dtype(DTYPES[one.datatype]).itemsize * math.prod(shape)) for one, shape in known]
        return message("ModelInferRequest")(model_name=model, inputs=inputs, raw_input_contents=raw)

    async def ask(self, question: Question, note_sent: Callable[[], None]) -> Reply:
        """Send a request; see `Sender.ask`. What a connection that failed ends with is UNAVAILABLE, as a refusal."""
        request = message("ModelInferRequest")()
        request.CopyFrom(self._requests[question.model])
        request.id = str(question.number)
        request.parameters.add(key="timeout").value.int64_param = question.timeout_us
        call = self._infer(request, timeout=question.limit_s)
        note_sent()
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            if (status := _HTTP.get(error.code().name)) is None:
                raise Unanswered(str(error.details())[:200]) from error
            return Reply(status, time.monotonic_ns(), str(error.details())[:200])
        return _reply(time.monotonic_ns(), answer)


def _reply(answered_ns: int, answer: Any) -> Reply:
    """Return what an answer says.

    Raises:
        Unanswered: It is not one of a server of this toolkit.
    """
    columns = {one.name: raw for one, raw in zip(answer.outputs, answer.raw_output_contents, strict=False)}
    told = {one.key: one.value.int64_param for one in answer.parameters}
    try:
        subnet, accuracy = columns["subnet"][4:].decode(), float(np.frombuffer(columns["accuracy"], "<f4")[0])
        return Reply(SERVED, answered_ns, "", subnet, accuracy, told["router_us"])
    except (KeyError, ValueError, IndexError) as error:
        raise Unanswered("an answer without subnet, accuracy or time at the router") from error
