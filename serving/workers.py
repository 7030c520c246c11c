"""Workers as processes of this machine: started, watched, killed and started again.

A worker is gone when its connection ends, when it takes far longer for a batch than expected, or when it says something
that is not an answer to its batch. The router is told at once; a new process takes its place.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from serving.frames import (
    DONE,
    RUN,
    VERSION,
    FrameError,
    FrameKind,
    FrameReader,
    content_of,
    frame,
    json_frame,
    unpack_first,
)
from serving.tensors import row_bytes
from sim.base.errors import ServingError, SpecError
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sim.base.errors import SsimError

START_LIMIT_S = 300.0
"""A process that is neither ready by then nor a step further is killed."""

HANG_NS = NS_PER_S
HANG_FACTOR = 4
"""A batch that takes longer than `HANG_NS` and `HANG_FACTOR` times what is expected is taken for hung."""

STARTS_IN_VAIN = 5
"""A worker that dies so often in a row without an answer is given up."""

FIRST_PAUSE_S = 0.05

_MOST_REASONS = 20
"""Reasons of lost batches that are told: a client can cause as many as it likes, such as one for each bad index."""

_ERROR_PARTS = 4
"""Location, problem, value, hint."""


@dataclass(frozen=True, slots=True)
class WorkerProgram:
    """What worker processes run.

    Attributes:
        module: A module that serves the socket whose number is its first argument.
        settings: What it is told at its start; JSON.
    """

    module: str
    settings: Mapping[str, Any] = field(default_factory=dict)


PACED = WorkerProgram("serving.paced")
"""Workers that take the time that they are expected to take, and compute nothing."""


class Reports(Protocol):
    """Whom a worker tells what happens to it."""

    def complete(self, worker: int, batch: int, times_ns: tuple[int, int, int], outputs: bytes = b"") -> None:
        """Take an answer."""
        ...

    def fail(self, worker: int) -> None:
        """Take note that a worker is gone."""
        ...

    def recover(self, worker: int) -> None:
        """Take note that a worker is back."""
        ...

    def give_up(self, worker: int) -> None:
        """Take note that a worker that is gone will not come back."""
        ...


def spawn(module: str, errors: IO[bytes], *files: IO[bytes]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a module of this toolkit as a process; return it and the connection to it.

    The process is no member of the terminal's group: it ends when its connection does. Its arguments are the number of
    its socket and those of the files.

    Args:
        module: The module.
        errors: For what it writes to stderr.
        files: Files that it inherits.
    """
    ours, theirs = socket.socketpair()
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    inherited = [theirs.fileno(), *(file.fileno() for file in files)]
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - a module of ours
            [sys.executable, "-m", module, *map(str, inherited)],
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
    return process, ours


