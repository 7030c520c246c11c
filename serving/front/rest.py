"""The Open Inference Protocol over HTTP: JSON, and tensors as bytes by Triton's extension for binary data."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from serving.front.history import PAGE
from serving.front.inference import RequestError, Status, Tensor, invalid
from serving.front.listening import most_connections
from serving.front.models import VERSION
from serving.tensors import DTYPES
from sim.base.version import VERSION as SSIM_VERSION

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable
    from typing import Self

    from serving.front.handler import Answer, RequestHandler
    from serving.front.history import History
    from serving.front.metrics import ServiceMetrics
    from serving.front.models import ServedModel, ServedModels

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_BODY = 4 * 2**20
"""Bytes of the longest message that is accepted."""

READ_S = 10.0
"""How long a client may take to send a message."""

_END_S = 2.0
"""How long connections are waited for at the end, when all answers have been given."""

_ACCEPTED_S = 0.01
"""How long a connection that has just been accepted may take to be known to HTTP."""

_PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
)
"""What the live page may do: ask this server."""

_REFUSAL_S = 1.0
"""How long a connection that is one too many may take to send a request."""

_JSON_LENGTH = "Inference-Header-Content-Length"
"""The header that tells how many of the bytes are JSON; the others are tensors."""

EXTENSIONS = ["binary_tensor_data", "schedule_policy"]


class RestFront:
    """A context in which requests over HTTP are answered."""

    def __init__(
        self, models: ServedModels, handler: RequestHandler, metrics: ServiceMetrics, history: History | None
    ) -> None:
        """Describe a front.

        Args:
            models: What is served.
            handler: Takes the requests.
            metrics: Counts what the service does.
            history: What the live page shows; None without the page.
        """
        self._models, self._handler, self._metrics = models, handler, metrics
        app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY)
        at = "/v2/models/{model}"
        app.router.add_get("/v2/health/live", self._live)
        app.router.add_get("/v2/health/ready", self._ready)
        app.router.add_get("/v2", self._server)
        app.router.add_get("/metrics", self._all_metrics)
        for path in (at, at + "/versions/{version}"):
            app.router.add_get(path, self._metadata)
            app.router.add_get(path + "/ready", self._ready)
            app.router.add_post(path + "/infer", self._infer)
        if history is not None:
            self._history = history
            app.router.add_get("/", self._page)
            app.router.add_get("/live.json", self._live_windows)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, keepalive_timeout=READ_S, shutdown_timeout=_END_S
        )
        self._server_socket: asyncio.Server | None = None
        self._most = most_connections()

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server_socket is not None:
            self._server_socket.close()
            await asyncio.sleep(_ACCEPTED_S)
        await self._runner.cleanup()

    async def listen(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        self._server_socket = await loop.create_server(
            self._protocol,
            sock=listening,
            ssl=tls,
            ssl_handshake_timeout=READ_S if tls else None,
            ssl_shutdown_timeout=_END_S if tls else None,
        )

    def connections(self) -> int:
        """Return how many connections are open."""
        return len(self._runner.server.connections) if self._runner.server else 0

    def _protocol(self) -> asyncio.Protocol:
        """Return what speaks on a new connection: HTTP, or a refusal if there are too many."""
        server = cast("web.Server", self._runner.server)  # between setup and cleanup
        return server() if self.connections() < self._most else _Refusal(self._most)

    async def _live(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _ready(self, request: web.Request) -> web.Response:
        if "model" in request.match_info:
            self._find_model(request)
        if not self._handler.is_ready:
            raise RequestError(Status.UNAVAILABLE, "not ready")
        return web.Response()

    async def _server(self, _request: web.Request) -> web.Response:
        return web.json_response({"name": "ssim", "version": SSIM_VERSION, "extensions": EXTENSIONS})

    async def _metadata(self, request: web.Request) -> web.Response:
        model = self._find_model(request)
        self._handler.check_open()
        return web.json_response(model.metadata())

    async def _all_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(self.connections()), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _page(self, _request: web.Request) -> web.Response:
        text, headers = PAGE.read_text(encoding="utf-8"), {"Content-Security-Policy": _PAGE_POLICY}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _live_windows(self, _request: web.Request) -> web.Response:
        return web.json_response({**self._history.content()})

    def _find_model(self, request: web.Request) -> ServedModel:
        return self._models.find(request.match_info["model"], request.match_info.get("version", ""))

    async def _infer(self, request: web.Request) -> web.Response:
        model = self._find_model(request)
        try:
            async with asyncio.timeout(READ_S):
                body = await request.read()
        except TimeoutError:
            raise RequestError(Status.SLOW, f"the request did not arrive within {READ_S:g} s") from None
        content, binary = _split(body, request.headers.get(_JSON_LENGTH))
        parameters = _mapping(content, "parameters")
        all_binary = _flag(parameters, "binary_data_output")
        outputs = _outputs(content, all_binary=all_binary)
        request_id = content.get("id", "")
        parsed = model.parse(request_id, parameters, _inputs(content, binary), [name for name, _ in outputs])
        answer = await self._handler.ask(model, parsed, request_id)
        every = {one.name: all_binary for one in model.outputs}
        return self._response(model, request_id, answer, dict(outputs) or every)

    def _response(self, model: ServedModel, request_id: str, answer: Answer, wanted: dict[str, bool]) -> web.Response:
        columns, outputs, tail = answer.columns, list[dict[str, Any]](), bytearray()
        specs = {spec.name: spec for spec in model.outputs}
        for name, is_binary in wanted.items():
            values = columns[name]
            shape = specs[name].full_shape(len(values))
            output: dict[str, Any] = {"name": name, "datatype": specs[name].datatype, "shape": shape}
            if is_binary:
                data = tensor_bytes(specs[name].datatype, values)
                output["parameters"] = {"binary_data_size": len(data)}
                tail += data
            else:
                output["data"] = values
            outputs.append(output)
        content: dict[str, Any] = {
            "model_name": model.name,
            "model_version": VERSION,
            **({"id": request_id} if request_id else {}),
            "parameters": {"router_us": answer.router_us},
            "outputs": outputs,
        }
        if not tail:
            return web.json_response(content)
        head = json.dumps(content).encode()
        headers = {_JSON_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        return web.Response(body=head + tail, headers=headers)


def tensor_bytes(datatype: str, values: list[Any]) -> bytes:
    """Return the elements of a tensor as bytes, as the protocol lays them out."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(one)) + one for one in (value.encode() for value in values))
    return np.array(values, dtype=DTYPES[datatype]).tobytes()


