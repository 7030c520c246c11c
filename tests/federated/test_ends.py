"""Whoever leaves or dies, and at whatever instant: who is left goes on, and an error names the dead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

import numpy as np  # noqa: E402 - after torch is known to be there

from federated.context import TrainingContext  # noqa: E402
from federated.costs import CostModel  # noqa: E402
from federated.job import FederatedJob  # noqa: E402
from federated.partition import Iid  # noqa: E402
from sim.base.errors import DeadlineError  # noqa: E402
from supernet.data.digits import Digits  # noqa: E402
from supernet.families import CnnSmall  # noqa: E402
from tests.federated.quadratic import NAMES, far, job_of, run, shipped  # noqa: E402
from topology.deployment import InjectedFault  # noqa: E402
from topology.engines.sim import SimEngine  # noqa: E402
from topology.expansion import expand  # noqa: E402
from topology.tag import Tag  # noqa: E402

ROUNDS = 4
NEEDED = {"aggregator", "coordinator"}
"""Without its only worker, nobody can go on."""


def with_timeouts(name: str) -> Any:
    """A shipped topology whose programs give up dead peers: inner ones sooner than outer ones."""
    plan, owners = shipped(name)
    seconds = {"trainer": 1.0, "middle": 1.0, "aggregator": 5.0}
    roles = []
    for role in plan.tag.roles:
        timed = role.name in seconds and "timeout_s" in owners[role.name].__dataclass_fields__
        roles.append(replace(role, config={**role.config, **({"timeout_s": seconds[role.name]} if timed else {})}))
    datasets = [worker.dataset for worker in plan.workers if worker.dataset is not None]
    return expand(Tag(tuple(roles), plan.tag.channels), datasets)


def outcome(plan: Any, owners: Any, fault: InjectedFault) -> tuple[Any, str]:
    """The report of a run, or None and why there is none."""
    try:
        return run(plan, owners, job_of(plan, ROUNDS), SimEngine(default_timeout_s=3600), faults=[fault]), ""
    except DeadlineError as error:
        return None, str(error)


def check_ends(name: str, numbers: range) -> None:
    """Draw who ends, how and when; all rounds are completed unless nobody can go on."""
    plain, owners = shipped(name)
    timed, end_s = with_timeouts(name), run(plain, owners, job_of(plain, ROUNDS)).end_s
    for number in numbers:
        chance = np.random.default_rng([NAMES.index(name), number])
        roles = sorted(owners)
        role = roles[number % len(roles)]
        worker = f"{role}/{int(chance.integers(len(plain.roles[role])))}"
        how, at_s = ("leave_s", "die_s")[number // len(roles) % 2], 1.05 * end_s * chance.random()
        plan = timed if how == "die_s" else plain
        fault = InjectedFault(worker, **{how: at_s})
        report, error = outcome(plan, owners, fault)
        if report is None:
            assert role in NEEDED, (fault, error)
            assert f"{worker}, which died at" in error, fault
            continue
        done = max(memory.get("round", 0) for memory in report.results.values()) if report.results else 0
        alone = role in NEEDED and len(plain.roles[role]) == 1
        assert done == ROUNDS or alone, fault


@pytest.mark.parametrize("name", NAMES)
def test_who_is_left_goes_on(name: str) -> None:
    check_ends(name, range(8))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_who_is_left_goes_on_at_any_of_many_instants(name: str) -> None:
    check_ends(name, range(8, 208))


def check_several(name: str, numbers: range) -> None:
    """Draw up to three trainers that join late, leave, or both; all rounds are completed and reported, each once."""
    plan, owners = shipped(name)
    end_s = run(plan, owners, job_of(plan, ROUNDS)).end_s
    trainers = [worker.id for worker in plan.workers if worker.dataset is not None]
    for number in numbers:
        chance = np.random.default_rng([NAMES.index(name), number, 3])
        faults = []
        for worker in chance.choice(trainers, int(chance.integers(1, 4)), replace=False):
            how, (join_s, leave_s) = chance.choice(["join", "leave", "both"]), sorted(1.2 * end_s * chance.random(2))
            ends = {} if how == "join" else {"leave_s": float(leave_s)}
            faults.append(InjectedFault(str(worker), join_s=0.0 if how == "leave" else float(join_s), **ends))
        report = run(plan, owners, job_of(plan, ROUNDS), SimEngine(default_timeout_s=3600), faults=faults)
        done = max(memory.get("round", 0) for memory in report.results.values())
        reported = [entry.fields["round"] for entry in report.log if entry.kind in {"round", "completed"}]
        assert (done, sorted(set(reported))) == (ROUNDS, list(range(1, ROUNDS + 1))), faults
        rounds = [entry.fields["round"] for entry in report.log if entry.kind == "round"]
        if name not in {"parallel", "cyclic"}:
            assert len(rounds) == len(set(rounds)), faults
        if name in {"distributed", "swarm"} and not any(fault.leave_s for fault in faults):
            states = [memory["state"] for memory in report.results.values()]
            assert all(far(state, states[0]) == 0 for state in states), faults


@pytest.mark.parametrize("name", NAMES)
def test_trainers_come_and_go(name: str) -> None:
    check_several(name, range(8))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_trainers_come_and_go_at_any_of_many_instants(name: str) -> None:
    check_several(name, range(8, 208))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_real_network_is_trained_whoever_comes_and_goes(name: str) -> None:
    """One trainer joins late and another one leaves, at ten pairs of instants drawn at random."""
    plan, owners = shipped(name)
    datasets = [worker.dataset for worker in plan.workers if worker.dataset is not None]
    context = TrainingContext(Digits(train=200), Iid(), CnnSmall(width=4, hidden=16), datasets, 7)
    job = FederatedJob(context, CostModel(context), ROUNDS, evaluated=(context.space.largest.id,))
    torch.set_num_threads(1)
    end_s = run(plan, owners, job).end_s
    trainers = [worker.id for worker in plan.workers if worker.dataset is not None]
    for number in range(10):
        chance = np.random.default_rng([NAMES.index(name), number, 4])
        late, gone = chance.choice(trainers, 2, replace=False)
        faults = [InjectedFault(str(late), join_s=end_s * chance.random() / 2)]
        faults.append(InjectedFault(str(gone), leave_s=end_s * chance.random()))
        report = run(plan, owners, job, SimEngine(default_timeout_s=3600), faults=faults)
        assert max(memory.get("round", 0) for memory in report.results.values()) == ROUNDS
        measured = [entry.fields["accuracy"] for entry in report.log if entry.kind == "round"]
        assert any(measured)
        for memory in report.results.values():
            assert all(torch.isfinite(part).all() for part in memory.get("state", {}).values())


def test_a_round_is_reported_though_who_was_to_do_it_dies() -> None:
    plan, owners = shipped("distributed")
    job = job_of(plan, ROUNDS)
    end_s = run(plan, owners, job).end_s
    for share in (0.1, 0.3, 0.6):
        timed = with_timeouts("distributed")
        report = run(timed, owners, job, faults=[InjectedFault("trainer/0", die_s=share * end_s)])
        reported = {entry.fields["round"] for entry in report.log if entry.kind in {"round", "completed"}}
        assert reported == set(range(1, ROUNDS + 1))
        assert {entry.worker for entry in report.log if entry.kind == "round"} >= {"trainer/1"}


@pytest.mark.parametrize("name", NAMES)
def test_without_timeouts_the_error_names_the_dead_and_who_waited_for_it_first(name: str) -> None:
    plan, owners = shipped(name)
    end_s = run(plan, owners, job_of(plan, ROUNDS)).end_s
    for number in range(4):
        chance = np.random.default_rng([NAMES.index(name), number])
        worker = plan.workers[int(chance.integers(len(plan)))].id
        fault = InjectedFault(worker, die_s=end_s * chance.random())
        report, error = outcome(plan, owners, fault)
        assert report is not None or f"from {worker}, which died at" in error, fault


def test_the_root_of_a_chain_is_told() -> None:
    """A trainer waits for its aggregator, which waits for the one at the top, which waits for another aggregator."""
    plan, owners = shipped("hierarchical")
    with pytest.raises(DeadlineError, match=r"^middle/1, step collect, channel param: .*from trainer/6, which died at"):
        run(plan, owners, job_of(plan, ROUNDS), faults=[InjectedFault("trainer/6", die_s=0.001)])
