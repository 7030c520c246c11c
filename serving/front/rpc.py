"""The Open Inference Protocol over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import grpc

from serving.front.inference import RequestError, Tensor, invalid
from serving.front.listening import most_connections
from serving.front.messages import CONTENTS, SERVICE, message
from serving.front.models import VERSION
from serving.front.rest import EXTENSIONS, MAX_BODY, tensor_bytes
from sim.base.errors import ServingError
from sim.base.version import VERSION as SSIM_VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serving.front.handler import RequestHandler
    from serving.front.listening import Listen
    from serving.front.models import ServedModels

    Call = Callable[[Any], Awaitable[Any]]  # classes of protobuf are made when the program runs

_END_S = 2.0
"""How long calls are waited for at the end, when all answers have been given."""


class RpcFront:
    """A context in which requests over gRPC are answered."""

    def __init__(self, models: ServedModels, handler: RequestHandler) -> None:
        """Describe a front; arguments as for `serving.front.rest.RestFront`."""
        self._models, self._handler = models, handler
        most = most_connections()
        options = (
            ("grpc.so_reuseport", 0),  # else a second server would share the port without a word
            ("grpc.max_receive_message_length", MAX_BODY),
            ("grpc.max_allowed_incoming_connections", most),
        )
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=most)
        calls: dict[str, Call] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        methods = {name: _method(name, call) for name, call in calls.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(_END_S)

    async def listen(self, listen: Listen, port: int) -> str:
        """Accept connections from now on; return the address.

        Raises:
            ServingError: The port is taken.
        """
        _, (host, _) = listen.address()
        host = f"[{host}]" if ":" in host else host
        try:
            if listen.cert is not None and listen.key is not None:
                pair = (listen.key.read_bytes(), listen.cert.read_bytes())
                found = self._server.add_secure_port(f"{host}:{port}", grpc.ssl_server_credentials([pair]))
            else:
                found = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            hint = "give another port; 0 for any free one"
            raise ServingError(f"{host}:{port}", "can't be listened on for gRPC", "", hint) from error
        await self._server.start()
        return f"{host}:{found}"

    async def _server_live(self, _request: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, _request: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._handler.is_ready)

    async def _model_ready(self, request: Any) -> Any:
        self._models.find(request.name, request.version)
        return message("ModelReadyResponse")(ready=self._handler.is_ready)

    async def _server_metadata(self, _request: Any) -> Any:
        return message("ServerMetadataResponse")(name="ssim", version=SSIM_VERSION, extensions=EXTENSIONS[1:])

    async def _model_metadata(self, request: Any) -> Any:
        model = self._models.find(request.name, request.version)
        self._handler.check_open()
        return message("ModelMetadataResponse")(**model.metadata())

    async def _infer(self, request: Any) -> Any:
        model = self._models.find(request.model_name, request.model_version)
        for place, each in (("inputs", request.inputs), ("outputs", request.outputs)):
            for number, one in enumerate(each):
                if one.parameters:
                    raise invalid(f"{place}[{number}].parameters: unknown parameter {one.parameters[0].key[:100]!r}")
        names = [one.name for one in request.outputs]
        parsed = model.parse(request.id, _parameters(request.parameters), _inputs(request), names)
        answer = await self._handler.ask(model, parsed, request.id)
        columns, specs = answer.columns, {spec.name: spec for spec in model.outputs}
        told = [(specs[name], columns[name]) for name in names or specs]
        return message("ModelInferResponse")(
            model_name=model.name,
            model_version=VERSION,
            id=request.id,
            parameters=[{"key": "router_us", "value": {"int64_param": answer.router_us}}],
            outputs=[
                {"name": spec.name, "datatype": spec.datatype, "shape": spec.full_shape(len(values))}
                for spec, values in told
            ],
            raw_output_contents=[tensor_bytes(spec.datatype, values) for spec, values in told],
        )


def _method(name: str, call: Call) -> Any:
    """Return what gRPC calls for a method: errors become its status."""

    async def answer(request: Any, context: Any) -> Any:
        try:
            return await call(request)
        except RequestError as error:
            return await context.abort(grpc.StatusCode[error.status.grpc], str(error))

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=message(f"{name}Request").FromString,
        response_serializer=message(f"{name}Response").SerializeToString,
    )


def _parameters(entries: Any) -> dict[str, object]:
    """Return parameters by name."""
    found = dict[str, object]()
    for entry in entries:
        choice = entry.value.WhichOneof("choice")
        found[entry.key] = None if choice is None else getattr(entry.value, choice)
    return found


def _inputs(request: Any) -> list[Tensor]:
    """Return the inputs: all as bytes, or all as numbers.

    Raises:
        RequestError: There are not as many bytes as inputs, or an input has both.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise invalid(f"raw_input_contents: there must be one for each input ({len(raw)} for {len(request.inputs)})")
    found = list[Tensor]()
    for number, one in enumerate(request.inputs):
        if raw and one.HasField("contents"):
            raise invalid(f"inputs[{number}]: has data both as contents and as raw_input_contents")
        field = CONTENTS.get(one.datatype)
        data = raw[number] if raw else list(getattr(one.contents, field)) if field else None
        found.append(Tensor(one.name, one.datatype, list(one.shape), data))
    return found