class WorkerProcess(asyncio.Protocol):
    """One worker, whichever process it is at the time."""

    def __init__(self, number: int, program: WorkerProgram, note: Callable[[str], None]) -> None:
        """Describe a worker; `start` starts it.

        Args:
            number: Its number, from 0.
            program: What its process runs.
            note: Called with a sentence about each failure.
        """
        self.number, self._program, self._note = number, program, note
        self._errors = unnamed_file()
        self._told = 0  # bytes that processes before wrote there
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._reports: Reports | None = None
        self._batch: tuple[int, int] | None = None  # number and size of the batch that it runs
        self._has_inputs = False
        self._limit_ns = 0  # when it is taken for hung
        self._overdue_ns = 0  # the limit that was passed at the last check
        self.reason = ""
        self.refusal: SsimError | None = None
        """Why its process would not start another time, either."""
        self.serves: dict[str, Any] | None = None
        """What its process said of itself when it was ready: nothing, if it is paced."""
        self.tensors: dict[str, Any] = {}
        """Its inputs and outputs, each a list of tensors in the words of the Open Inference Protocol."""
        self._failed = set[str]()  # the failures of batches that were told
        self._in_vain = 0
        self._stopping = False
        self.is_up = False  # ready, and not gone
        self._restart: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.is_given_up = False

    @property
    def pid(self) -> int | None:
        """The process, or None."""
        return None if self._process is None else self._process.pid

    def serve(self, reports: Reports) -> None:
        """Report from now on; the worker is up."""
        self._reports = reports

    def start(self) -> None:
        """Start a process."""
        self._restart = None
        self._told = os.fstat(self._errors.fileno()).st_size
        self._process, connection = spawn(self._program.module, self._errors)
        self._reader, self.reason = FrameReader(), ""
        self._limit_ns = time.monotonic_ns() + int(START_LIMIT_S * NS_PER_S)
        self._connecting = self._loop.create_task(self._loop.connect_accepted_socket(lambda: self, connection))

    def run(self, batch: int, subnet: int, size: int, expected_ns: int, inputs: bytes = b"") -> None:
        """Give it a batch.

        Args:
            batch: Its number.
            subnet: Which subnet it is for.
            size: Its queries.
            expected_ns: The time that it is expected to take.
            inputs: Of its queries, one after the other, each with all its tensors; the worker has its own if left out.
        """
        self._batch, self._has_inputs = (batch, size), bool(inputs)
        self._limit_ns = time.monotonic_ns() + max(HANG_NS, HANG_FACTOR * expected_ns)
        if self._transport is not None:
            self._transport.write(frame(FrameKind.RUN, RUN.pack(batch, subnet, size, expected_ns) + inputs))

    def check(self, now_ns: int) -> None:
        """Kill the process if it takes too long at two calls in a row.

        At the first, its answer may lie there unread, since the policy kept this process busy.
        """
        if not self._limit_ns or now_ns <= self._limit_ns:
            return
        if self._overdue_ns == self._limit_ns:
            limit = "too long for a batch" if self._batch else f"more than {START_LIMIT_S:g} s for a step of its start"
            self._kill(f"takes {limit}")
        self._overdue_ns = self._limit_ns

    def stop(self) -> None:
        """End the process."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
        if self._transport is not None:
            self._transport.write(frame(FrameKind.STOP))
            self._transport.close()
        if self._process is not None:
            self._process.kill()  # it has answered whatever it was asked
            self._process.wait()
        self._errors.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the process."""
        self._transport = cast("asyncio.Transport", transport)  # of a stream socket
        settings = {**self._program.settings, "version": VERSION, "worker": self.number}
        self._transport.write(json_frame(FrameKind.CONFIG, settings))

    def data_received(self, data: bytes) -> None:
        """Take frames."""
        if self.reason:
            return
        try:
            for kind, body in self._reader.feed(data):
                self._take(kind, body)
        except (FrameError, ValueError) as error:
            self._kill(f"sends nonsense: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Report that the process is gone, and start another."""
        self._transport = None
        if self._stopping or self._process is None:
            return
        self._process.kill()
        self._process.wait()
        line = last_line(self._errors, self._told)
        self.reason = self.reason or f"ended with code {self._process.returncode}" + (f": {line}" if line else "")
        was_up, self.is_up = self.is_up, False
        self._batch, self._limit_ns = None, 0
        self._in_vain += 1
        self._note(f"worker {self.number} {self.reason}")
        if was_up and self._reports is not None:
            self._reports.fail(self.number)
        if self._in_vain < STARTS_IN_VAIN:
            self._restart = self._loop.call_later(FIRST_PAUSE_S * 2 ** (self._in_vain - 1), self.start)
            return
        self.is_given_up = True
        self._note(f"worker {self.number} is given up after {self._in_vain} failures in a row")
        if self._reports is not None:
            self._reports.give_up(self.number)

    def _take(self, kind: FrameKind, body: bytes) -> None:
        if kind is FrameKind.DONE and self._batch is not None:
            (batch, size, *times), outputs = unpack_first(DONE, body)
            if (batch, size) != self._batch:
                raise FrameError(f"an answer to batch {batch} of {size}, not to {self._batch[0]} of {self._batch[1]}")
            if len(outputs) != self._has_inputs * size * row_bytes(self.tensors.get("outputs", ())):
                raise FrameError(f"{len(outputs)} bytes of outputs for {size} queries")
            self._batch, self._limit_ns, self._in_vain = None, 0, 0
            if self._reports is not None:
                self._reports.complete(self.number, batch, (times[0], times[1], times[2]), outputs)
        elif kind is FrameKind.FAILED and self._batch is not None:
            self._fail_batch(content_of(body))
        elif kind is FrameKind.WARMING and not self.is_up:
            self._limit_ns = time.monotonic_ns() + int(START_LIMIT_S * NS_PER_S)
        elif kind is FrameKind.REFUSED and not self.is_up:
            self._refuse(content_of(body))
        elif kind is FrameKind.READY and not self.is_up:
            self._check_ready(content_of(body))
            self._limit_ns, self.is_up = 0, True
            if self._reports is not None:
                self._reports.recover(self.number)
        else:
            raise FrameError(f"a frame {kind.name} that nobody asked for")

    def _check_ready(self, content: dict[str, Any]) -> None:
        """Check that a process is of this version, and serves what the one before it did.

        Raises:
            FrameError: It is not, or does not.
        """
        version, serves = content.get("version"), content.get("serves", {})
        if version != VERSION:
            raise FrameError(f"version {version} instead of {VERSION}")
        if self.serves is not None and self.serves != serves:
            raise FrameError(f"it serves {serves} instead of {self.serves}")
        self.serves, self.tensors = serves, content.get("tensors", {})

    def _fail_batch(self, content: dict[str, Any]) -> None:
        """Report a batch that failed: a failure from which the worker recovers at the next instant.

        Raises:
            FrameError: It is not a report about the batch.
        """
        batch, reason = content.get("batch"), content.get("reason")
        if self._batch is None or batch != self._batch[0] or not isinstance(reason, str):
            raise FrameError(f"a failure of batch {batch}, not of {self._batch and self._batch[0]}")
        self._batch, self._limit_ns = None, 0
        if reason not in self._failed and len(self._failed) < _MOST_REASONS:
            self._failed.add(reason)
            self._note(f"worker {self.number} lost a batch: {reason}")
        if self._reports is not None:
            self._reports.fail(self.number)
            self._loop.call_soon(self._reports.recover, self.number)

    def _refuse(self, content: dict[str, Any]) -> None:
        """Give the worker up, since another process would not start either.

        Raises:
            FrameError: It is not an error.
        """
        parts, kind = content.get("error"), SpecError if content.get("is_input") else ServingError
        if not (isinstance(parts, list) and len(parts) == _ERROR_PARTS and all(isinstance(x, str) for x in parts)):
            raise FrameError(f"an error that is not {_ERROR_PARTS} texts")
        self.refusal, self._in_vain = kind(*parts), STARTS_IN_VAIN
        self._kill(str(self.refusal))

    def _kill(self, reason: str) -> None:
        """End the process; `connection_lost` follows."""
        self.reason, self._limit_ns = reason, 0
        if self._process is not None:
            self._process.kill()
        if self._transport is not None:
            self._transport.abort()


def unnamed_file() -> IO[bytes]:
    """Return a new file without a name: nothing is left of it when the last process that has it open ends."""
    return tempfile.TemporaryFile(buffering=0)


def last_line(file: IO[bytes], begin: int = 0) -> str:
    """Return the last line that a process wrote to stderr, from a place in the file on, or ""."""
    # Processes share one position in the file: seeking would move that of the writer.
    size = os.fstat(file.fileno()).st_size
    text = os.pread(file.fileno(), 2**16, max(begin, size - 2**16)).decode("utf-8", "replace")
    return (text.strip().splitlines() or [""])[-1]
