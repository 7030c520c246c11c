"""Whoever leaves or dies, and at whatever instant: who is left goes on, and an error names the dead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

import numpy as np  # noqa: E402 - after torch is known to be there

from sim.base.errors import DeadlineError  # noqa: E402
from tests.federated.quadratic import NAMES, job_of, run, shipped  # noqa: E402
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