class _Refusal(asyncio.Protocol):
    """Answers a request by saying that there are too many connections, and closes this one."""

    def __init__(self, most: int) -> None:
        self._text = json.dumps({"error": f"too many connections; at most {most}"}).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of a stream socket
        self._end = asyncio.get_running_loop().call_later(_REFUSAL_S, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._transport.is_closing():
            head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
            self._transport.write(f"{head}Content-Length: {len(self._text)}\r\n\r\n".encode() + self._text)
            self._transport.close()


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors as the protocol does: a JSON object with the key `error`."""
    try:
        return await handler(request)
    except RequestError as error:
        return web.json_response({"error": str(error)}, status=error.status.http)
    except web.HTTPRequestEntityTooLarge:
        text = f"the message is longer than {MAX_BODY} bytes"
        return web.json_response({"error": text}, status=Status.TOO_LARGE.http)
    except web.HTTPException as error:
        text = f"{request.method} {request.path[:100]}: {error.reason}"
        return web.json_response({"error": text}, status=error.status, headers=_allowed(error))


def _allowed(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


def _split(body: bytes, length: str | None) -> tuple[dict[str, Any], memoryview]:
    """Return the JSON of a message and the bytes of its tensors."""
    end = len(body)
    if length is not None:
        if not length.isascii() or not length.isdigit() or len(length) > len(str(MAX_BODY)) or int(length) > end:
            raise invalid(f"{_JSON_LENGTH}: must be at most the {end} bytes of the message ({length[:100]})")
        end = int(length)
    try:
        content = json.loads(body[:end])
    except (ValueError, RecursionError) as error:
        raise invalid(f"the message is not JSON: {str(error)[:200]}") from None
    return _mapping_of(content, "the message"), memoryview(body)[end:]


def _inputs(content: dict[str, Any], binary: memoryview) -> list[Tensor]:
    """Return the inputs, those that are bytes cut from what follows the JSON."""
    found, place = list[Tensor](), 0
    for number, each in enumerate(_listed(content, "inputs")):
        where = f"inputs[{number}]"
        one = _mapping_of(each, where)
        parameters = _mapping(one, "parameters", where)
        size, data = parameters.pop("binary_data_size", None), one.get("data")
        if parameters:
            raise invalid(f"{where}.parameters: unknown parameter {next(iter(parameters))[:100]!r}")
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(binary) - place:
                left = len(binary) - place
                raise invalid(f"{where}.parameters.binary_data_size: {left} bytes are left ({str(size)[:100]})")
            if data is not None:
                raise invalid(f"{where}: has data both as JSON and as bytes")
            data = binary[place : place + size]
            place += size
        found.append(Tensor(one.get("name"), one.get("datatype"), one.get("shape"), data))
    if place != len(binary):
        raise invalid(f"{len(binary) - place} bytes at the end of the message belong to no input")
    return found


def _outputs(content: dict[str, Any], *, all_binary: bool) -> list[tuple[str, bool]]:
    """Return the names of the outputs that are asked for, and whether each is to come as bytes."""
    found = []
    for number, each in enumerate(_listed(content, "outputs")):
        where = f"outputs[{number}]"
        one = _mapping_of(each, where)
        parameters = _mapping(one, "parameters", where)
        is_binary = _flag(parameters, "binary_data", default=all_binary)
        if parameters:
            raise invalid(f"{where}.parameters: unknown parameter {next(iter(parameters))[:100]!r}")
        found.append((str(one.get("name")), is_binary))
    return found


def _flag(parameters: dict[str, Any], name: str, *, default: bool = False) -> bool:
    """Take a parameter that is true or false out of others."""
    value = parameters.pop(name, default)
    if not isinstance(value, bool):
        raise invalid(f"parameters.{name}: must be true or false ({str(value)[:100]})")
    return value


def _listed(content: dict[str, Any], name: str) -> list[Any]:
    found = content.get(name, [])
    if not isinstance(found, list):
        raise invalid(f"{name}: must be a list")
    return found


def _mapping(content: dict[str, Any], name: str, where: str = "") -> dict[str, Any]:
    found = _mapping_of(content.get(name, {}), f"{where}.{name}".strip("."))
    return dict(found)


def _mapping_of(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{where}: must be a JSON object")
    return value
