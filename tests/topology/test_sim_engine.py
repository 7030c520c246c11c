"""Virtual time: what links, machines and mishaps cost, to the nanosecond."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sim.base.errors import ClosedError, DeadlineError, ProgramError, SpecError
from tests.topology import cases
from tests.topology.programs import Holder, Top
from topology.deployment import Dataset, InjectedFault, Machine
from topology.engines.sim import SimEngine
from topology.expansion import expand
from topology.message import size_of
from topology.program import Program
from topology.steps import Loop, Steps
from topology.tag import Channel, Link, Role, Tag

if TYPE_CHECKING:
    from topology.report import RunReport

S = 1_000_000_000
KB = 1000  # bytes; at 8 Mbit/s a kilobyte takes a millisecond
MS = 1_000_000


@dataclass
class Talker(Program):
    """Sends so many messages of a kilobyte at once."""

    steps = Steps("talk")
    function_tags = ("talk",)

    messages: int = 3

    async def talk(self, io: Any) -> None:
        for number in range(self.messages):
            await io["talk"].broadcast(number, size_bytes=KB)


@dataclass
class Listener(Program):
    """Keeps what came when."""

    steps = Steps("listen")
    function_tags = ("talk",)

    async def listen(self, io: Any) -> None:
        self.heard = [(m.sender, m.value, m.arrived_ns) async for m in io["talk"]]

    def result(self) -> Any:
        return self.heard


def talk(
    link: Link | None = None,
    computes: tuple[Machine, ...] = (),
    talkers: int = 1,
    messages: int = 3,
    listeners: int = 1,
    **fault: Any,
) -> RunReport:
    roles = (
        Role("a", replicas=talkers, compute="here" if computes else "default"),
        Role("b", replicas=listeners, compute="there" if computes else "default"),
    )
    tag = Tag(roles, (Channel("c", ("a", "b"), link=link or Link()),))
    machines = computes or ()
    programs: dict[str, Any] = {"a": partial(Talker, messages), "b": Listener}
    faults = [InjectedFault(**fault)] if fault else []
    return SimEngine(record=True).run(expand(tag, machines=machines), programs, faults=faults)


def times(report: RunReport, listener: str = "b/0") -> list[float]:
    return [arrived / MS for _, _, arrived in report.results[listener]]


def test_without_limits_messages_arrive_at_once() -> None:
    assert times(talk()) == [0, 0, 0]


def test_latency_does_not_queue_and_bandwidth_does() -> None:
    assert times(talk(Link(latency_ms=5))) == [5, 5, 5]
    assert times(talk(Link(latency_ms=5, bandwidth_mbps=8))) == [6, 7, 8]


def test_each_sender_has_a_line_of_its_own_into_a_channel() -> None:
    assert times(talk(Link(bandwidth_mbps=8), talkers=2)) == [1, 1, 2, 2, 3, 3]


def test_roles_may_have_lines_of_their_own() -> None:
    assert times(talk(Link(bandwidth_mbps={"a": 4.0, "b": 8.0}))) == [2, 4, 6]
    assert times(talk(Link(bandwidth_mbps={"b": 8.0}))) == [0, 0, 0]
    with pytest.raises(SpecError, match=r"Link.bandwidth_mbps: is out of range \(0.0\)"):
        Link(bandwidth_mbps={"a": 0.0})


def test_the_line_of_a_machine_is_shared_by_its_workers() -> None:
    here, there = Machine("here", up_mbps=8), Machine("there")
    assert times(talk(computes=(here, there), talkers=2)) == [1, 2, 3, 4, 5, 6]


def test_what_comes_in_queues_too_and_the_slowest_line_counts() -> None:
    here, there = Machine("here"), Machine("there", down_mbps=8)
    assert times(talk(computes=(here, there), talkers=2)) == [1, 2, 3, 4, 5, 6]
    slow = Link(bandwidth_mbps=8, latency_ms=10)
    assert times(talk(slow, (Machine("here", up_mbps=16), Machine("there", down_mbps=32)))) == [11, 12, 13]


def test_a_line_that_is_idle_is_free_for_who_comes_first() -> None:
    """A message that is still on its way does not hold up another that is there."""
    tag = Tag(
        (Role("a"), Role("b", compute="there"), Role("d")),
        (
            Channel("slow", ("a", "b"), verbs={"b": ("talk",)}, link=Link(latency_ms=100)),
            Channel("fast", ("b", "d"), verbs={"b": ("hear",)}),
        ),
    )

    class Both(Program):
        steps = Steps("listen")
        function_tags = ("talk", "hear")

        async def listen(self, io: Any) -> None:
            self.heard = [(await io["hear"].recv()).arrived_ns, (await io["talk"].recv()).arrived_ns]

        def result(self) -> Any:
            return self.heard

    plan = expand(tag, machines=[Machine("there", down_mbps=8)])
    one = partial(Talker, 1)
    assert SimEngine().run(plan, {"a": one, "b": Both, "d": one}).results["b/0"] == [1 * MS, 101 * MS]


def test_lost_messages_are_counted_and_the_same_for_the_same_seed() -> None:
    report = talk(Link(loss=0.3), messages=1000)
    lost = report.traffic["c"].lost
    assert 230 < lost < 370
    assert len(report.results["b/0"]) == 1000 - lost
    assert report.fingerprint() == talk(Link(loss=0.3), messages=1000).fingerprint()


def test_what_is_on_its_way_arrives_before_the_news_of_an_end() -> None:
    report = talk(Link(latency_ms=50, bandwidth_mbps=8), messages=4)
    assert [value for _, value, _ in report.results["b/0"]] == [0, 1, 2, 3]
    assert report.end_ns == 54 * MS


def test_who_comes_late_misses_what_was_said_before() -> None:
    report = talk(Link(latency_ms=5), listeners=2, worker="b/1", join_s=1)
    assert times(report) == [5, 5, 5]
    assert report.results["b/1"] == []
    assert report.traffic["c"].messages == 3  # to those that are there


def test_what_is_sent_to_the_dead_is_lost() -> None:
    report = talk(Link(latency_ms=5), listeners=2, worker="b/1", die_s=0.001)
    assert report.traffic["c"] == type(report.traffic["c"])(messages=6, bytes=6 * KB, lost=3)
    assert report.ended == {"b/1": "died"}


@dataclass
class Worker(Program):
    """Works twice, two seconds each."""

    steps = Steps("work", "work")

    async def work(self, io: Any) -> None:
        self.value = await io.compute(sum, [1, 2], seconds=2.0)
        self.now_ns = io.now_ns

    def result(self) -> Any:
        return self.value, self.now_ns / S


@pytest.mark.parametrize(
    ("compute", "fault", "ends"),
    [
        (Machine("default"), None, [4, 4, 4]),
        (Machine("default", speed=2), None, [2, 2, 2]),
        (Machine("default", slots=1), None, [8, 10, 12]),
        (Machine("default", slots=2), None, [4, 6, 6]),
        (Machine("default"), InjectedFault("w/1", slow=3), [4, 12, 4]),
        (Machine("default"), InjectedFault("w/1", slow=3, slow_from_s=1), [4, 8, 4]),
        (Machine("default"), InjectedFault("w/1", slow=3, slow_until_s=1), [4, 8, 4]),
        (Machine("default"), InjectedFault("w/1", join_s=7), [4, 11, 4]),
    ],
)
def test_steps_take_their_time(compute: Machine, fault: InjectedFault | None, ends: list[float]) -> None:
    plan = expand(Tag((Role("hub"), Role("w", replicas=3)), (Channel("c", ("hub", "w")),)), machines=[compute])
    report = SimEngine().run(plan, {"hub": Program, "w": Worker}, faults=[fault] if fault else [])
    assert [report.results[f"w/{k}"] for k in range(3)] == [(3, end) for end in ends]


def test_without_a_cost_the_time_that_it_takes_counts() -> None:
    @dataclass
    class Real(Program):
        steps = Steps("work")

        async def work(self, io: Any) -> None:
            await io.compute(sum, range(200_000))
            self.now_ns = io.now_ns

        def result(self) -> Any:
            return self.now_ns

    assert SimEngine().run(expand(Tag((Role("a"),))), {"a": Real}).results["a/0"] > 100_000


class Asking(Program):
    """A program of one step, which a test gives it."""

    steps = Steps("ask")
    function_tags = ("talk",)

    async def ask(self, io: Any) -> None:
        raise NotImplementedError

    def result(self) -> Any:
        return getattr(self, "got", None)


def ask(step: Any, talkers: int = 2, messages: int = 3, link: Link | None = None, **more: Any) -> Any:
    tag = Tag((Role("a", replicas=talkers), Role("b")), (Channel("c", ("a", "b"), link=link or Link(latency_ms=5)),))
    asking = type("Asking", (Asking,), {"ask": step})
    programs: dict[str, Any] = {"a": partial(Talker, messages), "b": asking}
    return SimEngine(default_timeout_s=10).run(expand(tag), programs, **more).results["b/0"]


def test_messages_of_others_stay_where_they_are() -> None:
    async def step(self: Any, io: Any) -> None:
        one = await io["talk"].recv("a/1")
        two = await io["talk"].recv()
        peeked = io["talk"].peek()
        three = await io["talk"].recv()
        self.got = [(m.sender, m.value) for m in (one, two, three)], peeked is three

    assert ask(step) == ([("a/1", 0), ("a/0", 0), ("a/0", 1)], True)


def test_a_deadline_that_passes_is_an_error_or_a_part_of_what_was_asked_for() -> None:
    async def step(self: Any, io: Any) -> None:
        with pytest.raises(DeadlineError, match=r"no message within 0\.004 s"):
            await io["talk"].recv(timeout_s=0.004)
        nothing = await io["talk"].gather(timeout_s=0.0005)
        some = await io["talk"].gather(timeout_s=0.002)
        self.got = list(nothing), list(some), io.now_ns

    assert ask(step) == ([], ["a/0", "a/1"], 5 * MS)


def test_what_comes_at_the_deadline_comes_in_time() -> None:
    async def step(self: Any, io: Any) -> None:
        one = await io["talk"].recv(timeout_s=0.005)
        await io.sleep(0.001)
        with pytest.raises(DeadlineError):
            await io["talk"].recv("a/1", timeout_s=0.003999999)
        self.got = one.arrived_ns, (await io["talk"].recv("a/1", timeout_s=1e-9)).arrived_ns

    class Twice(Talker):
        async def talk(self, io: Any) -> None:
            if io.worker.id == "a/1":
                await io.sleep(0.005)
            await super().talk(io)

    tag = Tag((Role("a", replicas=2), Role("b")), (Channel("c", ("a", "b"), link=Link(latency_ms=5)),))
    programs: dict[str, Any] = {"a": partial(Twice, 1), "b": type("Asking", (Asking,), {"ask": step})}
    assert SimEngine().run(expand(tag), programs).results["b/0"] == (5 * MS, 10 * MS)


def test_so_does_what_is_sent_at_the_deadline_and_takes_no_time() -> None:
    async def step(self: Any, io: Any) -> None:
        self.got = (await io["talk"].recv(timeout_s=0.005)).value, list(await io["talk"].gather(["a/1"], timeout_s=0))

    class Late(Talker):
        async def talk(self, io: Any) -> None:
            await io.sleep(0.005)
            await super().talk(io)

    tag = Tag((Role("a", replicas=2), Role("b")), (Channel("c", ("a", "b")),))
    programs: dict[str, Any] = {"a": partial(Late, 1), "b": type("Asking", (Asking,), {"ask": step})}
    assert SimEngine().run(expand(tag), programs).results["b/0"] == (0, ["a/1"])


def test_nobody_waits_for_who_has_left_in_the_middle() -> None:
    plan = expand(cases.classical(), cases.data(default=3))
    programs: dict[str, Any] = {"trainer": Holder, "aggregator": lambda: Top(rounds=2)}
    faults = [InjectedFault("trainer/0", slow=5, leave_s=3), InjectedFault("trainer/1", slow=2)]
    report = SimEngine().run(plan, programs, faults=faults)
    assert report.end_s == 3 + 2
    assert report.traffic["param"].messages == (3 + 2) + (2 + 2)


def test_the_newest_message_stands_for_those_before_it() -> None:
    async def step(self: Any, io: Any) -> None:
        newest = await io["talk"].newest(timeout_s=1)
        self.got = newest.value, io["talk"].peek()
        with pytest.raises(ClosedError):
            await io["talk"].newest()

    assert ask(step, talkers=1) == (2, None)


def test_waits_share_a_deadline() -> None:
    async def step(self: Any, io: Any) -> None:
        deadline = io.deadline(0.008)
        await io["talk"].recv("a/0", timeout_s=deadline.left_s)
        left_s = deadline.left_s
        await io.sleep(0.01)
        self.got = left_s, deadline.left_s, io.deadline(None).left_s

    assert ask(step) == (0.003, 0.0, None)


def test_gathering_takes_one_of_each_in_the_order_asked_for() -> None:
    async def step(self: Any, io: Any) -> None:
        got = await io["talk"].gather(["a/2", "a/0"])
        enough = await io["talk"].gather(k=2)
        rest = [(m.sender, m.value) async for m in io["talk"]]
        self.got = [(id_, m.value) for id_, m in got.items()], len(enough), len(rest)

    assert ask(step, talkers=3) == ([("a/2", 0), ("a/0", 0)], 2, 3 * 3 - 2 - 2)


def test_a_stream_comes_in_the_order_of_arrival() -> None:
    async def step(self: Any, io: Any) -> None:
        first = [m.sender async for m in io["talk"].stream(["a/1", "a/0"])]
        two = [m.sender async for m in io["talk"].stream(k=1)]
        late = [m.sender async for m in io["talk"].stream(["a/0"], timeout_s=3)]
        none = [m.sender async for m in io["talk"].stream(timeout_s=3)]
        self.got = first, two, late, none

    assert ask(step, messages=2) == (["a/0", "a/1"], ["a/0"], [], ["a/1"])


def test_a_long_stream_takes_no_longer_a_message() -> None:
    def streamed(talkers: int) -> float:
        async def step(self: Any, io: Any) -> None:
            self.got = len([m async for m in io["talk"].stream()])

        tag = Tag((Role("a", replicas=talkers, compute="m"), Role("b")), (Channel("c", ("a", "b")),))
        programs: dict[str, Any] = {"a": partial(Talker, 1), "b": type("Asking", (Asking,), {"ask": step})}
        plan = expand(tag, machines=[Machine("m", up_mbps=8)])  # one after the other
        start = time.perf_counter()
        assert SimEngine().run(plan, programs).results["b/0"] == talkers
        return time.perf_counter() - start

    streamed(10)
    assert streamed(16_000) < 60 * streamed(1600)  # ten times as many; the square of it would be a hundred


def test_arrays_of_one_sender_do_not_meet() -> None:
    async def step(self: Any, io: Any) -> None:
        await io.sleep(1)
        last = await io["talk"].gather(["a/1"])
        first = await io["talk"].recv("a/0")
        self.got = last["a/1"].value.sum(), first.value.sum()

    class Arrays(Talker):
        async def talk(self, io: Any) -> None:
            for number in range(3):
                await io["talk"].send(np.full(4, number + 10 * int(io.worker.id[-1])))

    tag = Tag((Role("a", replicas=2), Role("b")), (Channel("c", ("a", "b")),))
    programs: dict[str, Any] = {"a": Arrays, "b": type("Asking", (Asking,), {"ask": step})}
    assert SimEngine().run(expand(tag), programs).results["b/0"] == (40, 0)


def test_nobody_left_is_an_error_and_the_end_of_a_loop() -> None:
    async def step(self: Any, io: Any) -> None:
        _ = [m async for m in io["talk"]]
        with pytest.raises(ClosedError, match="every possible sender has ended"):
            await io["talk"].recv()
        with pytest.raises(ClosedError, match="every possible sender has ended"):
            await io["talk"].recv("a/0")
        with pytest.raises(ClosedError, match="all peers have ended"):
            await io["talk"].send(1)
        assert [m async for m in io["talk"].stream(["a/0", "a/1"])] == []
        self.got = io["talk"].closed, io["talk"].peers(), await io["talk"].gather(), await io["talk"].join()

    assert ask(step) == (True, (), {}, ())


def test_who_is_left_alone_among_its_like_knows_it() -> None:
    class Alone(Asking):
        async def ask(self, io: Any) -> None:
            if io.worker.id != "a/0":
                return
            with pytest.raises(ClosedError):
                await io["talk"].recv()
            self.got = io["talk"].closed, io.now_ns

    tag = Tag((Role("a", replicas=3),), (Channel("c", ("a", "a")),))
    assert SimEngine().run(expand(tag), {"a": Alone}).results["a/0"] == (True, 0)


def test_a_time_of_its_own_may_be_longer_than_patience() -> None:
    async def step(self: Any, io: Any) -> None:
        self.got = (await io["talk"].recv(timeout_s=60)).arrived_ns

    assert ask(step, link=Link(latency_ms=30_000)) == 30 * S


def test_one_waits_for_a_crowd() -> None:
    async def step(self: Any, io: Any) -> None:
        early = io["talk"].peers()
        both = await io["talk"].join(2)
        self.got = early, both, io.now_ns, await io["talk"].join(3, timeout_s=1)

    got = ask(step, messages=0, faults=[InjectedFault("a/0", join_s=1)])
    assert got[0] in {("a/1",), ()}
    assert got[2] == 1 * S


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda io: io["talk"].send(1), "there must be exactly one peer"),
        (lambda io: io["talk"].send(1, to="a/7"), r"unknown peer \('a/7'\)"),
        (lambda io: io["talk"].send(1, to="b/0"), r"unknown peer \('b/0'\)"),
        (lambda io: io["talk"].recv("a/7"), r"unknown peer \('a/7'\)"),
        (lambda io: io["talk"].gather(["a/0", "b/0"]), r"unknown peer \('b/0'\)"),
        (lambda io: io["talk"].send(object(), to="a/0"), "the size of the value is unknown"),
        (lambda io: io["tlak"].recv(), r"unknown function tag or channel \('tlak'\); did you mean 'talk'"),
    ],
)
def test_wrong_use_of_a_port_is_told(step: Any, message: str) -> None:
    async def ask_(_: Any, io: Any) -> None:
        await step(io)

    with pytest.raises(ProgramError, match=message):
        ask(ask_, faults=[InjectedFault("a/0", join_s=0), InjectedFault("a/1", slow=2)])


def test_a_program_that_waits_for_the_dead_is_given_up_after_as_long_as_it_waited() -> None:
    class Forever(Program):
        steps = Steps(Loop("sleep", until="never"))
        never = False

        async def sleep(self, io: Any) -> None:
            await io.sleep(1)

    roles = (Role("a", replicas=2), Role("b"), Role("c"))
    tag = Tag(roles, (Channel("talk", ("a", "b")), Channel("other", ("b", "c"), verbs={"c": ()})))

    class Waiting(Program):
        steps = Steps("begin", "wait")

        async def begin(self, io: Any) -> None:
            await io.sleep(3)

        async def wait(self, io: Any) -> None:
            await io["talk"].recv()

    with pytest.raises(DeadlineError, match=r"b/0, step wait, channel talk: no message within 10 s \(from a/0, a/1\)"):
        SimEngine(default_timeout_s=10).run(expand(tag), {"a": Forever, "b": Waiting, "c": Forever})


def test_a_loop_without_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spinning(Program):
        steps = Steps(Loop("spin", until="never"))
        never = False

        async def spin(self, io: Any) -> None:
            await io.sleep(0)

    monkeypatch.setattr("topology.engines.sim._MOST_TURNS", 1000)
    with pytest.raises(ProgramError, match=r"loop without advancing time \(0 s\)"):
        SimEngine().run(expand(Tag((Role("a"),))), {"a": Spinning})


def test_the_size_of_what_is_sent() -> None:
    @dataclass
    class Update:
        delta: Any
        name: str

    assert size_of(np.zeros((3, 2), np.float32)) == 24
    assert size_of([Update(np.zeros(2), "ab"), 1, True, None, b"xyz", {"k": (1.0,)}]) == 16 + 2 + 8 * 3 + 3 + 8
    with pytest.raises(TypeError, match="object"):
        size_of([object()])


def test_spans_say_who_waits_for_whom() -> None:
    tag = Tag((Role("trainer", data=True), Role("aggregator")), cases.classical().channels)
    plan = expand(tag, [Dataset("d", "trainer"), Dataset("e", "trainer")])
    report = SimEngine(record=True).run(plan, {"trainer": Holder, "aggregator": lambda: Top(rounds=1)})
    spent = {(span.worker, span.kind): (span.start_ns, span.end_ns) for span in report.spans}
    assert spent["trainer/0", "compute"] == spent["aggregator/0", "wait"] == (0, S)
    assert sum(span.kind == "message" for span in report.spans) == report.traffic["param"].messages == 4
