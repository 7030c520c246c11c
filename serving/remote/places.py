"""The router's side: places for workers of other machines, which come, are looked at, and are let in or sent away."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from serving.frames import VERSION, FrameError, FrameKind, FrameReader, content_of, frame, json_frame
from serving.front.listening import most_connections
from serving.remote.address import CHANNEL_OPTIONS, KEEPALIVE_S, METHOD, METHOD_SERVICE, Address, Tls
from sim.base.errors import ServingError
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from serving.workers import LiveWorker
    from sim.base.errors import SsimError

    Placed = Callable[[Address, int, Callable[[SsimError], None]], AbstractContextManager[None]]

ABSENT_NS = 30 * NS_PER_S
"""How long a place stays empty before its worker counts as given up; it is still let in after that."""

_HELLO_S = 10.0
"""How long somebody who has connected may take to say what it is."""

_LONGEST_HELLO = 2**16
_SPARE_CALLS = 16
"""Calls beyond one for each worker: those of processes that are sent away."""

_FLUSH_S, _END_S = 1.0, 2.0
"""How long the last frames to a worker, and all its calls, may take."""

_MOST_REFUSED = 20
"""Refusals that are told: anybody may try as often as it likes."""

_AIO: Any = grpc.aio  # its types lack the end of a stream


class Place:
    """The way to one worker, which comes by itself."""

    has_our_clock = False
    patience_ns: int | None = ABSENT_NS

    def __init__(self, greeting: Mapping[str, Any], tell: Callable[[str], None]) -> None:
        """Describe an empty place.

        Args:
            greeting: What a worker is told when it is let in.
            tell: Called with a sentence when it is lost.
        """
        self._greeting, self._tell = greeting, tell
        self._worker: LiveWorker | None = None
        self._is_open = False
        self._outgoing: asyncio.Queue[bytes | None] | None = None  # of the process that is there
        self._ended = asyncio.Event()
        self.pid: int | None = None

    @property
    def is_free(self) -> bool:
        """Whether a process may be let in."""
        return self._is_open and self._outgoing is None

    @property
    def is_waiting(self) -> bool:
        """Whether no process is there, and one is still expected."""
        return self._outgoing is None and self._worker is not None and not self._worker.is_given_up

    def fail(self, error: SsimError) -> None:
        """Expect no process, for a reason."""
        if self._worker is not None:
            self._worker.refuse(error)

    def open(self, worker: LiveWorker) -> None:
        """Let a process in."""
        self._worker, self._is_open = worker, True

    def send(self, message: bytes) -> None:
        """Send a frame to the process that is there."""
        if self._outgoing is not None:
            self._outgoing.put_nowait(message)

    def cut(self, reason: str, *, is_final: bool = False) -> None:
        """Send the process away."""
        self._end(json_frame(FrameKind.DISMISSED, {"reason": reason, "again": not is_final}))

    def close(self) -> None:
        """Send the process that is there home, and let no other in."""
        self._is_open = False
        self._end(frame(FrameKind.STOP))

    async def hold(self, context: Any, pid: object) -> None:
        """Let a process in, and return when it is gone or was sent away.

        Args:
            context: Its call.
            pid: Its number on its machine.
        """
        worker = self._worker
        if worker is None:
            raise RuntimeError("a place is opened before it is taken")
        outgoing = self._outgoing = asyncio.Queue[bytes | None]()
        self._is_open, self.pid = False, pid if isinstance(pid, int) else None
        self._ended.clear()
        worker.connected()
        self.send(json_frame(FrameKind.CONFIG, {**self._greeting, "version": VERSION, "worker": worker.number}))
        reading = asyncio.ensure_future(_read(context, worker))
        writing = asyncio.ensure_future(_write(context, outgoing))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({reading, writing, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            ended.cancel()
            self._outgoing, self.pid = None, None
            worker.lost("lost its connection")
            if worker.reason:
                self._tell(f"Worker {worker.number} {worker.reason}.")
            if not self._ended.is_set():
                writing.cancel()
        await asyncio.wait({writing}, timeout=_FLUSH_S)
        writing.cancel()

    def _end(self, last: bytes) -> None:
        if self._outgoing is not None:
            self._outgoing.put_nowait(last)
            self._outgoing.put_nowait(None)
        self._ended.set()


async def _read(context: Any, worker: LiveWorker) -> None:
    """Hand on what a process says, until it is gone."""
    while True:
        try:
            data = await context.read()
        except Exception:  # noqa: BLE001 - gRPC's errors of a broken connection have no public class
            return
        if data is _AIO.EOF:
            return
        worker.received(data)


async def _write(context: Any, outgoing: asyncio.Queue[bytes | None]) -> None:
    """Send a process what is for it; one that is gone takes nothing, and `_read` ends."""
    with suppress(Exception):  # as above
        while (message := await outgoing.get()) is not None:
            await context.write(message)


class RemoteWorkers:
    """Workers of other machines: the router waits for them at an address."""

    def __init__(
        self,
        address: Address,
        tls: Tls | None,
        required: Mapping[str, Any],
        greeting: Mapping[str, Any],
        tell: Callable[[str], None],
        placed: Placed = lambda _address, _workers, _fail: nullcontext(),
    ) -> None:
        """Describe them.

        Args:
            address: Where they come.
            tls: What they are shown and must show; None without TLS.
            required: What they must have in common with the router, by name.
            greeting: What they are told when they are let in.
            tell: Called with a sentence when something happens that somebody may wait for.
            placed: What starts them: given the address, their number, and what takes the error of one that does not
                start, from any thread, a context.
        """
        self._address, self._tls, self._required, self._greeting = address, tls, required, greeting
        self._tell, self._placed = tell, placed
        self._places: Sequence[Place] = ()
        self._refused = 0

    @asynccontextmanager
    async def links(self, workers: int) -> AsyncGenerator[Sequence[Place]]:
        """Give places for so many workers, in a context in which they are waited for.

        Raises:
            ServingError: The port is taken.
        """
        self._places = [Place(self._greeting, self._tell) for _ in range(workers)]
        options = (
            *CHANNEL_OPTIONS,
            ("grpc.max_allowed_incoming_connections", most_connections()),
            ("grpc.so_reuseport", 0),  # else a second router would share the port without a word
            ("grpc.http2.min_ping_interval_without_data_ms", int(500 * KEEPALIVE_S)),  # else workers "ping too much"
        )
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=workers + _SPARE_CALLS)
        method = grpc.stream_stream_rpc_method_handler(self._join)  # without serializers, messages are bytes
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(METHOD_SERVICE, {METHOD: method}),))
        try:
            if self._tls is None:
                port = server.add_insecure_port(str(self._address))
            else:
                port = server.add_secure_port(str(self._address), self._tls.of_server())
        except RuntimeError as error:
            problem, hint = "can't be listened on for workers", "another live.remote.listen; port 0 is any free one"
            raise ServingError(str(self._address), problem, "", hint) from error
        at = Address(self._address.host, port)
        await server.start()
        try:
            self._tell(f"Waiting for {workers} workers at {at}.")
            with self._placed(at, workers, partial(self._fail_soon, asyncio.get_running_loop())):
                try:
                    yield self._places
                finally:
                    self._places = ()
                    await server.stop(_END_S)  # workers are told before they are ended
        finally:
            await server.stop(0)

    async def _join(self, _messages: object, context: Any) -> None:
        """Serve the call of one process, from its first word to its end."""
        try:
            async with asyncio.timeout(_HELLO_S):
                first = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "says nothing")
            return
        peer, hello = context.peer(), dict[str, Any]()
        try:
            hello = _hello(first)
        except FrameError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        who = f"{hello.get('host')}, process {hello.get('pid')}, {peer}"
        if differences := self._differences(hello):
            self._refused += 1
            if self._refused <= _MOST_REFUSED:
                self._tell(f"A worker was refused ({who}): {differences}.")
            await context.write(json_frame(FrameKind.DISMISSED, {"reason": differences, "again": False}))
            return
        place = next((place for place in self._places if place.is_free), None)
        if place is None:
            reason = f"all {len(self._places)} places are taken"
            await context.write(json_frame(FrameKind.DISMISSED, {"reason": reason, "again": True}))
            return
        self._tell(f"A worker joined ({who}).")
        await place.hold(context, hello.get("pid"))

    def _fail_soon(self, loop: asyncio.AbstractEventLoop, error: SsimError) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the run with it
            loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: SsimError) -> None:
        """Give up a worker that did not come, and tell why."""
        place = next((place for place in self._places if place.is_waiting), None)
        if place is not None:
            place.fail(error)

    def _differences(self, hello: Mapping[str, Any]) -> str:
        """Return in what a process differs from what is required; "" if in nothing."""
        found = []
        for name, value in {"protocol": VERSION, **self._required}.items():
            if hello.get(name) != value:
                found.append(f"{name} is {str(hello.get(name, 'not said'))[:200]} there and {value} here")
        return "; ".join(found)


def _hello(first: object) -> dict[str, Any]:
    """Return what a process says of itself.

    Raises:
        FrameError: It says something else.
    """
    if not isinstance(first, bytes) or len(first) > _LONGEST_HELLO:
        raise FrameError("not a greeting")
    frames = FrameReader().feed(first)
    if [kind for kind, _ in frames] != [FrameKind.HELLO]:
        raise FrameError("not a greeting")
    return content_of(frames[0][1])
