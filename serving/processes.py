"""Workers as processes of this machine: started, killed and started again.

A process ends when its connection does. Its last line on stderr is the reason that is told when it ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from serving.frames import VERSION, FrameKind, frame, json_frame

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from serving.workers import LiveWorker, WorkerLink


@dataclass(frozen=True, slots=True)
class WorkerProgram:
    """What worker processes run.

    Attributes:
        module: A module whose `serve` serves a connection to the router; as a program, the socket whose number is its
            first argument.
        settings: What it is told at its start; JSON.
    """

    module: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def links(self, workers: int) -> AsyncGenerator[Sequence[WorkerLink]]:
        """Give the ways to processes of this machine."""
        yield [ProcessLink(self) for _ in range(workers)]


PACED = WorkerProgram("serving.paced")
"""Workers that take the time that they are expected to take, and compute nothing."""


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


class ProcessLink(asyncio.Protocol):
    """The way to one worker of this machine, whichever process it is at the time."""

    has_our_clock = True
    patience_ns: int | None = None

    def __init__(self, program: WorkerProgram) -> None:
        """Describe the process; `open` starts it."""
        self._program = program
        self._errors = unnamed_file()
        self._told = 0  # bytes that processes before wrote there
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._worker: LiveWorker | None = None

    @property
    def pid(self) -> int | None:
        """The process, or None."""
        return None if self._process is None else self._process.pid

    def open(self, worker: LiveWorker) -> None:
        """Start a process."""
        self._worker, loop = worker, asyncio.get_running_loop()
        self._told = os.fstat(self._errors.fileno()).st_size
        self._process, connection = spawn(self._program.module, self._errors)
        self._connecting = loop.create_task(loop.connect_accepted_socket(lambda: self, connection))
        worker.connected()

    def send(self, message: bytes) -> None:
        """Send bytes to the process."""
        if self._transport is not None:
            self._transport.write(message)

    def cut(self, reason: str, *, is_final: bool = False) -> None:
        """Kill the process; `connection_lost` follows."""
        if self._process is not None:
            self._process.kill()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the process for good: it has answered whatever it was asked."""
        if self._transport is not None:
            self._transport.write(frame(FrameKind.STOP))
            self._transport.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the process."""
        self._transport = cast("asyncio.Transport", transport)  # of a stream socket
        number = None if self._worker is None else self._worker.number
        settings = {**self._program.settings, "version": VERSION, "worker": number}
        self._transport.write(json_frame(FrameKind.CONFIG, settings))

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._worker is not None:
            self._worker.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the process is gone, and why."""
        self._transport = None
        if self._process is None or self._worker is None or self._errors.closed:
            return
        self._process.kill()
        self._process.wait()
        line = last_line(self._errors, self._told)
        self._worker.lost(f"ended with code {self._process.returncode}" + (f": {line}" if line else ""))


def unnamed_file() -> IO[bytes]:
    """Return a new file without a name: nothing is left of it when the last process that has it open ends."""
    return tempfile.TemporaryFile(buffering=0)


def last_line(file: IO[bytes], begin: int = 0) -> str:
    """Return the last line that a process wrote to stderr, from a place in the file on, or ""."""
    # Processes share one position in the file: seeking would move that of the writer.
    size = os.fstat(file.fileno()).st_size
    text = os.pread(file.fileno(), 2**16, max(begin, size - 2**16)).decode("utf-8", "replace")
    return (text.strip().splitlines() or [""])[-1]
