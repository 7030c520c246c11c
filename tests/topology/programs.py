"""Programs that learn nothing: they take the weighted mean of what workers hold, in many ways, or answer requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from topology.program import Break, Program
from topology.steps import Loop, Par, Steps

if TYPE_CHECKING:
    import numpy.typing as npt

    from topology.io import IO

    Vector = npt.NDArray[np.float64]


def held(io: IO, length: int) -> Vector:
    """What a worker holds: the same on all engines."""
    return np.random.default_rng(abs(hash_of(io.worker.dataset.id if io.worker.dataset else io.worker.id))).normal(
        size=length
    )


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode(), "big") % 2**32


@dataclass
class Holder(Program):
    """Gets the mean, works on it, and sends what it holds."""

    steps = Steps("load", Loop("fetch", "work", "upload", until="last"))
    function_tags = ("fetch", "upload")
    receives_first = ("fetch",)

    length: int = 3
    work_s: float = 1.0
    last: bool = field(default=False, init=False)

    def load(self, io: IO) -> None:
        self.own = held(io, self.length)
        self.size = io.worker.dataset.size if io.worker.dataset else 1

    async def fetch(self, io: IO) -> None:
        self.mean, self.last = (await io["fetch"].recv()).value

    async def work(self, io: IO) -> None:
        await io.compute(seconds=self.work_s)

    async def upload(self, io: IO) -> None:
        await io["upload"].send((self.own, self.size))

    def result(self) -> Any:
        return self.mean


@dataclass
class Inverted(Holder):
    """Sends minus what it holds."""

    steps = Holder.steps.after("load", "invert")
    work_s: float = 0.01

    def invert(self, io: IO) -> None:
        self.own = -self.own


@dataclass
class Top(Program):
    """Sends the mean to all and takes theirs, some rounds long."""

    steps = Steps("begin", Loop("distribute", "aggregate", until="last"))
    function_tags = ("distribute", "aggregate")

    rounds: int = 2
    timeout_s: float | None = None

    def begin(self, io: IO) -> None:
        self.mean: Vector = np.zeros(1)
        self.size = 0
        self.round = 0

    @property
    def last(self) -> bool:
        return self.round == self.rounds

    async def distribute(self, io: IO) -> None:
        self.round += 1
        await io["distribute"].broadcast((self.mean, self.last))

    async def aggregate(self, io: IO) -> None:
        asked = io["aggregate"].peers()
        got = await io["aggregate"].gather(asked, timeout_s=self.timeout_s)
        if len(got) < len(asked):
            io.log("missing", of=len(asked), came=len(got))
        if got:
            self.size = sum(message.value[1] for message in got.values())
            self.mean = sum((m.value[0] * m.value[1] for m in got.values()), np.zeros(1)) / self.size

    def result(self) -> Any:
        return self.mean


@dataclass
class Middle(Top):
    """Between top and holders: it forwards the mean and the sum of weights."""

    steps = Top.steps.before("distribute", "fetch").after("aggregate", "upload")
    function_tags = (*Top.function_tags, "fetch", "upload")
    receives_first = ("fetch",)
    last = False  # type: ignore[assignment]  # here it is an attribute

    async def fetch(self, io: IO) -> None:
        self.mean, self.last = (await io["fetch"].recv()).value  # type: ignore[misc]

    async def distribute(self, io: IO) -> None:
        await io["distribute"].broadcast((self.mean, self.last))

    async def upload(self, io: IO) -> None:
        await io["upload"].send((self.mean, self.size))


@dataclass
class Ring(Program):
    """All-reduce in a ring: n - 1 steps that add, n - 1 steps that pass the sums on (Patarasuk and Yuan 2009)."""

    steps = Steps("load", "scatter", "collect")
    function_tags = ("ring",)

    length: int = 3

    def load(self, io: IO) -> None:
        size = io.worker.dataset.size if io.worker.dataset else 1
        ring = sorted([io.worker.id, *io["ring"].peers()], key=lambda id_: int(id_.partition("/")[2]))
        self.n, self.rank = len(ring), ring.index(io.worker.id)
        self.right, self.left = ring[(self.rank + 1) % self.n], ring[self.rank - 1]
        self.parts = np.array_split(np.append(held(io, self.length) * size, size), self.n)

    async def scatter(self, io: IO) -> None:
        for step in range(self.n - 1):
            mine, theirs = (self.rank - step) % self.n, (self.rank - step - 1) % self.n
            await io["ring"].send(self.parts[mine], to=self.right)
            self.parts[theirs] = (await io["ring"].recv(self.left)).value + self.parts[theirs]

    async def collect(self, io: IO) -> None:
        for step in range(self.n - 1):
            mine, theirs = (self.rank + 1 - step) % self.n, (self.rank - step) % self.n
            await io["ring"].send(self.parts[mine], to=self.right)
            self.parts[theirs] = (await io["ring"].recv(self.left)).value

    def result(self) -> Any:
        whole = np.concatenate(self.parts)
        return whole[:-1] / whole[-1]


@dataclass
class RingHolder(Ring):
    """A ring within each group, and one upload for it."""

    steps = Ring.steps.before("load", "fetch").after("collect", "upload")
    function_tags = ("ring", "fetch", "upload")
    receives_first = ("fetch",)

    async def fetch(self, io: IO) -> None:
        await io["fetch"].recv()

    async def upload(self, io: IO) -> None:
        if self.rank == 0:
            whole = np.concatenate(self.parts)
            await io["upload"].send((whole[:-1] / whole[-1], float(whole[-1])))


@dataclass
class RingTop(Top):
    rounds: int = 1
    groups: int = 2

    async def aggregate(self, io: IO) -> None:
        got = await io["aggregate"].gather(k=self.groups)
        self.size = sum(message.value[1] for message in got.values())
        self.mean = sum((m.value[0] * m.value[1] for m in got.values()), np.zeros(1)) / self.size


@dataclass
class Gossip(Program):
    """Each averages with its two neighbours in a ring, in rounds; sending and receiving at the same time."""

    steps = Steps("load", Loop(Par("say", "hear"), "mix", until="over"))
    function_tags = ("gossip",)

    length: int = 3
    rounds: int = 5

    def load(self, io: IO) -> None:
        ring = sorted([io.worker.id, *io["gossip"].peers()], key=lambda id_: int(id_.partition("/")[2]))
        rank = ring.index(io.worker.id)
        self.neighbours = sorted({ring[rank - 1], ring[(rank + 1) % len(ring)]} - {io.worker.id})
        self.own, self.round = held(io, self.length), 0

    async def say(self, io: IO) -> None:
        await io["gossip"].broadcast(self.own, to=self.neighbours)

    async def hear(self, io: IO) -> None:
        self.heard = await io["gossip"].gather(self.neighbours)

    def mix(self, io: IO) -> None:
        self.own = (self.own + sum((m.value for m in self.heard.values()), np.zeros(1))) / (1 + len(self.heard))
        self.round += 1

    def over(self, io: IO) -> bool:
        return self.round == self.rounds

    def result(self) -> Any:
        return self.own


@dataclass
class Client(Program):
    """Asks at random times, so many times."""

    steps = Steps("ask", "listen")
    function_tags = ("ask",)

    rate: float = 1.0
    requests: int = 100

    async def ask(self, io: IO) -> None:
        for gap in io.rng.exponential(1 / self.rate, self.requests).tolist():
            await io.sleep(gap)
            await io["ask"].send(io.now_ns)

    async def listen(self, io: IO) -> None:
        self.answers = 0
        while self.answers < self.requests:
            await io["ask"].recv()
            self.answers += 1

    def result(self) -> Any:
        return self.answers


class Router(Program):
    """Hands each request to the server that its selector chooses, and answers back."""

    steps = Steps(Par("forward", "answer"))
    function_tags = ("ingest", "dispatch")

    async def forward(self, io: IO) -> None:
        async for request in io["ingest"]:
            (server,) = io["dispatch"].choose()
            note = io["dispatch"].peer_stats.setdefault(server, {"load": 0})
            note["load"] += 1
            await io["dispatch"].send((request.sender, request.value), to=server)
        await io["dispatch"].broadcast(None)

    async def answer(self, io: IO) -> None:
        async for done in io["dispatch"]:
            client, value = done.value
            io["dispatch"].peer_stats[done.sender]["load"] -= 1
            if client in io["ingest"].peers():
                await io["ingest"].send(value, to=client, size_bytes=0)


@dataclass
class Server(Program):
    """Serves one request after the other; keeps how long each waited, in nanoseconds."""

    steps = Steps(Loop("serve", until="never"))
    function_tags = ("serve",)

    mean_s: float = 0.5
    law: str = "exponential"
    never: bool = field(default=False, init=False)
    waits: list[tuple[int, int, int]] = field(default_factory=list, init=False)

    async def serve(self, io: IO) -> None:
        request = await io["serve"].recv()
        if request.value is None:
            raise Break
        seconds = io.rng.exponential(self.mean_s) if self.law == "exponential" else self.mean_s
        arrived_ns, start_ns = request.arrived_ns, io.now_ns
        await io.compute(seconds=seconds)
        self.waits.append((arrived_ns, start_ns, io.now_ns))
        await io["serve"].send(request.value, size_bytes=0)

    def result(self) -> Any:
        return np.array(self.waits)
