"""A machine of a cluster that is lost in mid-run is a fault: the others go on, and what can begin anew does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

ray = pytest.importorskip("ray", reason="this engine needs the extra [ray]")

from sim.base.errors import SpecError  # noqa: E402 - after Ray is known to be there
from tests.ray_nodes import node, ray_cluster  # noqa: E402
from tests.topology import cases  # noqa: E402
from topology.engines.ray import RayEngine  # noqa: E402
from topology.expansion import expand  # noqa: E402
from topology.program import Break, Program  # noqa: E402
from topology.sites import DeploymentSite as Site  # noqa: E402
from topology.steps import Loop, Steps  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from topology.report import RunReport

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clusters")]

ROUNDS = 120


@dataclass
class Client(Program):
    """Answers each request with its number."""

    steps = Steps(Loop("fetch", "work", "upload", until="never"))
    function_tags = ("fetch", "upload")
    receives_first = ("fetch",)
    never = False

    async def fetch(self, io: Any) -> None:
        if (await io["fetch"].newest()).value is None:
            raise Break

    async def work(self, io: Any) -> None:
        await io.compute(time.sleep, 0.1)

    async def upload(self, io: Any) -> None:
        await io["upload"].send(int(io.worker.id.rpartition("/")[2]))


@dataclass
class Server(Program):
    """Asks all clients that are there, without a timeout of its own, and logs who answered."""

    steps = Steps(Loop("ask", "collect", until="finished"), "dismiss")
    function_tags = ("distribute", "aggregate")
    round = 0

    async def ask(self, io: Any) -> None:
        await io["distribute"].join(1)
        await io["distribute"].broadcast("work")

    async def collect(self, io: Any) -> None:
        answers = await io["aggregate"].gather()
        self.round += 1
        io.log("round", round=self.round, of=sorted(answers))

    async def dismiss(self, io: Any) -> None:
        await io["distribute"].broadcast(None)

    def finished(self, io: Any) -> bool:
        return self.round == ROUNDS

    def result(self) -> int:
        return self.round


PLAN = expand(cases.classical(), cases.data(default=4))
PROGRAMS = {"trainer": Client, "aggregator": Server}


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A cluster whose head is this machine; further nodes are added by `node`."""
    with ray_cluster(resources={"cloud": 1.0}) as cluster:
        yield cluster


def run(sites: tuple[Site, ...], kill: Callable[[], None]) -> RunReport:
    """Run with something that is done after the fifth round."""

    def watch(report: RunReport) -> None:
        if report.log[-1].kind == "round" and report.log[-1].fields["round"] == 5:
            kill()

    return RayEngine(sites=sites, default_timeout_s=100).run(PLAN, PROGRAMS, watch=watch)


def of_rounds(report: RunReport) -> list[list[str]]:
    rounds = [entry for entry in report.log if entry.kind == "round"]
    assert [entry.fields["round"] for entry in rounds] == list(range(1, ROUNDS + 1))
    return [entry.fields["of"] for entry in rounds]


def test_a_lost_machine_costs_its_workers_and_they_come_back_on_another(machines: Any) -> None:
    edge = {"labels": {"region": "edge"}}
    first = node(machines, **edge)

    def kill() -> None:
        machines.remove_node(first, allow_graceful=False)
        node(machines, **edge)

    cloud = Site("cloud", roles=("aggregator", "trainer"), resources={"cloud": 0.1})
    report = run((cloud, Site("edge", datasets=("default-2", "default-3"), labels=edge["labels"])), kill)
    everybody = [f"trainer/{n}" for n in range(4)]
    rounds = of_rounds(report)
    assert [rounds[0], rounds[-1]] == [everybody, everybody]
    assert everybody[:2] in rounds
    assert report.ended == {}
    assert sorted(report.results) == ["aggregator/0", *everybody]
    kinds = [(entry.worker, entry.kind) for entry in report.log if entry.kind != "round"]
    assert sorted(kinds) == [(id_, kind) for id_ in everybody[2:] for kind in ("joined", "lost")]


def test_who_can_be_nowhere_else_stays_lost(machines: Any) -> None:
    name = "only-one"
    only = node(machines, node_name=name)
    cloud = Site("cloud", roles=("aggregator", "trainer"), resources={"cloud": 0.1})
    sites = (cloud, Site("edge", datasets=("default-0",), node=name))
    report = run(sites, lambda: machines.remove_node(only, allow_graceful=False))
    assert of_rounds(report)[-1] == ["trainer/1", "trainer/2", "trainer/3"]
    assert report.ended == {"trainer/0": "lost"}


def test_without_the_server_nobody_goes_on(machines: Any) -> None:
    name = "with-server"
    only = node(machines, node_name=name)
    sites = (
        Site("cloud", roles=("aggregator",), node=name),
        Site("edge", roles=("trainer",), resources={"cloud": 0.1}),
    )
    report = run(sites, lambda: machines.remove_node(only, allow_graceful=False))
    assert report.ended == {"aggregator/0": "lost"} | {f"trainer/{n}": "closed" for n in range(4)}
    assert report.log[-1].kind in {"lost", "closed"}


@pytest.mark.usefixtures("machines")
def test_what_the_cluster_lacks_is_told_by_site() -> None:
    sites = [
        Site("cloud", roles=("aggregator",), node="nowhere"),
        Site("edge", roles=("trainer",), labels={"a": "b"}),
    ]
    with pytest.raises(SpecError, match=r"site cloud: no machine 'nowhere'; there are .*site edge: .* the labels a=b"):
        run(tuple(sites), lambda: None)
    sites = [Site("cloud", roles=("aggregator",)), Site("edge", roles=("trainer",), memory_gb=1e6)]
    with pytest.raises(SpecError, match=r"site edge: a process needs 1e\+06 GB of memory, and a machine has"):
        run(tuple(sites), lambda: None)
