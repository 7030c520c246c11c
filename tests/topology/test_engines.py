"""One program, three engines: the same results, the same messages, and never a hang, whoever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sim.base.errors import DeadlineError, ProgramError, SpecError
from tests.topology import cases
from tests.topology.programs import (
    Client,
    Gossip,
    Holder,
    Inverted,
    Middle,
    Ring,
    RingHolder,
    RingTop,
    Router,
    Server,
    Top,
)
from topology.deployment import InjectedFault
from topology.engines.local import LocalEngine
from topology.engines.sim import SimEngine
from topology.expansion import expand
from topology.flaws import TagError
from topology.program import Program
from topology.steps import Steps
from topology.tag import Channel, Role, Tag, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topology.engine import Engine
    from topology.plan import Plan
    from topology.report import RunReport

# One after the other with those of other files: they start Ray on a machine that may have two cores.
pytestmark = pytest.mark.xdist_group("clusters")

QUICK = partial(Holder, work_s=0.01)
TREE = {"trainer": QUICK, "mid": Middle, "top": Top}
GOSSIP = Tag((Role("trainer", data=True),), (Channel("gossip", ("trainer", "trainer")),))
SERVING = Tag(
    (Role("client", config={"rate": 200.0, "requests": 20}), Role("router"), Role("server", config={"mean_s": 0.001})),
    (
        Channel("req", ("client", "router"), verbs={"client": ("ask",), "router": ("ingest",)}),
        Channel("pool", ("router", "server"), verbs={"router": ("dispatch",)}),
    ),
)
JOBS: dict[str, tuple[Plan, dict[str, Any]]] = {
    "classical": (expand(cases.classical(), cases.data(default=3)), {"trainer": QUICK, "aggregator": Top}),
    "hierarchical": (expand(cases.hierarchical(("a", "b")), cases.data(a=2, b=1)), TREE),
    "distributed": (expand(cases.distributed(), cases.data(default=4)), {"trainer": Ring}),
    "hybrid": (
        expand(cases.hybrid_for_rings(), cases.data(us=2, eu=3)),
        {"trainer": RingHolder, "aggregator": RingTop},
    ),
    "parallel": (expand(cases.parallel(("a", "b")), cases.data(a=2, b=2)), {"trainer": QUICK, "aggregator": Top}),
    "variants": (
        expand(cases.classical(Variant(share=0.5)), cases.data(default=4)),
        {"trainer": QUICK, "trainer/other": Inverted, "aggregator": Top},
    ),
    "gossip": (expand(GOSSIP, cases.data(default=5)), {"trainer": Gossip}),
    "serving": (expand(SERVING), {"client": Client, "router": Router, "server": Server}),
}


def same(one: RunReport, other: RunReport) -> None:
    assert list(one.results) == list(other.results)
    for id_, value in one.results.items():
        if not id_.startswith("server"):  # what it keeps is times
            np.testing.assert_array_equal(value, other.results[id_])
    assert one.traffic == other.traffic


@pytest.fixture(scope="module")
def ray_engine() -> Iterator[Engine]:
    ray = pytest.importorskip("ray", reason="this engine needs the extra [ray]")
    from topology.engines.ray import RayEngine

    os.environ["RAY_AUTH_MODE"] = "disabled"
    handler = signal.getsignal(signal.SIGTERM)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    signal.signal(signal.SIGTERM, handler)
    yield RayEngine(actors=2, default_timeout_s=20)
    ray.shutdown()


@pytest.mark.parametrize("job", JOBS)
def test_virtual_and_real_time_agree(job: str) -> None:
    plan, programs = JOBS[job]
    same(SimEngine().run(plan, programs, seed=4), LocalEngine(default_timeout_s=20).run(plan, programs, seed=4))


@pytest.mark.parametrize("job", JOBS)
def test_actors_of_ray_agree(job: str, ray_engine: Engine) -> None:
    plan, programs = JOBS[job]
    same(SimEngine().run(plan, programs, seed=4), ray_engine.run(plan, programs, seed=4))


def dead(plan: Plan) -> str:
    """Somebody whom the others wait for."""
    return next(worker.id for worker in plan.workers if worker.role in {"trainer", "server"})


@pytest.mark.parametrize("job", JOBS)
def test_nobody_waits_for_ever_for_the_dead(job: str) -> None:
    plan, programs = JOBS[job]
    for engine in (SimEngine(default_timeout_s=5), LocalEngine(default_timeout_s=0.3)):
        start = time.monotonic()
        with pytest.raises(DeadlineError, match="no message within"):
            engine.run(plan, programs, faults=[InjectedFault(dead(plan), die_s=0.0)])
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("job", ["classical", "hierarchical", "hybrid"])
def test_nor_among_actors(job: str, ray_engine: Any) -> None:
    plan, programs = JOBS[job]
    engine = type(ray_engine)(actors=2, default_timeout_s=1)
    with pytest.raises(DeadlineError, match="no message within"):
        engine.run(plan, programs, faults=[InjectedFault(dead(plan), die_s=0.0)])


@pytest.mark.parametrize("how", ["die_s", "leave_s", "join_s"])
@pytest.mark.parametrize("virtual", [True, False])
def test_with_a_deadline_the_average_is_of_those_that_came(how: str, virtual: bool) -> None:
    plan, _ = JOBS["classical"]
    programs: dict[str, Any] = {
        "trainer": partial(Holder, work_s=0.02),
        "aggregator": lambda: Top(rounds=3, timeout_s=0.2),
    }
    engine = SimEngine(default_timeout_s=9) if virtual else LocalEngine(default_timeout_s=9)
    report = engine.run(plan, programs, faults=[InjectedFault("trainer/1", **{how: 0.03})])
    everybody = SimEngine().run(plan, programs).results["aggregator/0"]
    without = SimEngine().run(plan, programs, faults=[InjectedFault("trainer/1", leave_s=0)]).results["aggregator/0"]
    last = report.results["aggregator/0"]
    np.testing.assert_array_equal(last, everybody if how == "join_s" else without)
    assert [entry.kind for entry in report.log if entry.kind in {"joined", "died", "left"}] == [
        {"die_s": "died", "leave_s": "left", "join_s": "joined"}[how]
    ]
    assert any(entry.kind == "missing" for entry in report.log) == (how != "join_s")


def test_actors_bear_those_who_leave(ray_engine: Engine) -> None:
    plan, programs = JOBS["classical"]
    report = ray_engine.run(plan, programs, faults=[InjectedFault("trainer/1", leave_s=0.0)])
    assert report.ended == {"trainer/1": "left"}
    assert ("trainer/1", "left") in [(entry.worker, entry.kind) for entry in report.log]


class Failing(Program):
    steps = Steps("fail")
    function_tags = ("fetch", "upload")

    def fail(self, io: Any) -> None:
        raise KeyError("spoon")


def test_a_program_that_fails_is_named_by_all_engines(ray_engine: Engine) -> None:
    plan, _ = JOBS["classical"]
    for engine in (SimEngine(), LocalEngine(), ray_engine):
        with pytest.raises(
            ProgramError, match=r"trainer/\d, step fail: raised KeyError: 'spoon' \(test_engines\.py:\d+, in fail\)"
        ):
            engine.run(plan, {"trainer": Failing, "aggregator": Top})


class Crashing(Failing):
    def fail(self, io: Any) -> None:
        os._exit(1)


def test_the_workers_of_an_actor_that_is_lost_are_lost(ray_engine: Engine) -> None:
    plan, _ = JOBS["classical"]
    report = ray_engine.run(plan, {"trainer": Crashing, "aggregator": Top})
    assert report.ended == {worker.id: "lost" for worker in plan.workers}  # both actors have a trainer
    assert not report.results


def test_a_fault_of_nobody_and_two_of_one_are_told() -> None:
    plan, programs = JOBS["classical"]
    with pytest.raises(SpecError, match=r"unknown worker \('trainer/9'\); .*trainer/0 to trainer/2"):
        SimEngine().run(plan, programs, faults=[InjectedFault("trainer/9")])
    with pytest.raises(SpecError, match="duplicate worker"):
        SimEngine().run(plan, programs, faults=[InjectedFault("trainer/0"), InjectedFault("trainer/0")])
    with pytest.raises(SpecError, match="is before the worker joins"):
        InjectedFault("trainer/0", join_s=2, die_s=1)


def test_ray_says_what_it_has_too_little_of(ray_engine: Engine) -> None:
    roles = (Role("trainer", data=True, resources={"gpu": 0.5}), Role("aggregator"))
    plan = expand(Tag(roles, cases.classical().channels), cases.data(default=3))
    with pytest.raises(SpecError, match=r"lacks what the workers need \(.*gpu, and a machine has 0 gpu at most\)"):
        ray_engine.run(plan, {"trainer": QUICK, "aggregator": Top})


def test_letters_that_overtake_each_other_are_put_in_order() -> None:
    pytest.importorskip("ray", reason="this engine needs the extra [ray]")
    from topology.engines.ray_actor import ActorBatch, RunSettings, RuntimeActor

    class Runtime:
        started = True

        def __init__(self) -> None:
            self.got: list[Any] = []
            self.plan = self

        def deliver(self, message: Any) -> None:
            self.got.append(message)

    async def deliver_all(actor: RuntimeActor) -> None:
        await actor.meet(RunSettings(None, [], 1.0, record=False), [None, None], [0, 1])  # type: ignore[arg-type]  # not run
        for sender, restarts, own_restarts, number, letters in (
            (1, 1, 0, 2, [5]),
            (0, 0, 0, 0, [6]),
            (1, 0, 0, 0, ["of its former restarts"]),
            (1, 1, 1, 0, ["for another restarts"]),
            (1, 1, 0, 1, [3, 4]),
            (1, 1, 0, 0, [1, 2]),
        ):
            await actor.receive(ActorBatch(sender, restarts, own_restarts, number, letters))  # type: ignore[arg-type]  # numbers

    actor = RuntimeActor(0)
    actor._runtime = runtime = Runtime()  # type: ignore[assignment]
    asyncio.run(deliver_all(actor))
    assert runtime.got == [6, 1, 2, 3, 4, 5]


SLEEPY = """\
import signal
from tests.topology import cases
from tests.topology.programs import Holder, Top
from topology.engines.{engine} import {name}
from topology.expansion import expand

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
print("begun", flush=True)
{name}({terms}).run(
    expand(cases.classical(), cases.data(default=2)),
    {{"trainer": lambda: Holder(work_s={work}), "aggregator": lambda: Top(rounds={rounds})}},
)
"""


@contextmanager
def started(engine: str, name: str, terms: str, work: float, rounds: int) -> Iterator[subprocess.Popen[str]]:
    text = SLEEPY.format(engine=engine, name=name, terms=terms, work=work, rounds=rounds)
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen(
        [sys.executable, "-c", text],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("engine", "name", "terms", "work", "rounds"),
    [("sim", "SimEngine", "", 0.1, 10**9), ("local", "LocalEngine", "", 5.0, 10)],
)
def test_an_interruption_ends_a_run(engine: str, name: str, terms: str, work: float, rounds: int) -> None:
    with started(engine, name, terms, work, rounds) as process:
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) != 0
        assert process.stderr is not None
        assert "KeyboardInterrupt" in process.stderr.read()


def test_programs_that_do_not_fit_are_told_before_anything_runs() -> None:
    plan, programs = JOBS["classical"]
    with pytest.raises(TagError, match=r"roles.trainer: no program"):
        SimEngine().run(plan, {"aggregator": Top})
    with pytest.raises(
        TagError, match=r"channels.param.verbs.trainer.0: not a function tag of the program Top \('fetch'\)"
    ):
        SimEngine().run(plan, {**programs, "trainer": Top})
    with pytest.raises(TagError, match=r"roles.nobody: unknown role"):
        SimEngine().run(plan, {**programs, "nobody": Top})
