"""How requests go to a server of the Open Inference Protocol, and their answers come back: over HTTP."""

from __future__ import annotations

import json
import math
import ssl
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self
from urllib.parse import quote

import aiohttp

from serving.front.handler import PATIENCE_NS
from serving.front.listening import most_connections
from sim.base.errors import ServingError, SpecError
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import SimpleNamespace

NO_ANSWER = 0
"""The status of a query whose connection failed."""

SERVED = 200

CONNECT_S = 5.0
"""How long a server may take to say what it serves."""

NO_SERVER = "`ssim serve FILE` starts a server"

_EXTRA_S = 10.0
"""How much longer than the server an answer is waited for."""


class Question(NamedTuple):
    """A request of one row.

    Attributes:
        number: Its number, which is its id.
        model: Which of the models.
        timeout_us: Its timeout in microseconds.
    """

    number: int
    model: int
    timeout_us: int

    @property
    def limit_s(self) -> float:
        """How long its answer is waited for."""
        return self.timeout_us / 1e6 + PATIENCE_NS / NS_PER_S + _EXTRA_S


class Reply(NamedTuple):
    """The answer to a request.

    Attributes:
        status: The HTTP status.
        answered_ns: When it came, by the monotonic clock.
        problem: Why it was not served; what follows is of one that was.
        subnet: The subnet that served it.
        accuracy: The accuracy of that subnet in percent.
        router_us: From its receipt to its answer at the router.
    """

    status: int
    answered_ns: int
    problem: str = ""
    subnet: str = ""
    accuracy: float = math.nan
    router_us: int = 0


class Unanswered(Exception):  # noqa: N818 - no error of this program
    """A request has no answer, or one that can't be understood; the text says why."""


class Sender(Protocol):
    """A context in which requests can be sent."""

    async def __aenter__(self) -> Self:
        """Begin."""
        ...

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        ...

    async def learn(self, models: Sequence[str]) -> None:
        """Ask what models take.

        Raises:
            ServingError: The server can't be reached, or does not serve a model.
        """
        ...

    async def ask(self, question: Question, note_sent: Callable[[], None]) -> Reply:
        """Send a request and wait for its answer.

        Args:
            question: The request.
            note_sent: Called when it is sent.

        Raises:
            Unanswered: No answer came, or none of the protocol.
        """
        ...


class HttpSender:
    """A context in which requests are sent over HTTP, as JSON."""

    def __init__(self, address: str, ca: Path | None) -> None:
        """Describe a server.

        Args:
            address: Such as http://127.0.0.1:8000.
            ca: The certificate that is trusted; None for those of the system.

        Raises:
            SpecError: The certificate can't be read.
        """
        try:
            self._context = ssl.create_default_context(cafile=ca)
        except OSError as error:
            raise SpecError("--ca", "can't be read", str(ca), str(error)) from error
        self._address = address.rstrip("/")

    async def __aenter__(self) -> Self:
        hooks = aiohttp.TraceConfig()
        hooks.on_connection_create_end.append(_note_sent)
        hooks.on_connection_reuseconn.append(_note_sent)
        connector = aiohttp.TCPConnector(limit=most_connections(), ssl=self._context)
        self._session = aiohttp.ClientSession(connector=connector, trace_configs=[hooks])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def learn(self, models: Sequence[str]) -> None:
        """Ask what models take; see `Sender.learn`."""
        self._urls = [f"{self._address}/v2/models/{quote(model, safe='')}" for model in models]
        limit = aiohttp.ClientTimeout(total=CONNECT_S)
        try:
            async with self._session.get(f"{self._address}/v2/health/ready", timeout=limit) as response:
                if response.status != SERVED:
                    raise ServingError(self._address, "is not ready", f"HTTP status {response.status}")
            self._inputs = [await self._inputs_of(url, limit) for url in self._urls]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise ServingError(self._address, "can't be reached", reason, NO_SERVER) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServingError(self._address, "does not speak the Open Inference Protocol", repr(error)) from error

    async def _inputs_of(self, url: str, limit: aiohttp.ClientTimeout) -> str:
        """Return the inputs of a request of one row as JSON: zeros of the shape that the model takes."""
        async with self._session.get(url, timeout=limit) as response:
            content = await response.json(content_type=None)
            if response.status != SERVED:
                raise ServingError(self._address, "does not serve the model", _error_of(content))
        shapes = [row_shape(spec["shape"]) for spec in content["inputs"]]
        zeros = [
            {**spec, "shape": shape, "data": [0] * math.prod(shape)}
            for spec, shape in zip(content["inputs"], shapes, strict=True)
        ]
        return json.dumps(zeros)

    async def ask(self, question: Question, note_sent: Callable[[], None]) -> Reply:
        """Send a request; see `Sender.ask`."""
        number, model, timeout_us = question
        body = f'{{"id":"{number}","parameters":{{"timeout":{timeout_us}}},"inputs":{self._inputs[model]}}}'.encode()
        limit = aiohttp.ClientTimeout(total=question.limit_s)
        try:
            async with self._session.post(
                self._urls[model] + "/infer", data=body, trace_request_ctx=note_sent, timeout=limit
            ) as response:
                raw = await response.read()
                return _reply(response.status, time.monotonic_ns(), json.loads(raw))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unanswered(str(error) or type(error).__name__) from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Unanswered("an answer that is not one of the Open Inference Protocol") from error


def row_shape(shape: Sequence[Any]) -> list[int]:
    """Return the shape of an input with one row."""
    return [1 if int(size) == -1 else int(size) for size in shape]


async def _note_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _what: object) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx()


def _reply(status: int, answered_ns: int, content: Any) -> Reply:
    if status != SERVED:
        return Reply(status, answered_ns, _error_of(content))
    columns = {output["name"]: output["data"][0] for output in content["outputs"]}
    router_us = int(content["parameters"]["router_us"])
    return Reply(status, answered_ns, "", columns["subnet"], float(columns["accuracy"]), router_us)


def _error_of(content: Any) -> str:
    """Return what a server says is wrong."""
    return str(content.get("error"))[:200] if isinstance(content, dict) else "no reason given"
