"""Clients that come and go again and again: nobody waits without end, and what they keep stays theirs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

import numpy as np  # noqa: E402 - after torch is known to be there

from federated.algorithms import FedAvg, Scaffold  # noqa: E402
from sim.base.errors import SpecError  # noqa: E402
from tests.federated.quadratic import NAMES, job_of, run, shipped  # noqa: E402
from tests.federated.test_checkpoints import checked  # noqa: E402
from topology.deployment import InjectedFault  # noqa: E402
from topology.engines.sim import SimEngine  # noqa: E402

ROUNDS = 4
REACTIVE = [name for name in NAMES if shipped(name)[1]["trainer"].receives_first]


def drawn(name: str, number: int) -> tuple[Any, Any, Any, list[InjectedFault]]:
    """A plan, its programs, a job, and sessions of some trainers, or of all."""
    chance = np.random.default_rng([NAMES.index(name), number, 5])
    plan, owners = shipped(name)
    end_s = run(plan, owners, job_of(plan, ROUNDS)).end_s
    trainers = [worker.id for worker in plan.workers if worker.dataset is not None]
    faults = []
    for worker in chance.choice(trainers, int(chance.integers(1, len(trainers) + 1)), replace=False):
        times = np.sort(end_s * chance.random(2 * int(chance.integers(1, 4)))).tolist()
        every_s = times[-1] + end_s * chance.random() / 4
        sessions = tuple(zip(times[::2], times[1::2], strict=True))
        faults.append(InjectedFault(str(worker), sessions=sessions, every_s=every_s))
    algorithm = Scaffold() if name == "classical" else FedAvg()
    return plan, owners, job_of(plan, ROUNDS, algorithm=algorithm), faults


def check(name: str, numbers: range) -> None:
    for number in numbers:
        plan, owners, job, faults = drawn(name, number)
        report = run(plan, owners, job, SimEngine(default_timeout_s=3600), faults=faults)
        done = max(memory.get("round", 0) for memory in report.results.values())
        assert done == ROUNDS, faults
        for fault in faults:  # it leaves after each coming, and comes back after each leaving
            kinds = [entry.kind for entry in report.log if entry.worker == fault.worker]
            moves = [kind for kind in kinds if kind in {"joined", "left"}]
            assert all(one != next_ for one, next_ in itertools.pairwise(moves)), fault


@pytest.mark.parametrize("name", REACTIVE)
def test_who_comes_and_goes_blocks_nobody(name: str) -> None:
    check(name, range(5))


@pytest.mark.slow
@pytest.mark.parametrize("name", REACTIVE)
def test_who_comes_and_goes_blocks_nobody_in_many_draws(name: str) -> None:
    check(name, range(5, 205))


@pytest.mark.parametrize("name", REACTIVE)
def test_a_training_with_sessions_can_be_stored_at_any_round(name: str) -> None:
    assert checked(name, 0, rests=(1,), draw=drawn) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", REACTIVE)
def test_a_training_with_sessions_can_be_stored_at_length(name: str) -> None:
    assert sum(checked(name, number, draw=drawn) for number in range(1, 20)) == 19


def test_a_session_that_ends_in_the_next_repetition_is_one() -> None:
    fault = InjectedFault("trainer/0", sessions=((0.0, 1.0), (3.0, 4.0), (6.0, 10.0)), every_s=10.0)
    assert [fault.session(n) for n in range(5)] == [(0, 1), (3, 4), (6, 11), (13, 14), (16, 21)]
    plain = InjectedFault("trainer/0", sessions=((0.0, 1.0), (3.0, 4.0)), every_s=10.0)
    assert [plain.session(n) for n in range(4)] == [(0, 1), (3, 4), (10, 11), (13, 14)]
    assert InjectedFault("trainer/0", sessions=((0.0, 1.0),)).session(1) is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"sessions": ((2.0, 1.0),)}, "sessions: not in order"),
        ({"sessions": ((0.0, 2.0), (2.0, 3.0))}, "sessions: not in order"),
        ({"sessions": ((-1.0, 2.0),)}, "sessions"),
        ({"sessions": ((0.0, math.inf),)}, "sessions"),
        ({"sessions": ((0.0, 2.0),), "every_s": 1.0}, "every_s: sessions overlap"),
        ({"sessions": ((0.0, 2.0),), "every_s": 2.0}, "every_s: sessions overlap"),
        ({"sessions": ((0.0, 2.0),), "join_s": 1.0}, "join_s: not used with sessions"),
        ({"sessions": ((0.0, 2.0),), "leave_s": 1.0}, "leave_s: not used with sessions"),
        ({"every_s": 1.0}, "every_s: not used without sessions"),
    ],
)
def test_sessions_that_make_no_sense_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        InjectedFault("trainer/0", **wrong)


def test_who_sends_before_it_receives_cannot_come_back() -> None:
    plan, owners = shipped("gossip")
    with pytest.raises(SpecError, match=r"trainer/0, sessions: .* can't come back"):
        run(plan, owners, job_of(plan), faults=[InjectedFault("trainer/0", sessions=((0.0, 1.0),))])
