"""The load generator over the network: it sends the queries of a trace to a server at their instants.

It is open-loop: a query is sent at its instant whether or not earlier ones were answered, and its latency counts from
that instant. What the generator itself is late by is measured and reported.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from serving.front.models import LONGEST_TIMEOUT_US
from serving.front.rpc_sending import RpcSender
from serving.front.sending import NO_ANSWER, SERVED, HttpSender, Question, Unanswered
from serving.timer import MonotonicTimer
from sim.base.errors import ServingError, SpecError
from sim.base.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from serving.front.sending import Reply, Sender
    from sim.traces.trace import Trace

NEVER = -1

_LEAD_NS = 100 * NS_PER_MS
_CHECK_S = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class SentTrace:
    """What came of a trace that was sent: arrays of shape (queries,), instants in nanoseconds from its start, int64.

    Attributes:
        intended_ns: When each query was to be sent.
        slo_ns: Its SLO.
        sent_ns: When it was sent: over HTTP it had a connection and its request was written, over gRPC its call was
            made; -1 if it was not.
        answered_ns: When its answer came; -1 if none did.
        status: The HTTP status of its answer, or what it would be over HTTP; `NO_ANSWER` without one.
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
        address: Of the server, such as http://127.0.0.1:8000 or grpc://127.0.0.1:8001; https and grpcs for TLS.
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

    async def send() -> SentTrace:
        async with _sender(address, ca) as sender:
            return await _Load(trace, sender, slos_us.tolist()).send(models, is_interrupted)

    try:
        return asyncio.run(send())
    finally:
        gc.unfreeze()


def _sender(address: str, ca: Path | None) -> Sender:
    """Return what sends requests to an address.

    Raises:
        SpecError: The certificate can't be read.
    """
    if address.startswith("grpc"):
        return RpcSender(address, ca)
    return HttpSender(address, ca)


class _Load:
    """The queries of a trace, and what has become of them."""

    def __init__(self, trace: Trace, sender: Sender, timeouts_us: list[int]) -> None:
        count = len(trace)
        self._trace, self._sender, self._timeouts_us = trace, sender, timeouts_us
        self._due: list[int] = trace.arrival_ns.tolist()
        self._sent, self._answered, self._router_ns = [NEVER] * count, [NEVER] * count, [NEVER] * count
        self._status, self._subnet, self._accuracy = [NO_ANSWER] * count, [NEVER] * count, [math.nan] * count
        self._subnets: dict[str, int] = {}
        self._problems: dict[str, int] = {}
        self._begin_ns = self._next = 0
        self._under_way = set[asyncio.Task[None]]()

    async def send(self, models: Sequence[str], is_interrupted: Callable[[], bool]) -> SentTrace:
        """Send all queries, or those up to an interruption, and wait for their answers."""
        await self._sender.learn(models)
        codes = self._trace.class_codes if len(models) > 1 else None
        self._models: list[int] = [0] * len(self._due) if codes is None else codes.tolist()
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

    def _send_due(self, timer: MonotonicTimer) -> None:
        now_ns, due = time.monotonic_ns() - self._begin_ns, self._due
        while self._next < len(due) and due[self._next] <= now_ns:
            task = asyncio.get_running_loop().create_task(self._ask(self._next))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            self._next += 1
        if self._next < len(due):
            timer.set(self._begin_ns + due[self._next])

    async def _ask(self, number: int) -> None:
        def note_sent() -> None:
            self._sent[number] = time.monotonic_ns() - self._begin_ns

        try:
            question = Question(number, self._models[number], self._timeouts_us[number])
            self._take(number, await self._sender.ask(question, note_sent))
        except Unanswered as error:
            self._note(str(error))

    def _take(self, number: int, reply: Reply) -> None:
        self._status[number], self._answered[number] = reply.status, reply.answered_ns - self._begin_ns
        if reply.status == SERVED:
            self._subnet[number] = self._subnets.setdefault(reply.subnet, len(self._subnets))
            self._accuracy[number], self._router_ns[number] = reply.accuracy, reply.router_us * 1000
        else:
            self._note(reply.problem)

    def _note(self, problem: str) -> None:
        self._problems[problem] = self._problems.get(problem, 0) + 1

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
