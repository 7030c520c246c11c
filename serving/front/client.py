"""The load generator over the network: it sends the queries of a trace to a server at their instants.

It is open-loop: a query is sent at its instant whether or not earlier ones were answered, and its latency counts from
that instant. What the generator itself is late by is measured and reported.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import aiohttp
import numpy as np

from serving.front.handler import PATIENCE_NS
from serving.front.listening import most_connections
from serving.front.models import LONGEST_TIMEOUT_US
from serving.timer import MonotonicTimer
from sim.base.errors import ServingError, SpecError
from sim.base.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import SimpleNamespace

    import numpy.typing as npt

    from sim.traces.trace import Trace

NEVER = -1
NO_ANSWER = 0
"""The status of a query whose connection failed."""

SERVED = 200

_LEAD_NS = 100 * NS_PER_MS
_CHECK_S = 0.02
_CONNECT_S = 5.0
_EXTRA_S = 10.0
"""How much longer than the server an answer is waited for."""


@dataclass(frozen=True, slots=True, eq=False)
class SentTrace:
    """What came of a trace that was sent: arrays of shape (queries,), instants in nanoseconds from its start, int64.

    Attributes:
        intended_ns: When each query was to be sent.
        slo_ns: Its SLO.
        sent_ns: When it was sent: it had a connection, and its request was written; -1 if it was not.
        answered_ns: When its answer came; -1 if none did.
        status: The HTTP status of its answer; `NO_ANSWER` without one.
        router_ns: From its receipt to its answer at the router; -1 if it was not served.
        subnet: The subnet that served it, an index into `subnets`; -1 likewise.
        accuracy: The accuracy of that subnet in percent; NaN likewise.
        subnets: Ids of subnets, in the order in which they first came up.
        problems: What servers and connections said of queries that were not served, and how often.
        unsent: Queries that were not sent, since the run was interrupted; not among the others.
    """

    intended_ns: npt.NDArray[np.int64]
    slo_ns: npt.NDArray[np.int64]
    sent_ns: npt.NDArray[np.int64]
    answered_ns: npt.NDArray[np.int64]
    status: npt.NDArray[np.int64]
    router_ns: npt.NDArray[np.int64]
    subnet: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]
    subnets: list[str]
    problems: dict[str, int]
    unsent: int

    @property
    def served(self) -> npt.NDArray[np.bool_]:
        """Whether each query was served, in time or late."""
        served: npt.NDArray[np.bool_] = self.status == SERVED
        return served

    @property
    def latency_ns(self) -> npt.NDArray[np.int64]:
        """The latency of those that were served, from the intended instant."""
        latency_ns: npt.NDArray[np.int64] = (self.answered_ns - self.intended_ns)[self.served]
        return latency_ns

    @property
    def outside_ns(self) -> npt.NDArray[np.int64]:
        """How long each query that was served was under way outside the router, there and back."""
        outside_ns: npt.NDArray[np.int64] = (self.answered_ns - self.sent_ns - self.router_ns)[self.served]
        return outside_ns

    @property
    def met(self) -> npt.NDArray[np.bool_]:
        """Whether each query met its SLO, counted from the intended instant."""
        in_time: npt.NDArray[np.bool_] = self.answered_ns - self.intended_ns <= self.slo_ns
        return self.served & in_time

    @property
    def send_lag_ns(self) -> npt.NDArray[np.int64]:
        """How late each query was sent that was sent."""
        lag_ns: npt.NDArray[np.int64] = (self.sent_ns - self.intended_ns)[self.sent_ns != NEVER]
        return lag_ns


def send_trace(
    trace: Trace,
    address: str,
    models: Sequence[str],
    ca: Path | None = None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> SentTrace:
    """Send the queries of a trace to a server, each as a request of one row, and return what came of it.

    Args:
        trace: Arrivals and SLOs; the SLO of a query is its timeout.
        address: Of the server, such as http://127.0.0.1:8000.
        models: The name of the model, or of that of each class of queries.
        ca: The certificate that is trusted, a PEM file; None for those of the system.
        is_interrupted: Whether to end early: no further query is sent, and answers are waited for.

    Raises:
        SpecError: An SLO is too short or too long to be a timeout, or the certificate can't be read.
        ServingError: The server can't be reached, or does not serve the model.
    """
    slos_us = np.broadcast_to(trace.slo_ns, len(trace)) // 1000
    if slos_us.min() < 1 or slos_us.max() > LONGEST_TIMEOUT_US:
        raise SpecError("trace", "has an SLO that can't be a timeout", "", f"1 to {LONGEST_TIMEOUT_US} microseconds")
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise SpecError("--ca", "can't be read", str(ca), str(error)) from error

    async def send() -> SentTrace:
        async with _Sender(trace, address, models, context) as sender:
            return await sender.send(slos_us.tolist(), is_interrupted)

    try:
        return asyncio.run(send())
    finally:
        gc.unfreeze()


class _Sender:
    """The queries of a trace, and what has become of them."""

    def __init__(self, trace: Trace, address: str, models: Sequence[str], context: ssl.SSLContext) -> None:
        count = len(trace)
        self._trace, self._address = trace, address.rstrip("/")
        self._urls = [f"{self._address}/v2/models/{quote(model, safe='')}" for model in models]
        codes = trace.class_codes if len(models) > 1 else None
        self._model_of: list[int] = [0] * count if codes is None else codes.tolist()
        self._due: list[int] = trace.arrival_ns.tolist()
        self._sent, self._answered, self._router_ns = [NEVER] * count, [NEVER] * count, [NEVER] * count
        self._status, self._subnet, self._accuracy = [NO_ANSWER] * count, [NEVER] * count, [math.nan] * count
        self._subnets: dict[str, int] = {}
        self._problems: dict[str, int] = {}
        self._begin_ns = self._next = 0
        self._under_way = set[asyncio.Task[None]]()
        hooks = aiohttp.TraceConfig()
        hooks.on_connection_create_end.append(self._note_sent)
        hooks.on_connection_reuseconn.append(self._note_sent)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=most_connections(), ssl=context), trace_configs=[hooks]
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, timeouts_us: list[int], is_interrupted: Callable[[], bool]) -> SentTrace:
        """Send all queries, or those up to an interruption, and wait for their answers."""
        inputs = await self._inputs()
        self._bodies = (
            f'{{"id":"{number}","parameters":{{"timeout":{timeout_us}}},"inputs":{inputs[model]}}}'.encode()
            for number, (timeout_us, model) in enumerate(zip(timeouts_us, self._model_of, strict=True))
        )
        self._limits = [timeout_us / 1e6 + PATIENCE_NS / NS_PER_S + _EXTRA_S for timeout_us in timeouts_us]
        gc.collect()
        gc.freeze()  # all that is there stays: the collector need not look through it
        timer = MonotonicTimer(asyncio.get_running_loop(), lambda: self._send_due(timer))
        self._begin_ns = time.monotonic_ns() + _LEAD_NS
        timer.set(self._begin_ns + self._due[0])
        try:
            while not (self._next == len(self._due) or is_interrupted()):  # noqa: ASYNC110 - a signal sets no event
                await asyncio.sleep(_CHECK_S)
        finally:
            timer.close()
        if self._under_way:
            await asyncio.wait(self._under_way)
        return self._outcome()

    async def _inputs(self) -> list[str]:
        """Return for each model the inputs of a request of one row as JSON: zeros of the shape that it takes."""
        limit = aiohttp.ClientTimeout(total=_CONNECT_S)
        try:
            async with self._session.get(f"{self._address}/v2/health/ready", timeout=limit) as response:
                if response.status != SERVED:
                    raise ServingError(self._address, "is not ready", f"HTTP status {response.status}")
            return [await self._inputs_of(url, limit) for url in self._urls]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            hint = "`ssim serve FILE` starts a server"
            raise ServingError(self._address, "can't be reached", str(error) or type(error).__name__, hint) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServingError(self._address, "does not speak the Open Inference Protocol", repr(error)) from error

    async def _inputs_of(self, url: str, limit: aiohttp.ClientTimeout) -> str:
        async with self._session.get(url, timeout=limit) as response:
            content = await response.json(content_type=None)
            if response.status != SERVED:
                raise ServingError(self._address, "does not serve the model", _error_of(content))
        return json.dumps([_zeros(spec) for spec in content["inputs"]])

    def _send_due(self, timer: MonotonicTimer) -> None:
        now_ns, due = time.monotonic_ns() - self._begin_ns, self._due
        while self._next < len(due) and due[self._next] <= now_ns:
            task = asyncio.get_running_loop().create_task(self._ask(self._next, next(self._bodies)))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            self._next += 1
        if self._next < len(due):
            timer.set(self._begin_ns + due[self._next])

    async def _ask(self, number: int, body: bytes) -> None:
        limit = aiohttp.ClientTimeout(total=self._limits[number])
        try:
            async with self._session.post(
                self._urls[self._model_of[number]] + "/infer", data=body, trace_request_ctx=number, timeout=limit
            ) as response:
                raw = await response.read()
                answered_ns = time.monotonic_ns() - self._begin_ns
                self._take(number, response.status, json.loads(raw))
                self._answered[number] = answered_ns
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._note(str(error) or type(error).__name__)
        except (ValueError, KeyError, TypeError, IndexError):
            self._note("an answer that is not one of the Open Inference Protocol")

    def _take(self, number: int, status: int, content: Any) -> None:
        if status == SERVED:
            columns = {output["name"]: output["data"][0] for output in content["outputs"]}
            subnet = columns["subnet"]
            self._subnet[number] = self._subnets.setdefault(subnet, len(self._subnets))
            self._accuracy[number] = float(columns["accuracy"])
            self._router_ns[number] = int(content["parameters"]["router_us"]) * 1000
        else:
            self._note(_error_of(content))
        self._status[number] = status

    def _note(self, problem: str) -> None:
        self._problems[problem] = self._problems.get(problem, 0) + 1

    async def _note_sent(self, _session: aiohttp.ClientSession, context: SimpleNamespace, _what: object) -> None:
        number = context.trace_request_ctx
        if number is not None:
            self._sent[number] = time.monotonic_ns() - self._begin_ns

    def _outcome(self) -> SentTrace:
        count = self._next
        if not count:
            raise ServingError("ssim load", "was interrupted before its first query")
        columns = (self._sent, self._answered, self._status, self._router_ns, self._subnet)
        sent, answered, status, router_ns, subnet = (np.array(column[:count], dtype=np.int64) for column in columns)
        return SentTrace(
            self._trace.arrival_ns[:count],
            np.broadcast_to(self._trace.slo_ns, len(self._trace))[:count],
            sent,
            answered,
            status,
            router_ns,
            subnet,
            np.array(self._accuracy[:count]),
            list(self._subnets),
            self._problems,
            len(self._due) - count,
        )


def _zeros(spec: dict[str, Any]) -> dict[str, Any]:
    shape = [1 if size == -1 else int(size) for size in spec["shape"]]
    return {**spec, "shape": shape, "data": [0] * math.prod(shape)}


def _error_of(content: Any) -> str:
    """Return what a server says is wrong."""
    return str(content.get("error"))[:200] if isinstance(content, dict) else "no reason given"
