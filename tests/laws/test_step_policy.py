"""Policies with a memory and a step function: the same outcomes by both engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import Cluster, Dispatch, Outcome, Trace, simulate
from sim.base.errors import PolicyError, SpecError
from sim.compiled.step_policy import DROP, HOLD, StepPolicy
from sim.engines import choose, replay
from sim.tables.files import load_table
from tests.laws.cases import Case, cases
from tests.laws.naive_engine import NaiveEngine
from tests.policies.engines import assert_same

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim import LatencyTable, View
    from sim.engines import Engine

pytest.importorskip("numba", reason="the compiled engine needs the extra [fast]")

from sim.compiled.replay import replay_compiled, replay_stream


@dataclass
class Mixed(StepPolicy):
    """Decides by all that it sees and by all that it has seen, so that a wrong look shows in the run."""

    salt: int = 0

    def memory(self, table: LatencyTable, dispatch_ns: int) -> npt.NDArray[np.float64]:
        return np.array([self.salt, len(table.subnets), table.max_batch, dispatch_ns], dtype=np.float64)

    @staticmethod
    def step(
        memory: npt.NDArray[np.float64],
        now_ns: int,
        slack_ns: int,
        queue_length: int,
        arrived: int,
        latency_ns: npt.NDArray[np.int64],
    ) -> tuple[int, int]:
        memory[0] = (memory[0] * 31 + now_ns * 7 + max(0, slack_ns) * 5 + queue_length * 3 + arrived) % 1009
        mixed = int(memory[0]) + int(memory[3]) + latency_ns[0, 1]
        if mixed % 7 == 3 and slack_ns > 0:
            return HOLD, mixed % slack_ns
        if mixed % 11 == 5:
            return DROP, 1 + mixed % queue_length
        return mixed % int(memory[1]), 1 + (mixed // 7) % int(memory[2])


@settings(max_examples=200, deadline=None)
@given(cases(), st.integers(0, 1000))
def test_both_engines_step_alike(case: Case, salt: int) -> None:
    policy = Mixed(salt)
    expected = simulate(case.trace, case.cluster, case.table, policy)
    assert_same(replay_compiled(case.trace, case.cluster, case.table, policy), expected)
    naive = NaiveEngine(case.trace, case.cluster, case.table, policy).run()
    assert expected.outcome.tolist() == [int(outcome) for outcome in naive.outcome]


@settings(max_examples=120, deadline=None)
@given(cases(), st.integers(0, 1000), st.data())
def test_a_stream_in_pieces_steps_as_the_whole(case: Case, salt: int, data: st.DataObject) -> None:
    slo_ns = data.draw(st.integers(1, 40))
    trace = Trace(case.trace.arrival_ns, slo_ns, case.trace.duration_ns)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(trace)), max_size=12)))
    pieces = np.split(trace.arrival_ns, cuts)
    stream = replay_stream(pieces, slo_ns, trace.duration_ns, case.cluster, case.table, Mixed(salt))
    whole = simulate(trace, case.cluster, case.table, Mixed(salt))
    assert [stream.count(outcome) for outcome in Outcome] == [whole.count(outcome) for outcome in Outcome]
    assert stream.met_by_subnet.tolist() == whole.met_by_subnet.tolist()


@dataclass
class Odd(Mixed):
    """Does what the salt says, once the run is under way."""

    @staticmethod
    def step(
        memory: npt.NDArray[np.float64],
        now_ns: int,
        slack_ns: int,
        queue_length: int,
        arrived: int,
        latency_ns: npt.NDArray[np.int64],
    ) -> tuple[int, int]:
        if memory[0] == 1 and now_ns + slack_ns + queue_length + arrived > 0:
            raise ValueError
        if memory[0] == 2:
            return len(latency_ns), 1
        if memory[0] == 6:
            memory[4] = 1  # has four
        if memory[0] == 7:
            return 0, latency_ns[0, latency_ns.shape[1]]
        if memory[0] == 3:
            return 0, 0
        if memory[0] == 4:
            return 0, latency_ns.shape[1]
        return -1, 1


@pytest.mark.parametrize("salt", [1, 2, 3, 4, 5])
def test_what_a_step_must_not_do_is_the_same_error_in_both_engines(salt: int, small: Any) -> None:
    said = []
    for engine in ("simpy", "compiled"):
        with pytest.raises(PolicyError) as error:
            replay(*small, Odd(salt), engine=engine)
        place, _, _ = error.value.value.partition("; slack")  # the compiled engine does not know the situation
        said.append((error.value.problem, place))
    assert said[0] == said[1]


@pytest.mark.parametrize("salt", [6, 7])
@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_step_that_looks_outside_of_an_array_is_told_by_both_engines(salt: int, engine: Engine, small: Any) -> None:
    with pytest.raises(PolicyError, match="raised IndexError"):
        replay(*small, Odd(salt), engine=engine)


@dataclass
class Uncompilable(Mixed):
    @staticmethod
    def step(memory: Any, *_: Any) -> Any:
        return {"subnet": open("/dev/null")}, memory  # noqa: PTH123


def test_a_step_that_numba_does_not_know_runs_in_simpy_or_is_told(small: Any) -> None:
    _, cluster, table = small
    choice = choose(10**9, cluster, table, Uncompilable(), "auto")
    assert (choice.engine, choice.rule) == ("simpy", None)
    assert "Uncompilable.step: can't be compiled" in choice.reason
    with pytest.raises(SpecError, match="can't be compiled"):
        choose(10**9, cluster, table, Uncompilable(), "compiled")


@dataclass
class Halved(Mixed):
    """Its batch is no whole number, which the SimPy engine does not take either."""

    @staticmethod
    def step(_memory: Any, _now: int, _slack: int, queue_length: int, _arrived: int, _latency: Any) -> Any:
        return 0, queue_length / 2


@dataclass
class Silent(Mixed):
    @staticmethod
    def step(_memory: Any, _now: int, _slack: int, _queue_length: int, _arrived: int, _latency: Any) -> Any:
        return None


@pytest.mark.parametrize("kind", [Halved, Silent])
def test_a_step_that_returns_no_whole_numbers_is_never_cut_to_such(kind: type[Mixed], small: Any) -> None:
    trace, cluster, table = small
    with pytest.raises(SpecError, match="must be two integers"):
        choose(10**9, cluster, table, kind(), "compiled")
    with pytest.raises(PolicyError):
        replay(trace, cluster, table, kind(), engine="auto")


def test_a_step_is_why_the_compiled_engine_runs(small: Any) -> None:
    trace, cluster, table = small
    assert choose(10**9, cluster, table, Mixed(), "auto").reason == "the policy has a step function"
    result, choice = replay(trace, cluster, table, Mixed(3), engine="compiled")
    assert choice.engine == "compiled"
    assert_same(result, replay(trace, cluster, table, Mixed(3), engine="simpy")[0])


@pytest.fixture
def small() -> Any:
    arrivals = np.arange(50, dtype=np.int64) * 2_000_000
    return Trace(arrivals, 36_000_000, 10**8), Cluster(2), load_table("ofa-resnet50-rtx2080ti")


def test_a_policy_object_begins_each_run_anew(small: Any) -> None:
    policy = Mixed(5)
    assert_same(simulate(*small, policy), simulate(*small, policy))


@dataclass
class Averaging(Mixed):
    """Begins with whole numbers and goes on with others; gives out the same array for each run."""

    def __post_init__(self) -> None:
        self.begin = np.array([0, self.salt])

    def memory(self, table: LatencyTable, dispatch_ns: int) -> npt.NDArray[np.float64]:
        return self.begin

    @staticmethod
    def step(
        memory: npt.NDArray[np.float64],
        now_ns: int,
        slack_ns: int,
        queue_length: int,
        arrived: int,
        latency_ns: npt.NDArray[np.int64],
    ) -> tuple[int, int]:
        memory[0] = 0.75 * memory[0] + 0.25 * ((now_ns + slack_ns + queue_length + arrived) % 7)
        return int(memory[0] * 8) % len(latency_ns), 1


def test_a_memory_is_of_floats_and_of_one_run_in_both_engines(small: Any) -> None:
    policy = Averaging()
    first = simulate(*small, policy)
    assert_same(replay_compiled(*small, policy), first)
    assert_same(simulate(*small, policy), first)
    assert policy.begin.tolist() == [0, 0]


@dataclass
class Forgetful(Mixed):
    def memory(self, table: LatencyTable, dispatch_ns: int) -> npt.NDArray[np.float64]:
        return np.zeros((2, 2)) if self.salt else np.array(["x"])  # type: ignore[return-value]


@pytest.mark.parametrize("salt", [0, 1])
def test_a_memory_that_is_none_is_the_same_error_in_both_engines(small: Any, salt: int) -> None:
    said = []
    for engine in ("simpy", "compiled"):
        with pytest.raises(PolicyError, match="raised ValueError") as error:
            replay(*small, Forgetful(salt), engine=engine)
        said.append(error.value.problem)
    assert said[0] == said[1]


@dataclass
class Otherwise(Mixed):
    """Has a step function, and decides without it."""

    def decide(self, view: View) -> Dispatch:
        return Dispatch(0, 1)


def test_who_decides_otherwise_than_by_the_step_is_not_compiled_by_it(small: Any) -> None:
    choice = choose(10**9, *small[1:], Otherwise(), "auto")
    assert choice.engine == "simpy"
    assert "may have state" in choice.reason


@dataclass(frozen=True)
class FrozenMixed(Mixed.__base__):  # type: ignore[name-defined,misc]
    salt: int = 0
    memory = Mixed.memory
    step = staticmethod(Mixed.step)


def test_a_frozen_one_runs_in_both(small: Any) -> None:
    policy = FrozenMixed(3)
    assert_same(replay(*small, policy, engine="compiled")[0], replay(*small, policy, engine="simpy")[0])
