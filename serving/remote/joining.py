"""The worker's side: it opens a stream to the router, is warmed, and serves batches until the router is gone."""

from __future__ import annotations

import json
import os
import socket
import time
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc

from serving.frames import VERSION, FrameError, FrameKind, FrameReader, content_of, json_frame, kind_of
from serving.remote.address import CHANNEL_OPTIONS, METHOD, METHOD_SERVICE
from sim.base.errors import ServingError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from serving.processes import WorkerProgram
    from serving.remote.address import Address, Tls

PATIENCE_S = 15.0
"""How long a router is waited for that is not there yet, or no longer."""

_PAUSE_S = 0.25
_CONFIGURED = ("worker", "is_asked")
"""What the router decides; all else is decided where the worker runs."""


class StreamConnection:
    """A connection over a stream of gRPC, each message a frame."""

    def __init__(
        self, channel: Any, hello: Mapping[str, Any], settings: Mapping[str, Any], on_ready: Callable[[], None]
    ) -> None:
        """Open a stream.

        Args:
            channel: To the router.
            hello: What the worker says of itself.
            settings: What its program is told.
            on_ready: Called when it has told that it is ready.
        """
        self._hello, self._settings, self._on_ready = hello, settings, on_ready
        self._outgoing = SimpleQueue[bytes | None]()
        call = channel.stream_stream(f"/{METHOD_SERVICE}/{METHOD}")  # without serializers, messages are bytes
        self._call = call(iter(self._outgoing.get, None))
        self.is_stopped = False
        """Whether the router has ended in good order."""
        self.number: int | None = None
        """The number of the worker, if it was let in."""
        self.dismissal: Mapping[str, Any] = {}
        """Why the router has sent the worker away, and whether it may come again."""
        self.refusal: SpecError | ServingError | None = None
        """Why the program can't serve."""
        self.problem = "the connection ended"

    def send(self, message: bytes) -> None:
        """Send a frame."""
        self._outgoing.put(message)
        kind = kind_of(message)
        if kind is FrameKind.REFUSED:
            ((_, body),) = FrameReader().feed(message)
            content = content_of(body)
            self.refusal = (SpecError if content["is_input"] else ServingError)(*content["error"])
        elif kind is FrameKind.READY:
            self._on_ready()

    def received(self) -> Iterator[tuple[FrameKind, bytes]]:
        """Yield the frames of the router; see `serving.frames.Connection`."""
        self._outgoing.put(json_frame(FrameKind.HELLO, dict(self._hello)))
        reader = FrameReader()
        try:
            for data in self._call:
                for kind, body in reader.feed(data):
                    yield kind, self._taken(kind, body)
        except grpc.RpcError as error:
            self.problem = str(error.details())

    def close(self) -> None:
        """End the stream, once the router has taken what was sent."""
        self._outgoing.put(None)
        try:
            for _ in self._call:  # the router ends it
                pass
        except grpc.RpcError as error:
            self.problem = str(error.details())

    def _taken(self, kind: FrameKind, body: bytes) -> bytes:
        """Take note of a frame; return its body as the program should have it."""
        if kind is FrameKind.CONFIG:
            said = content_of(body)
            self.number = said.get("worker")
            return json.dumps({**self._settings, **{name: said[name] for name in _CONFIGURED if name in said}}).encode()
        if kind is FrameKind.DISMISSED:
            self.dismissal = content_of(body)
        self.is_stopped = self.is_stopped or kind is FrameKind.STOP
        return body


def join(
    address: Address,
    tls: Tls | None,
    program: WorkerProgram,
    required: Mapping[str, Any],
    tell: Callable[[str], None],
    *,
    waits: bool = True,
) -> None:
    """Serve batches of a router until it is gone.

    Args:
        address: Where the router waits.
        tls: What it is shown and must show; None without TLS.
        program: What to run.
        required: What this worker must have in common with the router, by name.
        tell: Called with a sentence when something happens.
        waits: Whether to wait for the router of another run when one has ended in good order.

    Raises:
        SpecError: The program can't serve what it is told to.
        ServingError: There is no router, it is lost, or it wants another worker.
    """
    serve = import_module(program.module).serve
    hello = {"protocol": VERSION, **required, "host": socket.gethostname(), "pid": os.getpid()}
    target, credentials = str(address), None if tls is None else tls.of_client()
    since, ended_well = time.monotonic(), False
    while True:
        with _channel(target, credentials) as channel:
            connection = StreamConnection(channel, hello, program.settings, lambda: tell(f"Ready, for {target}."))
            try:
                serve(connection)
            except FrameError as error:
                raise ServingError(target, "sends nonsense", "", str(error)) from error
            connection.close()
        if connection.refusal is not None:
            raise connection.refusal
        reason = str(connection.dismissal.get("reason", connection.problem))
        if connection.dismissal and not connection.dismissal.get("again"):
            raise ServingError(f"router at {target}", "refuses this worker", "", reason)
        if connection.is_stopped and not waits:
            return
        if connection.number is not None:
            since, ended_well = time.monotonic(), connection.is_stopped
            what = "The router has ended" if ended_well else f"The router is lost ({reason})"
            tell(f"{what}; another one is waited for, {PATIENCE_S:g} s.")
        if time.monotonic() > since + PATIENCE_S:
            if ended_well:
                return
            raise ServingError(f"router at {target}", f"did not let this worker in within {PATIENCE_S:g} s", "", reason)
        time.sleep(_PAUSE_S)


def _channel(target: str, credentials: Any) -> Any:
    if credentials is None:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
