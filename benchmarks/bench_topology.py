"""Topologies: how fast a description becomes workers, and how fast their messages go in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.jobs import QUICK, rounds
from topology.deployment import Dataset
from topology.engines.sim import SimEngine
from topology.expansion import expand
from topology.program import Program
from topology.steps import Loop, Steps
from topology.tag import Channel, Role, Tag

if TYPE_CHECKING:
    from topology.io import IO

ROUNDS = 2
GOLDEN = 0.618034
"""Its multiples are spread over an interval evenly, and are all different: no stream of random numbers is needed."""


def _size(number: int) -> int:
    return number // 100 if QUICK else number


@pytest.mark.parametrize(("workers", "groups"), [(1_000, 10), (100_000, 1_000), (1_000_000, 10_000)])
def bench_expand(benchmark: Any, workers: int, groups: int) -> None:
    """A hierarchical topology is expanded, its datasets in any order."""
    workers, groups = _size(workers), max(1, _size(groups))
    names = tuple(f"g{number}" for number in range(groups))
    roles = (Role("trainer", data=True), Role("middle"), Role("top"))
    tag = Tag(roles, (Channel("param", ("trainer", "middle"), names), Channel("global", ("middle", "top"))))
    datasets = [Dataset(f"d{(7919 * k) % workers:07d}", "trainer", names[k % groups]) for k in range(workers)]
    benchmark.extra_info |= {"what": f"{workers:,} datasets in {groups:,} groups", "unit": "workers", "count": workers}
    plan = benchmark.pedantic(expand, (tag, datasets), rounds=rounds(5))
    assert len(plan) == workers + groups + 1


@dataclass
class Client(Program):
    """Takes a number and sends one; computes for a second, or for a time that no other client takes."""

    steps = Steps(Loop("fetch", "train", "upload", until="last"))
    function_tags = ("fetch", "upload")
    receives_first = ("fetch",)

    own_time: bool = False
    last: bool = field(default=False, init=False)

    async def fetch(self, io: IO) -> None:
        """Take a number, and whether it is the last."""
        self.number, self.last = (await io["fetch"].recv()).value

    async def train(self, io: IO) -> None:
        """Let time pass."""
        number = int(io.worker.id.partition("/")[2])
        await io.compute(seconds=1.0 + (number * GOLDEN) % 1.0 if self.own_time else 1.0)

    async def upload(self, io: IO) -> None:
        """Send a number."""
        await io["upload"].send(self.number + 1)


@dataclass
class Server(Program):
    """Sends a number to all and takes one from each, so many rounds."""

    steps = Steps(Loop("distribute", "aggregate", until="last"))
    function_tags = ("distribute", "aggregate")

    number: int = field(default=0, init=False)

    async def distribute(self, io: IO) -> None:
        """Send the number to all."""
        self.number += 1
        await io["distribute"].broadcast((self.number, self.last))

    async def aggregate(self, io: IO) -> None:
        """Take one from each."""
        self.came = len(await io["aggregate"].gather())

    @property
    def last(self) -> bool:
        """Whether this is the last round."""
        return self.number == ROUNDS

    def result(self) -> int:
        """Return how many came in the last round."""
        return self.came


@pytest.mark.parametrize("clients", [1_000, 10_000, 131_072])
@pytest.mark.parametrize("when", ["at one instant", "each at its own"])
def bench_messages(benchmark: Any, clients: int, when: str) -> None:
    """Clients fetch, let time pass and upload, from the plan to the report."""
    clients = _size(clients)
    tag = Tag((Role("client", data=True), Role("server")), (Channel("param", ("client", "server")),))
    plan = expand(tag, [Dataset(f"d{number}", "client") for number in range(clients)])
    programs = {"client": lambda: Client(when == "each at its own"), "server": Server}
    report = benchmark.pedantic(SimEngine().run, (plan, programs), rounds=rounds(3))
    assert report.results["server/0"] == clients
    benchmark.extra_info |= {"what": f"{clients:,} clients, {when}", "unit": "messages", "count": 2 * ROUNDS * clients}
