"""The queries of requests: from the front to the router, and back to the one who asked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from serving.counts import NotServed
from serving.front.inference import RequestError, Status
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.front.inference import InferenceRequest
    from serving.front.models import ServedModel
    from serving.log import BatchRecord
    from serving.router import Router
    from sim.tables.latency import ProfiledSubnet

PATIENCE_NS = 30 * NS_PER_S
"""A request that has no answer so long after its deadline is told that there will be none."""

_STATUS = {
    NotServed.REJECTED: Status.UNAVAILABLE,
    NotServed.DROPPED: Status.EXPIRED,
    NotServed.LOST: Status.UNAVAILABLE,
    NotServed.FAILED: Status.FAILED,
    NotServed.CANCELLED: Status.EXPIRED,
}


class Answer(NamedTuple):
    """The answer to a request.

    Attributes:
        columns: By output its values, row after row.
        router_us: From the receipt of the request to the answer to its last row, at the router.
    """

    columns: dict[str, list[Any]]
    router_us: int


@dataclass(eq=False, slots=True)
class _Pending:
    """A request without its answer yet: a client of the router."""

    parsed: InferenceRequest
    done: asyncio.Future[None]
    outcomes: list[BatchRecord | NotServed | None] = field(init=False)
    outputs: list[bytes] = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.parsed.rows
        self.outcomes, self.outputs = [None] * self.left, [b""] * self.left

    def inputs(self, number: int) -> bytes:
        """Return the inputs of a row."""
        return self.parsed.inputs[number]

    def answer(self, numbers: Sequence[int], outcome: BatchRecord | NotServed, outputs: Sequence[bytes] = ()) -> None:
        """Take the answer to rows."""
        for number in numbers:
            self.outcomes[number] = outcome
        for number, row in zip(numbers, outputs, strict=False):  # there are none without inputs
            self.outputs[number] = row
        self.left -= len(numbers)
        if not self.left and not self.done.done():
            self.done.set_result(None)


class RequestHandler:
    """Hands rows to the router and waits for their answers.

    Attributes:
        is_open: Whether the workers are ready.
        is_draining: Whether no further request is taken.
        refused: Rows that were not handed to the router.
        abandoned: Rows in a batch whose client was gone, or had been told of no answer, before there was one.
        request_ids: The id of the request of each query that the router received.
    """

    def __init__(self, router: Router, subnets: Sequence[ProfiledSubnet]) -> None:
        self._router = router
        self._subnets = [(subnet.id, subnet.accuracy) for subnet in subnets]
        self._under_way = set[_Pending]()
        self.is_open = self.is_draining = False
        self.refused = self.abandoned = 0
        self.request_ids: list[str] = []

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        router = self._router
        return self.is_open and not self.is_draining and router.error is None and not router.has_no_workers

    def check_open(self) -> None:
        """Refuse what depends on the workers as long as they are not ready.

        Raises:
            RequestError: They are not.
        """
        if not self.is_open:
            raise RequestError(Status.UNAVAILABLE, "not ready: the workers have not said yet what they take")

    async def ask(self, model: ServedModel, parsed: InferenceRequest, request_id: str) -> Answer:
        """Return the answer to a request, when all its rows have theirs.

        Rows that wait are cancelled if the client goes away, or if there is no answer long after the deadline.

        Raises:
            RequestError: A row was not served; tells why.
        """
        if not self.is_ready:
            self.refused += parsed.rows
            lacking = "no worker is left" if self._router.has_no_workers else "not ready"
            why = "it is shutting down" if self.is_draining else lacking
            raise RequestError(Status.UNAVAILABLE, f"the server takes no requests: {why}")
        begin_ns = time.monotonic_ns()
        request = _Pending(parsed, asyncio.get_running_loop().create_future())
        self.request_ids += [request_id] * parsed.rows
        self._under_way.add(request)
        places = self._router.submit(parsed.slo_ns, request, range(parsed.rows), parsed.queue)
        try:
            async with asyncio.timeout((parsed.slo_ns + PATIENCE_NS) / NS_PER_S):
                await request.done
        except asyncio.CancelledError:
            request.left -= self._router.cancel(places)
            raise
        except TimeoutError:
            request.left -= self._router.cancel(places)
            late = f"there was no answer {PATIENCE_NS // NS_PER_S} s after the deadline"
            raise RequestError(Status.EXPIRED, late) from None
        finally:
            self._under_way.discard(request)
            self.abandoned += request.left
        return self._answer(model, request, (time.monotonic_ns() - begin_ns) // 1000)

    def end(self, status: Status, text: str) -> None:
        """Tell all that still wait that there will be no answer."""
        for request in self._under_way:
            if not request.done.done():
                request.done.set_exception(RequestError(status, text))

    def _answer(self, model: ServedModel, request: _Pending, router_us: int) -> Answer:
        rows = list[tuple[str, float, int]]()
        failed = list[NotServed]()
        for outcome in request.outcomes:
            if outcome is None or isinstance(outcome, NotServed):
                failed.append(outcome or NotServed.LOST)
            else:
                rows.append((*self._subnets[outcome.subnet], outcome.start.size))
        if failed:
            reason = failed[0]
            rows_in_all = len(request.outcomes)
            count = f"{len(failed)} of {rows_in_all} rows were" if rows_in_all > 1 else "the query was"
            raise RequestError(_STATUS[reason], f"{count} not served: {reason.value}")
        told = dict(zip(("subnet", "accuracy", "batch_size"), map(list, zip(*rows, strict=True)), strict=True))
        return Answer({**model.values(request.outputs), **told}, router_us)
