"""Workers as the router sees them: given batches, watched, and replaced when they are gone.

A worker is gone when its connection ends, when it takes far longer for a batch than expected, or when it says something
that is not an answer to its batch. The router is told at once; another process takes its place. A `WorkerLink` knows
which process that is and how it is reached: on this machine (`serving.processes`) or elsewhere (`serving.remote`).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

from serving.frames import (
    DONE,
    RUN,
    VERSION,
    FrameError,
    FrameKind,
    FrameReader,
    content_of,
    frame,
    unpack_first,
)
from serving.tensors import row_bytes, rows_not_finite
from sim.base.errors import ServingError, SpecError
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from sim.base.errors import SsimError

START_LIMIT_S = 300.0
"""A process that is neither ready by then nor a step further is cut off."""

HANG_NS = NS_PER_S
HANG_FACTOR = 4
"""A batch that takes longer than `HANG_NS` and `HANG_FACTOR` times what is expected is taken for hung."""

MAX_FAILED_STARTS = 5
"""A worker that fails so many times in a row without an answer is given up."""

FIRST_PAUSE_S = 0.05

_MOST_REASONS = 20
"""Reasons of lost batches that are told: a client can cause as many as it likes, such as one for each bad index."""

_ERROR_PARTS = 4
"""Location, problem, value, hint."""


class Reports(Protocol):
    """Whom a worker tells what happens to it."""

    def complete(
        self,
        worker: int,
        batch: int,
        times_ns: tuple[int, int, int],
        outputs: bytes = b"",
        failed: Sequence[int] = (),
    ) -> None:
        """Take an answer; `failed` are the rows of its batch that could not be computed."""
        ...

    def fail(self, worker: int) -> None:
        """Take note that a worker is gone."""
        ...

    def recover(self, worker: int) -> None:
        """Take note that a worker is back."""
        ...

    def give_up(self, worker: int) -> None:
        """Take note that a worker that is gone is no longer waited for."""
        ...


class WorkerLink(Protocol):
    """The way to the process of one worker.

    It calls `LiveWorker.connected`, `LiveWorker.received` and, once for each process, `LiveWorker.lost`.

    Attributes:
        has_our_clock: Whether the monotonic clock of the process is that of this one.
        patience_ns: How long a process in place of a lost one is waited for; None where it is started from here.
    """

    has_our_clock: bool
    patience_ns: int | None

    @property
    def pid(self) -> int | None:
        """The process, or None where it is not known."""
        ...

    def open(self, worker: LiveWorker) -> None:
        """Start a process, or let one in."""
        ...

    def send(self, message: bytes) -> None:
        """Send bytes, in the order of the calls; nothing happens if no process is there."""
        ...

    def cut(self, reason: str, *, is_final: bool = False) -> None:
        """End the process, or the connection to one that is not ours; `LiveWorker.lost` follows.

        Args:
            reason: What the process is told.
            is_final: Whether it need not try again.
        """
        ...

    def close(self) -> None:
        """Let no process in any more; one that is there has nothing left to do."""
        ...


class WorkerSource(Protocol):
    """Where workers come from."""

    def links(self, workers: int) -> AbstractAsyncContextManager[Sequence[WorkerLink]]:
        """Return a context that gives the ways to so many workers."""
        ...


class ServedModelInfo:
    """The model that all workers of a service serve, as the first one that was ready described it."""

    def __init__(self) -> None:
        self.serves: dict[str, Any] = {}
        """Nothing, if they are paced."""
        self.tensors: dict[str, Any] = {}
        """Their inputs and outputs, each a list of tensors in the words of the Open Inference Protocol."""
        self._is_known = False

    def difference(self, serves: dict[str, Any], tensors: dict[str, Any]) -> str:
        """Return in what another worker differs, or ""; the device may be another one."""
        if not self._is_known:
            self.serves, self.tensors, self._is_known = serves, tensors, True
        names = sorted({*serves, *self.serves} - {"device"})
        different = [name for name in names if serves.get(name) != self.serves.get(name)]
        return "; ".join(f"serves {name} {serves.get(name)} instead of {self.serves.get(name)}" for name in different)


class LiveWorker:
    """One worker, whichever process it is at the time."""

    def __init__(self, number: int, link: WorkerLink, model: ServedModelInfo, note: Callable[[str], None]) -> None:
        """Describe a worker; `start` starts it.

        Args:
            number: Its number, from 0.
            link: The way to its process.
            model: What all workers serve.
            note: Called with a sentence about each failure.
        """
        self.number, self._link, self._model, self._note = number, link, model, note
        self._reader = FrameReader()
        self._reports: Reports | None = None
        self._batch: tuple[int, int] | None = None  # number and size of the batch that it runs
        self._sent_ns = 0  # when it was given that batch
        self._has_inputs = False
        self._limit_ns = 0  # when it is taken for hung
        self._overdue_ns = 0  # the limit that was passed at the last check
        self._lost_ns = 0  # since when no process is there, if one in its place is waited for
        self.reason = ""
        self.refusal: SsimError | None = None
        """Why its process would not start another time, either."""
        self._failed = set[str]()  # the failures of batches that were told
        self._failed_starts = 0
        self._stopping = False
        self.is_up = False  # ready, and not gone
        self._restart: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.is_given_up = False

    @property
    def pid(self) -> int | None:
        """The process, or None."""
        return self._link.pid

    def serve(self, reports: Reports) -> None:
        """Report from now on; the worker is up, or its loss is reported at once."""
        self._reports = reports
        if not self.is_up:
            reports.fail(self.number)
        if self.is_given_up:
            reports.give_up(self.number)

    def start(self) -> None:
        """Get a process."""
        self._restart = None
        self._link.open(self)

    def run(self, batch: int, subnet: int, size: int, expected_ns: int, inputs: bytes = b"") -> None:
        """Give it a batch.

        Args:
            batch: Its number.
            subnet: Which subnet it is for.
            size: Its queries.
            expected_ns: The time that it is expected to take.
            inputs: Of its queries, one after the other, each with all its tensors; the worker has its own if left out.
        """
        self._batch, self._has_inputs, self._sent_ns = (batch, size), bool(inputs), time.monotonic_ns()
        self._limit_ns = self._sent_ns + max(HANG_NS, HANG_FACTOR * expected_ns)
        self._link.send(frame(FrameKind.RUN, RUN.pack(batch, subnet, size, expected_ns) + inputs))

    def check(self, now_ns: int) -> None:
        """Cut the process off if it takes too long at two calls in a row; give the worker up if it stays away.

        At the first, its answer may lie there unread, since the policy kept this process busy.
        """
        patience_ns = self._link.patience_ns
        if self._lost_ns and not self.is_given_up and patience_ns and now_ns > self._lost_ns + patience_ns:
            self._give_up(f"did not come back within {patience_ns / NS_PER_S:g} s")
        if not self._limit_ns or now_ns <= self._limit_ns:
            return
        if self._overdue_ns == self._limit_ns:
            limit = "too long for a batch" if self._batch else f"more than {START_LIMIT_S:g} s for a step of its start"
            self._cut(f"takes {limit}")
        self._overdue_ns = self._limit_ns

    def stop(self) -> None:
        """End the worker."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
        self._link.close()

    # what a link calls

    def connected(self) -> None:
        """Expect a process to become ready."""
        self._reader, self.reason, self._lost_ns = FrameReader(), "", 0
        self._limit_ns = time.monotonic_ns() + int(START_LIMIT_S * NS_PER_S)

    def received(self, data: bytes) -> None:
        """Take bytes of the process."""
        if self.reason:
            return
        try:
            for kind, body in self._reader.feed(data):
                self._take(kind, body)
        except (FrameError, ValueError) as error:
            self._cut(f"sends nonsense: {error}")

    def lost(self, reason: str) -> None:
        """Report that the process is gone, and get another.

        Args:
            reason: Why, unless it was cut off.
        """
        if self._stopping:
            return
        self.reason = self.reason or reason
        was_up, self.is_up = self.is_up, False
        self._batch, self._limit_ns, self._lost_ns = None, 0, time.monotonic_ns()
        self._failed_starts += 1
        self._note(f"worker {self.number} {self.reason}")
        if was_up and self._reports is not None:
            self._reports.fail(self.number)
        if self._failed_starts < MAX_FAILED_STARTS:
            self._restart = self._loop.call_later(FIRST_PAUSE_S * 2 ** (self._failed_starts - 1), self.start)
            return
        self._link.close()
        self._give_up(f"is given up after {self._failed_starts} failures in a row")

    def refuse(self, error: SsimError) -> None:
        """Wait no longer for a process, since none can start."""
        self.refusal = error
        self._give_up(f"is given up: {error}")

    def _give_up(self, why: str) -> None:
        self.is_given_up = True
        self._note(f"worker {self.number} {why}")
        if self._reports is not None:
            self._reports.give_up(self.number)

    def _take(self, kind: FrameKind, body: bytes) -> None:
        if kind is FrameKind.DONE and self._batch is not None:
            self._complete(body, *self._batch)
        elif kind is FrameKind.FAILED and self._batch is not None:
            self._fail_batch(content_of(body), self._batch[0])
        elif kind is FrameKind.WARMING and not self.is_up:
            self._limit_ns = time.monotonic_ns() + int(START_LIMIT_S * NS_PER_S)
        elif kind is FrameKind.REFUSED and not self.is_up:
            self._refuse(content_of(body))
        elif kind is FrameKind.READY and not self.is_up:
            self._ready(content_of(body))
        else:
            raise FrameError(f"a frame {kind.name} that nobody asked for")

    def _complete(self, body: bytes, batch: int, queries: int) -> None:
        """Report an answer.

        Raises:
            FrameError: It is not an answer to the batch.
        """
        (number, size, *times), outputs = unpack_first(DONE, body)
        if (number, size) != (batch, queries):
            raise FrameError(f"an answer to batch {number} of {size}, not to {batch} of {queries}")
        tensors = self._model.tensors.get("outputs", ())
        if len(outputs) != self._has_inputs * size * row_bytes(tensors):
            raise FrameError(f"{len(outputs)} bytes of outputs for {size} queries")
        if not self._link.has_our_clock:
            times = by_our_clock(self._sent_ns, times, time.monotonic_ns())
        self._batch, self._limit_ns, self._failed_starts = None, 0, 0
        if self._reports is not None:
            failed = rows_not_finite(outputs, tensors) if outputs else ()
            self._reports.complete(self.number, batch, (times[0], times[1], times[2]), outputs, failed)

    def _ready(self, content: dict[str, Any]) -> None:
        """Take a process that is ready, if it is of this version and serves what all workers do.

        Raises:
            FrameError: It is of another version.
        """
        version, serves, tensors = content.get("version"), content.get("serves", {}), content.get("tensors", {})
        if version != VERSION:
            raise FrameError(f"version {version} instead of {VERSION}")
        if not isinstance(serves, dict) or not isinstance(tensors, dict):
            raise FrameError("what it serves is not named")
        if difference := self._model.difference(serves, tensors):
            self._cut(difference, is_final=True)
            return
        if serves.get("device") != (device := self._model.serves.get("device")):
            self._note(f"worker {self.number} runs on another device: {serves.get('device')} instead of {device}")
        self._limit_ns, self.is_up, self.is_given_up = 0, True, False
        if self._reports is not None:
            self._reports.recover(self.number)

    def _fail_batch(self, content: dict[str, Any], current: int) -> None:
        """Report a batch that failed: a failure from which the worker recovers at the next instant.

        Raises:
            FrameError: It is not a report about the batch.
        """
        batch, reason = content.get("batch"), content.get("reason")
        if batch != current or not isinstance(reason, str):
            raise FrameError(f"a failure of batch {batch}, not of {current}")
        self._batch, self._limit_ns = None, 0
        if reason not in self._failed and len(self._failed) < _MOST_REASONS:
            self._failed.add(reason)
            self._note(f"worker {self.number} lost a batch: {reason}")
        if self._reports is not None:
            self._reports.fail(self.number)
            self._loop.call_soon(self._reports.recover, self.number)

    def _refuse(self, content: dict[str, Any]) -> None:
        """Give the worker up, since another process that is started from here would not start either.

        Raises:
            FrameError: It is not an error.
        """
        parts, kind = content.get("error"), SpecError if content.get("is_input") else ServingError
        if not (isinstance(parts, list) and len(parts) == _ERROR_PARTS and all(isinstance(x, str) for x in parts)):
            raise FrameError(f"an error that is not {_ERROR_PARTS} texts")
        error = kind(*parts)
        if self._link.patience_ns is None:
            self.refusal, self._failed_starts = error, MAX_FAILED_STARTS
        self._cut(str(error))

    def _cut(self, reason: str, *, is_final: bool = False) -> None:
        """End the process; `lost` follows."""
        self.reason, self._limit_ns = reason, 0
        self._link.cut(reason, is_final=is_final)


def by_our_clock(sent_ns: int, times_ns: Sequence[int], answered_ns: int) -> list[int]:
    """Return instants of another machine's clock by that of this one, as if the way back took as long as the way there.

    What is known of another clock is how much later one instant was than another.

    Args:
        sent_ns: When the batch was sent from here.
        times_ns: When it was read there, began and ended.
        answered_ns: When the answer was here.

    Raises:
        FrameError: They are not in order, or more time passed there than here.
    """
    read_ns, begun_ns, ended_ns = times_ns
    rest_ns = (answered_ns - sent_ns) - (ended_ns - read_ns)
    if not read_ns <= begun_ns <= ended_ns or rest_ns < 0:
        raise FrameError(f"instants {read_ns}, {begun_ns}, {ended_ns} of a batch that took {answered_ns - sent_ns} ns")
    shift_ns = sent_ns + rest_ns // 2 - read_ns
    return [at_ns + shift_ns for at_ns in times_ns]
